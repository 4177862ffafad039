"""Bytes to and from a program on a host, whatever lies between."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

END_SECONDS = 60.0
PIECE_BYTES = 1 << 16
MOST_COMPLAINT = 1 << 20
"""Bytes of standard error that are kept: its end is what is shown."""

SUDO_PROMPT = "[percore] sudo password: "


class Channel(Protocol):
    """One program, started."""

    def send(self, data: bytes) -> None: ...

    def send_if_ready(self, data: bytes) -> None:
        """A few bytes, or nothing where that would wait."""
        ...

    def receive(self, seconds: float) -> bytes:
        """Some bytes, none at the end; TimeoutError when there are none for so long, or the link is silent for too long."""
        ...

    def finish(self, *, wait: bool) -> None: ...

    def complaint(self) -> str: ...


class Complaints:
    """The end of a program's standard error. A second question for the password means that the first was wrong."""

    def __init__(self, on_refusal: Callable[[], object]) -> None:
        self._said = bytearray()
        self._on_refusal = on_refusal

    def add(self, piece: bytes) -> None:
        self._said += piece
        if self._said.count(SUDO_PROMPT.encode()) > 1:
            self._on_refusal()
        del self._said[:-MOST_COMPLAINT]

    def text(self) -> str:
        return self._said.decode(errors="replace").replace(SUDO_PROMPT, "")


class StandardError:
    """Complaints that a thread reads."""

    def __init__(self, pieces: Iterator[bytes], on_refusal: Callable[[], object]) -> None:
        self._complaints = Complaints(on_refusal)
        self._reader = threading.Thread(target=self._read, args=(pieces,), daemon=True)
        self._reader.start()

    def _read(self, pieces: Iterator[bytes]) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError):
            for piece in pieces:
                self._complaints.add(piece)

    def text(self) -> str:
        self._reader.join(1.0)
        return self._complaints.text()
