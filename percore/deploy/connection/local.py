"""A program on this machine."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from pathlib import Path

from percore.common.passwords import for_programs
from percore.deploy.connection.address import HostAddress
from percore.deploy.connection.channel import END_SECONDS, PIECE_BYTES, StandardError
from percore.deploy.connection.limits import our_limit
from percore.errors import PreflightError

SEND_SECONDS = 300.0
"""So long the other side may take none of what is sent."""


class LocalChannel:
    """A child process of ours, in a session of its own so that Ctrl-C here does not end it halfway."""

    def __init__(self, address: HostAddress, words: list[str], directory: Path) -> None:
        try:
            self._child = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=directory,
                env=for_programs(),
                start_new_session=True,
            )
        except OSError as error:
            if limit := our_limit(error):
                raise PreflightError(limit[0], where=address.host, next=limit[1]) from None
            raise PreflightError(
                f"cannot start '{words[0]}': {error.strerror}",
                where=address.host,
                next="set ansible_python_interpreter",
            ) from None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        assert self._child.stderr is not None
        self._input, self._output, self._error = self._child.stdin, self._child.stdout, self._child.stderr
        os.set_blocking(self._input.fileno(), False)
        pieces = iter(lambda: os.read(self._error.fileno(), 4096), b"")
        self._errors = StandardError(pieces, self._input.close)

    def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            _wait_for(self._input.fileno(), select.POLLOUT, SEND_SECONDS)
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(self._input.fileno(), rest[:PIECE_BYTES]) :]

    def send_if_ready(self, data: bytes) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._input.fileno(), data)

    def receive(self, seconds: float) -> bytes:
        _wait_for(self._output.fileno(), select.POLLIN, seconds)
        return os.read(self._output.fileno(), PIECE_BYTES)

    def complaint(self) -> str:
        return self._errors.text()

    def finish(self, *, wait: bool) -> None:
        with contextlib.suppress(OSError):
            self._input.close()
        if not self._ends_within(END_SECONDS if wait else 5.0):
            self._output.close()  # it may wait for us to read what it says
            if not self._ends_within(5.0):
                return
        self._errors.text()
        self._output.close()
        self._error.close()

    def _ends_within(self, seconds: float) -> bool:
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def _wait_for(descriptor: int, what: int, seconds: float) -> None:
    waiting = select.poll()
    waiting.register(descriptor, what)
    if not waiting.poll(max(0.0, seconds) * 1000):
        raise TimeoutError
