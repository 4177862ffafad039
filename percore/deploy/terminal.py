"""The operator's terminal: colours where there is one, and a line of progress that gives way to whatever is printed."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import TextIO

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}
_CLEAR = "\r\x1b[K"


def has_colours(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, shade: str, stream: TextIO) -> str:
    """What is painted must be printable already."""
    return f"\x1b[{_CODES[shade]}m{text}\x1b[0m" if shade and has_colours(stream) else text


class Terminal:
    """Lines out, from any thread."""

    def __init__(self) -> None:
        self._writing = threading.RLock()
        self._has_progress = False

    def line(self, text: str, stream: TextIO, *, end: str = "\n") -> None:
        """Where the output is closed (a closed terminal, `| head`) the run continues: half a rollout would be worse."""
        encoding = stream.encoding or "utf-8"
        with self._writing:
            self.clear()
            try:
                print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True, end=end)
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

    def progress(self, text: str) -> None:
        """On standard error, so that a pipe gets none of it; the next line takes its place."""
        with self._writing:
            self._has_progress = True
            self._write(f"{_CLEAR}{text[: _columns() - 1]}")

    def clear(self) -> None:
        with self._writing:
            if self._has_progress:
                self._has_progress = False
                self._write(_CLEAR)

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):
            self._has_progress = False


def shows_progress() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


TERMINAL = Terminal()
atexit.register(TERMINAL.clear)
