"""The supervisor's own log: standard error, which is the journal under systemd and `logs/percore.log` otherwise."""

from __future__ import annotations

import os

from percore.supervisor.logs.files import has_file, id_of, open_log


class OwnLog:
    """Takes the place of `sys.stderr`. A full disk costs lines, which are counted, and nothing else."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lost = 0
        self.is_file = has_file(path, id_of(os.fstat(2)))

    def write(self, text: str) -> int:
        lost = f"(the disk was full: {self._lost} messages before this one are missing)\n" if self._lost else ""
        try:
            os.write(2, (lost + text).encode(errors="replace"))
            self._lost = 0
        except OSError:
            self._lost += 1
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def reopen(self) -> None:
        """After somebody moved or deleted the file. Raises OSError."""
        if self.is_file and not has_file(self._path, id_of(os.fstat(2))):
            opened = open_log(self._path)
            os.dup2(opened, 2)
            os.close(opened)
