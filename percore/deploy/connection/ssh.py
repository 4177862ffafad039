"""A program on a host over SSH."""

from __future__ import annotations

import contextlib
import math
import shlex
import time

from percore.deploy.connection.address import HostAddress
from percore.deploy.connection.channel import END_SECONDS, PIECE_BYTES, Complaints
from percore.deploy.connection.ssh_links import BUSY_SECONDS, WAKE_SECONDS, open_link


class SshChannel:
    """A program at the end of a connection."""

    def __init__(self, address: HostAddress, words: list[str]) -> None:
        self._link = open_link(address)
        self._channel = self._link.transport.open_session(timeout=BUSY_SECONDS)
        self._channel.settimeout(self._link.route.silence_seconds)
        self._channel.exec_command(shlex.join(words))
        self._errors = Complaints(self._channel.shutdown_write)

    def send(self, data: bytes) -> None:
        self._channel.settimeout(self._link.route.silence_seconds)
        self._channel.sendall(data)

    def send_if_ready(self, data: bytes) -> None:
        """Not when its window is full, new keys are negotiated, or the link takes nothing."""
        if self._channel.send_ready() and self._link.is_ready:
            self.send(data)

    def receive(self, seconds: float) -> bytes:
        """What counts is for how long it was listened: a machine that was asleep or busy heard nothing in that time.

        Between two looks it takes what standard error says, so that no thread waits for that.
        """
        deadline = time.monotonic() + seconds
        for _ in range(math.ceil(self._link.route.silence_seconds / WAKE_SECONDS)):
            self._listen()
            self._channel.settimeout(max(0.001, min(WAKE_SECONDS, deadline - time.monotonic())))
            with contextlib.suppress(TimeoutError):
                piece: bytes = self._channel.recv(PIECE_BYTES)
                return piece
            if time.monotonic() >= deadline:
                break
        raise TimeoutError

    def _listen(self) -> None:
        while self._channel.recv_stderr_ready():
            self._errors.add(self._channel.recv_stderr(PIECE_BYTES))

    def complaint(self) -> str:
        self._listen()
        return self._errors.text()

    def finish(self, *, wait: bool) -> None:
        self._channel.shutdown_write()
        if wait:
            self._channel.status_event.wait(END_SECONDS)
        self._link.close()
