"""Packed artifacts on a host, named by their content: sent once, resumed where a cut link left off, checked when unpacked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from typing import BinaryIO

_PIECE_BYTES = 1 << 18


class Archives:
    """`<directory>/<sha256>` is whole, `<sha256>.part` is the beginning of one that is still to come."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def path(self, sha256: str) -> str:
        return os.path.join(self.directory, sha256)

    def has(self, sha256: str) -> bool:
        return os.path.isfile(self.path(sha256))

    def bytes_here(self, sha256: str) -> int:
        """So much of it has arrived: what is sent begins there."""
        for path in (self.path(sha256), f"{self.path(sha256)}.part"):
            with contextlib.suppress(OSError):
                return os.path.getsize(path)
        return 0

    def receive(self, sha256: str, pieces: Iterator[bytes]) -> None:
        """Appends what comes to what is here. An end in between loses nothing: the next run goes on from there."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        with open(f"{self.path(sha256)}.part", "ab") as part:
            for piece in pieces:
                part.write(piece)
            part.flush()
            os.fsync(part.fileno())
        os.rename(f"{self.path(sha256)}.part", self.path(sha256))

    def open(self, sha256: str) -> BinaryIO:
        return open(self.path(sha256), "rb")

    def remove(self, sha256: str) -> None:
        """It is not what its name says."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(sha256))

    def keep_only(self, wanted: Collection[str]) -> None:
        """Removes all others, also those that never became whole."""
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.directory):
                if name.partition(".")[0] not in wanted:
                    os.unlink(os.path.join(self.directory, name))
