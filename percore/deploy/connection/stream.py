"""The stream to and from one agent: its lines, the limits of an answer, and the parts it asks for."""

from __future__ import annotations

import math
import mmap
import time
from collections.abc import Callable, Iterator
from typing import Any

from percore.deploy.connection import replies
from percore.deploy.connection.channel import Channel
from percore.deploy.connection.replies import WrongReply

Event = dict[str, Any]
OnEvent = Callable[[Event], None]
Part = bytes | mmap.mmap

SILENCE_SECONDS = 120.0
"""An agent sends a sign of life every few seconds. After so long without one it is gone."""

LONGEST_LINE = 8 << 20
LONGEST_REST = 10_000
PIECE_BYTES = 1 << 18
TELL_SECONDS = 2.0


class Lines:
    """The lines of a channel, none longer than the longest."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._read = bytearray()
        self._looked_at = 0

    def next(self, deadline: float) -> bytes:
        """A line with its end, or what is left without one. TimeoutError at the deadline, or when nothing is heard at all."""
        while (end := self._read.find(b"\n", self._looked_at)) < 0 and len(self._read) <= LONGEST_LINE:
            _require_time(deadline)
            self._looked_at = len(self._read)
            piece = self._channel.receive(min(deadline - time.monotonic(), SILENCE_SECONDS))
            if not piece:
                return self._take(len(self._read))
            self._read += piece
        if end < 0 or end > LONGEST_LINE:
            raise WrongReply(f"with a line of more than {LONGEST_LINE >> 20} MB")
        _require_time(deadline)  # also of a host that always has one more to say
        return self._take(end + 1)

    def rest(self) -> bytes:
        """What was read and is no whole line yet."""
        return bytes(self._read[-LONGEST_REST:])

    def _take(self, size: int) -> bytes:
        line = bytes(self._read[:size])
        del self._read[:size]
        self._looked_at = 0
        return line


def _require_time(deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise TimeoutError


class Listening:
    """Limits of one answer: how long it may take, and how much it may be."""

    def __init__(self, op: str) -> None:
        self._limits = replies.limits_of(op)
        self._ends = time.monotonic() + (self._limits.whole or math.inf)
        self._events = self._bytes = 0
        self.go_on()

    def go_on(self) -> None:
        """Something came, or was sent, that is more than a sign of life."""
        self.deadline = min(self._ends, time.monotonic() + (self._limits.idle or math.inf))

    def count(self, line: bytes) -> None:
        self._events += 1
        self._bytes += len(line)
        if not self._limits.streams and (self._events > replies.MOST_EVENTS or self._bytes > replies.MOST_BYTES):
            raise WrongReply(f"with more than {replies.MOST_EVENTS} lines or {replies.MOST_BYTES >> 20} MB")


class Sending:
    """What a host asked for, piece by piece, with progress now and then."""

    def __init__(self, need: Event, offered: dict[str, Part], on_event: OnEvent | None) -> None:
        self._parts = [_take_part(offered, sha256, need.get("offsets", {}).get(sha256, 0)) for sha256 in need["parts"]]
        self._on_event = on_event
        self.total = sum(len(part) - offset for part, offset in self._parts)

    def pieces(self) -> Iterator[bytes]:
        sent = 0
        told_at = time.monotonic()
        for part, offset in self._parts:
            for begin in range(offset, len(part), PIECE_BYTES):
                piece = part[begin : begin + PIECE_BYTES]
                yield piece
                sent += len(piece)
                if self._on_event and time.monotonic() - told_at > TELL_SECONDS:
                    told_at = time.monotonic()
                    self._on_event({"event": "sent", "bytes": sent, "total": self.total})


def _take_part(offered: dict[str, Part], sha256: str, offset: int) -> tuple[Part, int]:
    if sha256 not in offered:
        raise WrongReply("with the need of a part that was not offered, or was sent already")
    part = offered.pop(sha256)
    if offset > len(part):
        raise WrongReply("with the need of what lies behind the end of a part")
    return part, offset
