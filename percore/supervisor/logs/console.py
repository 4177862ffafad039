"""The workers' output on our own standard output and error, for `percore runtime`.

Plain lines need no help: a worker gets our descriptors themselves. Only where each line is to be marked, it writes into a pipe
that is read here. When our output is not read, the pipes are no longer read, so the workers wait, and the supervisor does not.
"""

from __future__ import annotations

import os
import select
import time
from functools import partial

from percore.common.typing import Callable, NamedTuple, Optional
from percore.supervisor.base.loop import Loop
from percore.supervisor.base.user import Identity
from percore.supervisor.config.app import AppConfig, Place
from percore.supervisor.logs.node_json import node_json

RAW, PREFIX, JSON, PAIRS = "raw", "prefix", "json", "pairs"
_LONGEST_LINE = 64 * 1024
_MOST_UNSENT = 1 << 20
# A pipe that reports room takes so much without waiting (pipe(7), PIPE_BUF).
_AT_ONCE = 4096
_LAST_SECONDS = 5.0


class StreamSource(NamedTuple):
    app: str
    id: int
    stream: str  # out or err
    target: int


class Relay:
    def __init__(self, loop: Loop, style: str, *, stamps: bool = False) -> None:
        self._loop = loop
        self._style = style
        self._stamps = stamps
        self._sinks = {number: Sink(loop, number, self._read_again) for number in (1, 2)}
        self._readers: dict[int, tuple[StreamSource, bytearray]] = {}
        self._is_held_up = False
        self.silent: set[str] = set()  # apps that asked for no logs

    def open_logs(self, config: AppConfig, place: Place, paths: tuple[str, str], user: Optional[Identity]) -> list[int]:
        """Standard output and error of a new process."""
        if config.name in self.silent:
            return [os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC) for _ in range(2)]
        if self._style == RAW and not self._stamps:
            return [os.dup(1), os.dup(2)]
        return [
            self._pipe(StreamSource(config.name, place.id, stream, target))
            for stream, target in (("out", 1), ("err", 2))
        ]

    def say(self, line: str) -> None:
        """A line of the supervisor itself, where it does not spoil what a program reads."""
        if self._style == JSON:
            text = node_json({"message": line, "timestamp": stamp(), "type": "supervisor"})
        else:
            text = f"{stamp()} {line}".encode(errors="replace")
        self._sinks[2].write(text + b"\n")

    def close(self) -> None:
        """What the dead workers left in their pipes, then what is not sent yet."""
        for descriptor in list(self._readers):
            while descriptor in self._readers and self._take(descriptor):
                pass
        for sink in self._sinks.values():
            sink.finish()

    # -- reading -----------------------------------------------------------------------------------------------------

    def _pipe(self, source: StreamSource) -> int:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)
        self._readers[reading] = source, bytearray()
        if not self._is_held_up:
            self._loop.watch(reading, partial(self._read, reading))
        return writing

    def _read(self, descriptor: int) -> None:
        self._take(descriptor)
        if any(sink.unsent_bytes > _MOST_UNSENT for sink in self._sinks.values()) and not self._is_held_up:
            self._is_held_up = True
            for reading in self._readers:
                self._loop.unwatch(reading)

    def _read_again(self) -> None:
        if self._is_held_up:
            self._is_held_up = False
            for reading in self._readers:
                self._loop.watch(reading, partial(self._read, reading))

    def _take(self, descriptor: int) -> bool:
        """Reads once; False when there was nothing more to read."""
        source, rest = self._readers[descriptor]
        try:
            part = os.read(descriptor, 65536)
        except BlockingIOError:
            return False
        rest += part
        if not part or len(rest) > _LONGEST_LINE:
            lines, kept = [*bytes(rest).split(b"\n")], b""
            if lines[-1] == b"":
                lines.pop()
        else:
            *lines, kept = bytes(rest).split(b"\n")
        rest[:] = kept
        if lines:
            self._sinks[source.target].write(b"".join(self._marked(source, line) for line in lines))
        if not part:
            self._loop.unwatch(descriptor)
            os.close(descriptor)
            del self._readers[descriptor]
        return bool(part)

    def _marked(self, source: StreamSource, line: bytes) -> bytes:
        if self._style == RAW or self._style == PREFIX:
            prefix = f"{stamp()} " if self._stamps else ""
            prefix += f"{source.id}|{source.app} | " if self._style == PREFIX else ""
            return prefix.encode() + line + b"\n"
        text = line.decode(errors="replace")
        if self._style == JSON:
            fields = {"message": text, "timestamp": stamp(), "type": source.stream, "process_id": source.id}
            return node_json({**fields, "app_name": source.app}) + b"\n"
        pairs = f"timestamp={stamp()} app={source.app} id={source.id} type={source.stream} message={text}"
        return pairs.encode(errors="replace") + b"\n"


class Sink:
    """One of our own descriptors. Never waits; calls `on_empty` when all is written."""

    def __init__(self, loop: Loop, descriptor: int, on_empty: Callable[[], None]) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._on_empty = on_empty
        self._unsent = bytearray()
        self._is_waiting = False
        self._is_gone = False

    @property
    def unsent_bytes(self) -> int:
        return len(self._unsent)

    def write(self, text: bytes) -> None:
        if not self._is_gone:
            self._unsent += text
        if not self._is_waiting:
            self._send()

    def finish(self) -> None:
        """Waits a little for the reader."""
        deadline = time.monotonic() + _LAST_SECONDS
        while self._unsent and time.monotonic() < deadline:
            select.select([], [self._descriptor], [], 0.1)
            self._send()

    def _send(self) -> None:
        try:
            sent = 0
            while sent < len(self._unsent) and self._has_room():
                sent += os.write(self._descriptor, self._unsent[sent : sent + _AT_ONCE])
            del self._unsent[:sent]
        except OSError:  # it will never be read
            self._is_gone = True
            self._unsent.clear()
        self._wait(bool(self._unsent))
        if not self._unsent:
            self._on_empty()

    def _has_room(self) -> bool:
        return bool(select.select([], [self._descriptor], [], 0)[1])

    def _wait(self, is_waiting: bool) -> None:
        if is_waiting == self._is_waiting:
            return
        self._is_waiting = is_waiting
        if is_waiting:
            self._loop.watch(self._descriptor, self._send, writable=True)
        else:
            self._loop.unwatch(self._descriptor)


def stamp() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
