"""The agent at the other end of a connection: one message to it, its whole answer back.

`connect` gives a `Remote`, over SSH or on this machine. Either starts the same agent and speaks the same
messages, so nothing above this module asks where a host is.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from percore.deploy.connection import bootstrap, replies
from percore.deploy.connection.address import HostAddress
from percore.deploy.connection.agent_faults import explain_loss, explain_silence, remote_error
from percore.deploy.connection.channel import Channel
from percore.deploy.connection.replies import WrongReply
from percore.deploy.connection.signs_of_life import SIGNS_OF_LIFE
from percore.deploy.connection.stream import Event, Lines, Listening, OnEvent, Part, Sending
from percore.deploy.connection.transport import open_channel
from percore.errors import PercoreError, UnreachableError

LOG = logging.getLogger("percore.remote")

GREETING_SECONDS = 60.0
"""So long a host may take to start the agent and to tell its facts: what a login shell prints comes before."""


class Remote:
    """One host with its running agent. Made by `connect`; `facts` are the agent's first message."""

    def __init__(self, address: HostAddress, channel: Channel) -> None:
        self.address = address
        self.host = address.host
        self._channel = channel
        self._lines = Lines(channel)
        self._is_closed = False
        self._is_lost = False  # nothing is to be heard from there any more
        self._refused: PercoreError | None = (
            None  # why nothing is asked any more: a late answer would be taken for the next one
        )
        self._said_before = b""  # the last line before the greeting
        self._is_greeted = False
        self._is_told = False  # the facts: from now on it says that it lives
        self._asking = threading.Lock()
        deadline = time.monotonic() + GREETING_SECONDS
        if address.become and address.become_password:
            self._send(address.become_password.encode() + b"\n")
            is_there = self._greet(deadline)  # nothing more is sent to where a password may be asked for once more
            self._send(bootstrap.START)
        else:
            self._send(bootstrap.START)
            is_there = self._greet(deadline)
        if not is_there:
            self._send(bootstrap.packed())
        self.facts: dict[str, Any] = self._read_facts(deadline)
        self._is_told = True
        self.clock_skew: float = self.facts["time"] - time.time()  # seconds; the line's way here is in it
        SIGNS_OF_LIFE.add(self.say_alive)

    def ask(
        self, op: str, *, parts: Mapping[str, Part] | None = None, on_event: OnEvent | None = None, **message: Any
    ) -> dict[str, Any]:
        """One message, its whole answer. Raises the error that the host reports, with the host's name in it."""
        with self._asking:
            if self._refused is not None:
                raise self._refused
            line = json.dumps({"op": op, **message}).encode() + b"\n"
            began = time.monotonic()
            self._send(line)
            try:
                return self._answer(op, parts or {}, on_event)
            except WrongReply as wrong:
                raise self._refuse(f"its agent answered '{op}' {wrong}") from None
            except PercoreError:
                raise
            except BaseException:
                self._refused = UnreachableError(f"its answer to '{op}' was not read to its end", where=self.host)
                raise
            finally:
                LOG.info("%s: %s took %.3f s", self.host, op, time.monotonic() - began)
                LOG.debug("%s: %s was %d bytes", self.host, op, len(line))

    def say(self, **message: Any) -> None:
        """More for an operation that goes on and takes it, from another thread than the one that asks."""
        self._send(json.dumps(message).encode() + b"\n")

    def _answer(self, op: str, parts: Mapping[str, Part], on_event: OnEvent | None) -> dict[str, Any]:
        listening = Listening(op)
        offered = dict(parts)
        while True:
            event = self._next(listening)
            if event["event"] == "need":
                self._send_parts(replies.read_event(event), offered, on_event)
                listening.go_on()
            elif event["event"] == "result":
                result = replies.read_result(op, event)
                if not result["ok"]:
                    raise remote_error(self.host, result["error"])
                return result
            elif event["event"] != "alive":
                listening.go_on()
                event = replies.read_event(event)
                if on_event is not None:
                    on_event(event)

    def _send_parts(self, need: Event, offered: dict[str, Part], on_event: OnEvent | None) -> None:
        """Each part once, and none that was not offered."""
        sending = Sending(need, offered, on_event)
        LOG.debug("%s: %d parts are missing there, %d bytes", self.host, len(need["parts"]), sending.total)
        try:
            for piece in sending.pieces():
                self._send(piece)
        except OSError as error:
            raise self._lost(str(error)) from None

    def _read_facts(self, deadline: float) -> dict[str, Any]:
        try:
            event = replies.read_line(self._read_line(deadline))
            if event["event"] != "facts":
                raise WrongReply("with something else")
            facts: dict[str, Any] = replies.read_event(event)["facts"]
        except WrongReply as wrong:
            raise self._refuse(f"its agent answered 'facts' {wrong}") from None
        return facts

    def say_alive(self) -> bool:
        """An empty line while nothing is asked: within a message it would be taken for its parts."""
        if self._is_closed or self._refused is not None:
            return False
        if self._asking.acquire(blocking=False):
            try:
                self._channel.send_if_ready(b"\n")
            finally:
                self._asking.release()
        return True

    def close(self, *, wait: bool = False) -> None:
        """Goodbye: the agent rolls back what was not confirmed, frees the lock, and ends; `wait` for all that."""
        if not self._is_closed:
            self._is_closed = True
            SIGNS_OF_LIFE.remove(self.say_alive)
            with contextlib.suppress(OSError, EOFError, ValueError):
                self._channel.send(b'{"op": "bye"}\n')
            with contextlib.suppress(OSError, EOFError, ValueError):
                self._channel.finish(wait=wait and not self._is_lost)

    def _send(self, data: bytes) -> None:
        try:
            self._channel.send(data)
        except TimeoutError:
            raise self._lost("it takes nothing of what is sent") from None
        except (OSError, EOFError, ValueError) as error:
            raise self._lost(str(error)) from None

    def _greet(self, deadline: float) -> bool:
        """Wait for the loader; True when the agent's program is on the host."""
        line = self._read_line(deadline)
        while not line.endswith((bootstrap.IS_THERE, bootstrap.IS_MISSING)):  # what a login shell prints comes first
            self._said_before = line
            line = self._read_line(deadline)
        self._is_greeted = True
        return line.endswith(bootstrap.IS_THERE)

    def _next(self, listening: Listening) -> Event:
        line = self._read_line(listening.deadline)
        listening.count(line)
        return replies.read_line(line)

    def _read_line(self, deadline: float) -> bytes:
        """A whole line; an unfinished last one is why the host ended."""
        try:
            line = self._next_line(deadline)
        except TimeoutError:
            if not self._is_greeted:
                self._is_lost = True
                raise explain_silence(self.address, self._lines.rest() or self._said_before) from None
            if time.monotonic() >= deadline:
                raise WrongReply("with nothing that ends it within the time it has") from None
            raise self._lost("nothing was heard any more, the link is cut") from None
        except WrongReply:
            raise
        except (OSError, EOFError, ValueError) as error:
            raise self._lost(str(error)) from None
        if not line.endswith(b"\n"):
            said = line if line.strip() or self._is_greeted else self._said_before
            raise self._lost(said.decode(errors="replace"))
        return line

    def _next_line(self, deadline: float) -> bytes:
        """Before its facts no agent says that it lives: a host that is busy has all the time that there is for them."""
        while True:
            try:
                return self._lines.next(deadline)
            except TimeoutError:
                asks = not self._is_greeted and (self._said_before or self._lines.rest())
                if self._is_told or asks or time.monotonic() >= deadline:  # it listens, or the login shell does
                    raise

    def _refuse(self, what: str) -> PercoreError:
        """Nothing more from there is believed, and the agent is told to end: it rolls back what was not confirmed."""
        self._is_lost = True
        self._refused = UnreachableError(what, where=self.host, next="look at the host, then try again")
        self.close()
        return self._refused

    def _lost(self, said: str) -> PercoreError:
        self._is_lost = True
        self._refused = explain_loss(self.address, (self._channel.complaint() or said).strip())
        return self._refused


def connect(address: HostAddress, *, project: Path, package_path: str = "") -> Remote:
    """Reach a host and start its agent; UnreachableError or PreflightError in one line when that fails.

    `package_path` is where percore's own packages lie there.
    """
    channel = open_channel(address, bootstrap.loader_words(address.python, package_path), directory=project)
    try:
        return Remote(address, channel)
    except WrongReply as wrong:
        _end(channel)
        raise UnreachableError(
            f"its agent answered the greeting {wrong}", where=address.host, next="look at the host, then try again"
        ) from None
    except BaseException:
        _end(channel)
        raise


def _end(channel: Channel) -> None:
    with contextlib.suppress(OSError, EOFError, ValueError):
        channel.finish(wait=False)
