"""What a program of another user writes, read with a bound on time, on each line, and on all of it."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Iterator
from typing import Optional

LONGEST_LINE = 8 * 1024 * 1024
_PIECE_BYTES = 65536
_KEPT_ERRORS = 16 * 1024
_TURN_SECONDS = 0.5
_END_SECONDS = 5.0


class TooMuch(Exception):
    """It did not end in time, or wrote more than makes sense; it is ended."""


class Output:
    """The lines of a child, whose standard output (and error) are pipes. `errors` is the end of what it said there."""

    def __init__(self, child: subprocess.Popen[bytes], *, seconds: Optional[float] = None) -> None:
        self._child = child
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self.errors = b""

    def lines(self, *, longest: int = LONGEST_LINE) -> Iterator[bytes]:
        """Without their ends, until the child ends or closes its output; one that is too long comes in pieces.

        A process that the child left behind may hold the pipe: it is not waited for.
        """
        rest = b""
        for piece in self._pieces():
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
            if len(rest) > longest:
                yield rest
                rest = b""
        if rest:
            yield rest

    def all(self, *, most: int = LONGEST_LINE) -> bytes:
        """Raises TooMuch beyond `most` bytes."""
        whole = bytearray()
        for piece in self._pieces():
            whole += piece
            if len(whole) > most:
                self.end()
                raise TooMuch(f"wrote more than {most} bytes")
        return bytes(whole)

    def code(self) -> int:
        """How the child ended; one that closed its output and stays is ended."""
        left = _END_SECONDS if self._deadline is None else max(_END_SECONDS, self._deadline - time.monotonic())
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(left)
        self.end()
        return self._child.returncode

    def end(self) -> None:
        """It ends now, if it has not; nothing more of it is read."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdout, self._child.stderr):
            if pipe is not None:
                pipe.close()

    def _pieces(self) -> Iterator[bytes]:
        assert self._child.stdout is not None
        out = self._child.stdout.fileno()
        pipes = {out} | ({self._child.stderr.fileno()} if self._child.stderr is not None else set())
        while out in pipes:
            is_over = self._child.poll() is not None  # asked before, so that its last words are read after
            for pipe in self._ready(pipes, 0.0 if is_over else _TURN_SECONDS):
                piece = os.read(pipe, _PIECE_BYTES)
                if not piece:
                    pipes.discard(pipe)
                elif pipe == out:
                    yield piece
                else:
                    self.errors = (self.errors + piece)[-_KEPT_ERRORS:]
                is_over = False
            if is_over:
                return

    def _ready(self, pipes: set[int], seconds: float) -> list[int]:
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.end()
            raise TooMuch("did not end in time")
        return select.select(list(pipes), [], [], seconds)[0]
