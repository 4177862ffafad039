"""The agent at the other end of a connection: one message to it, its whole answer back.

`connect` gives a `Remote`, over SSH or on this machine. Either starts the same agent and speaks the same
messages, so nothing above this module asks where a host is.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from percore.deploy import program
from percore.deploy.address import Address
from percore.deploy.transport import Channel, open_channel
from percore.errors import (
    LockedError,
    PartialError,
    PercoreError,
    PreflightError,
    RolloutError,
    UnreachableError,
    UsageError,
)

LOG = logging.getLogger("percore.remote")

Event = dict[str, Any]
OnEvent = Callable[[Event], None]
Part = bytes | mmap.mmap

ALIVE_SECONDS = 1.0
"""How often we tell an agent that has nothing to do that we are still there."""

PIECE_BYTES = 1 << 18
TELL_SECONDS = 2.0


class Remote:
    """One host with its running agent. Made by `connect`; `facts` are what the agent said first."""

    def __init__(self, address: Address, channel: Channel) -> None:
        self.address = address
        self.host = address.host
        self._channel = channel
        self._lines = channel.lines()
        self._closed = threading.Event()
        self._is_lost = False  # nothing is to be heard from there any more
        self._asking = threading.Lock()
        if address.become and address.become_password:
            self._send(address.become_password.encode() + b"\n")
            is_there = self._greet()  # nothing more is sent to where a password may be asked for once more
            self._send(program.START)
        else:
            self._send(program.START)
            is_there = self._greet()
        if not is_there:
            self._send(program.packed())
        self.facts: dict[str, Any] = self._next()["facts"]
        self.clock_skew: float = self.facts["time"] - time.time()  # seconds; the line's way here is in it
        threading.Thread(target=self._keep_alive, daemon=True).start()

    def ask(
        self, op: str, *, parts: Mapping[str, Part] | None = None, on_event: OnEvent | None = None, **message: Any
    ) -> dict[str, Any]:
        """One message, its whole answer. Raises the error that the host reports, with the host's name in it."""
        with self._asking:
            line = json.dumps({"op": op, **message}).encode() + b"\n"
            began = time.monotonic()
            self._send(line)
            try:
                return self._answer(parts or {}, on_event)
            finally:
                LOG.info("%s: %s took %.3f s", self.host, op, time.monotonic() - began)
                LOG.debug("%s: %s was %d bytes", self.host, op, len(line))

    def _answer(self, parts: Mapping[str, Part], on_event: OnEvent | None) -> dict[str, Any]:
        while True:
            event = self._next()
            if event["event"] == "need":
                sending = _Sending(event, parts, on_event)
                LOG.debug("%s: %d parts are missing there, %d bytes", self.host, len(event["parts"]), sending.total)
                try:
                    for piece in sending.pieces():
                        self._channel.send(piece)
                except (OSError, EOFError) as error:
                    raise self._lost(str(error)) from None
            elif event["event"] == "result":
                if not event["ok"]:
                    raise remote_error(self.host, event["error"])
                return event
            elif on_event is not None and event["event"] != "alive":
                on_event(event)

    def _keep_alive(self) -> None:
        """An empty line now and then while nothing is asked: within a message it would be taken for its parts."""
        while not self._closed.wait(ALIVE_SECONDS):
            if self._asking.acquire(blocking=False):
                try:
                    self._channel.send(b"\n")
                except (OSError, EOFError):
                    return
                finally:
                    self._asking.release()

    def close(self, *, wait: bool = False) -> None:
        """Goodbye: the agent takes back what was not confirmed, frees the lock, and ends; `wait` for all that."""
        if not self._closed.is_set():
            self._closed.set()
            with contextlib.suppress(OSError, EOFError, ValueError):
                self._channel.send(b'{"op": "bye"}\n')
            with contextlib.suppress(OSError, EOFError):
                self._channel.finish(wait=wait and not self._is_lost)

    def _send(self, data: bytes) -> None:
        try:
            self._channel.send(data)
        except (OSError, EOFError) as error:
            raise self._lost(str(error)) from None

    def _greet(self) -> bool:
        """Wait for the loader; True when the agent's program is on the host."""
        line = self._read_line()
        while line not in (program.IS_THERE, program.IS_MISSING):  # what a login shell prints comes first
            if not line.endswith(b"\n"):
                raise self._lost(line.decode(errors="replace"))
            line = self._read_line()
        return line == program.IS_THERE

    def _next(self) -> Event:
        line = self._read_line()
        if not line.endswith(b"\n"):
            raise self._lost(line.decode(errors="replace"))
        try:
            event: Event = json.loads(line)
        except ValueError:
            raise self._lost(line.decode(errors="replace")) from None
        return event

    def _read_line(self) -> bytes:
        try:
            return next(self._lines, b"")
        except TimeoutError:
            raise self._lost("nothing was heard any more, the link is cut") from None
        except (OSError, EOFError, ValueError) as error:
            raise self._lost(str(error)) from None

    def _lost(self, said: str) -> PercoreError:
        self._is_lost = True
        complaint = (self._channel.complaint() or said).strip()
        last = complaint.splitlines()[-1] if complaint else "the connection was lost"
        if "incorrect password" in complaint or "no password was provided" in complaint:
            return UnreachableError(
                f"sudo does not take the password for user '{self.address.become_user}'", where=self.host,
                next="check ansible_become_password",
            )  # fmt: skip
        if "sudo" in complaint and "password" in complaint:
            return UnreachableError(
                "sudo asks for a password", where=self.host,
                next="set ansible_become_password (in a vault) or PERCORE_BECOME_PASSWORD, or allow NOPASSWD in sudoers",
            )  # fmt: skip
        if "not found" in complaint or "No such file" in complaint:
            return PreflightError(
                last, where=self.host, next="install python3 there, or set ansible_python_interpreter"
            )
        return UnreachableError(last, where=self.host, next="look at the host, then try again", detail=complaint)


class _Sending:
    """What a host asked for, piece by piece; how far it came is told now and then."""

    def __init__(self, need: Event, parts: Mapping[str, Part], on_event: OnEvent | None) -> None:
        offsets = need.get("offsets", {})
        self._parts = [(parts[sha256], offsets.get(sha256, 0)) for sha256 in need["parts"]]
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


def connect(address: Address, *, project: Path, package_path: str = "") -> Remote:
    """Reach a host and start its agent; UnreachableError or PreflightError in one line when that fails.

    `package_path` is where percore's own packages lie there.
    """
    channel = open_channel(address, program.loader_words(address.python, package_path), folder=project)
    try:
        return Remote(address, channel)
    except BaseException:
        with contextlib.suppress(OSError, EOFError):
            channel.finish(wait=False)
        raise


def remote_error(host: str, error: Mapping[str, Any]) -> PercoreError:
    """The host's error as the same class here, told apart by its exit code."""
    kinds: list[type[PercoreError]] = [
        UsageError, PreflightError, RolloutError, PartialError, LockedError, UnreachableError,
    ]  # fmt: skip
    kind = next((kind for kind in kinds if kind.exit_code == error["exit_code"]), PercoreError)
    where = f"{host}: {error['where']}" if error.get("where") else host
    return kind(
        error["what"], where=where, next=error.get("next", ""), detail=error.get("detail") or error.get("trace", "")
    )
