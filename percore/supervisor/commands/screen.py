"""A screen of lines in a terminal, drawn with curses: what `percore monit` and `invoke top` share."""

from __future__ import annotations

import contextlib
import locale
import os
import re
import signal
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

try:
    import curses
except ImportError:  # some builds of Python are without it
    curses = None  # type: ignore[assignment]

_ESCAPE, _ENTER, _BACKSPACE = 27, (10, 13), (8, 127)
_ALL_ROWS = 1_000_000  # more than a board has


class Wakeup:
    """A pipe that ends a wait: for signals, and for threads that have something to show."""

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()
        for end in (self._read_end, self._write_end):
            os.set_blocking(end, False)

    def fileno(self) -> int:
        return self._read_end

    def hear_signals(self) -> None:
        """A window that changes its size ends a wait as well."""
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGWINCH, lambda *_: None)

    def end(self) -> None:
        signal.set_wakeup_fd(-1)

    def call(self) -> None:
        with contextlib.suppress(OSError):  # full: it is about to be read
            os.write(self._write_end, b"\0")

    def take(self) -> None:
        with contextlib.suppress(OSError):
            os.read(self._read_end, 65536)


def is_ascii_only() -> bool:
    """What the terminal shows, by its locale."""
    return locale.nl_langinfo(locale.CODESET).upper() != "UTF-8"


class Span(NamedTuple):
    text: str
    style: str = ""  # or head, selected, good, warn, bad, dim


Line = list[Span]


class LineBoard(Protocol):
    """A screen of lines, of which some may be filtered."""

    message: str
    filter: str
    is_ascii: bool
    shows_help: bool

    def set_filter(self, text: str) -> None: ...

    def move(self, step: int) -> None: ...

    def move_page(self, direction: int) -> None: ...

    def lines(self, width: int, height: int) -> list[Line]: ...


class FilterPrompt:
    """The filter of a board while it is typed."""

    def __init__(self, board: LineBoard) -> None:
        self._board = board
        self.is_open = False

    def begin(self) -> None:
        self.is_open = True
        self._show()

    def take(self, key: int) -> None:
        board = self._board
        if key in (*_ENTER, _ESCAPE):
            self.is_open, board.message = False, ""
            if key == _ESCAPE:
                board.set_filter("")
            return
        if key in (curses.KEY_BACKSPACE, *_BACKSPACE):
            board.set_filter(board.filter[:-1])
        elif 32 <= key < 127:
            board.set_filter(board.filter + chr(key))
        self._show()

    def _show(self) -> None:
        self._board.message = f"/{self._board.filter}"


def board_keys(board: LineBoard, prompt: FilterPrompt) -> dict[int, Callable[[], None]]:
    """The keys that every board has: moving, the filter, the help."""

    def clear() -> None:
        board.shows_help = False
        board.set_filter("")

    def toggle_help() -> None:
        board.shows_help = not board.shows_help

    return {
        **dict.fromkeys((curses.KEY_UP, ord("k")), lambda: board.move(-1)),
        **dict.fromkeys((curses.KEY_DOWN, ord("j")), lambda: board.move(1)),
        curses.KEY_PPAGE: lambda: board.move_page(-1),
        curses.KEY_NPAGE: lambda: board.move_page(1),
        curses.KEY_HOME: lambda: board.move(-_ALL_ROWS),
        curses.KEY_END: lambda: board.move(_ALL_ROWS),
        ord("/"): prompt.begin,
        _ESCAPE: clear,
        **dict.fromkeys(map(ord, "?h"), toggle_help),
    }


def draw(screen: Any, board: LineBoard, styles: Mapping[str, int]) -> None:
    height, width = screen.getmaxyx()
    screen.erase()
    for row, line in enumerate(board.lines(width, height)):
        column = 0
        for span in line:
            text = span.text.encode("ascii", "replace").decode("ascii") if board.is_ascii else span.text
            # Writing the last cell of a terminal fails after it was written: the cursor has no place to go.
            with contextlib.suppress(curses.error):
                screen.addstr(row, column, text, styles[span.style])
                column = screen.getyx()[1]
    screen.refresh()


def make_styles() -> dict[str, int]:
    styles = {"": 0, "head": curses.A_REVERSE, "selected": curses.A_BOLD | curses.A_REVERSE, "dim": curses.A_DIM,
              "good": 0, "warn": curses.A_BOLD, "bad": curses.A_BOLD}  # fmt: skip
    with contextlib.suppress(curses.error):
        curses.start_color()
        curses.use_default_colors()
        for number, (style, color) in enumerate(
            {"good": curses.COLOR_GREEN, "warn": curses.COLOR_YELLOW, "bad": curses.COLOR_RED}.items(), 1
        ):
            curses.init_pair(number, color, -1)
            styles[style] = curses.color_pair(number)
    return styles


# -- cells: a character takes none, one or two ------------------------------------------------------------------------


def cells(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def clip(text: str, width: int) -> str:
    if cells(text) <= width:
        return text
    end = min(len(text), width)
    while cells(text[:end]) > width:
        end -= 1
    return text[:end]


def fit(text: str, width: int, *, left: bool = True) -> str:
    text = clip(text, width)
    blanks = " " * (width - cells(text))
    return text + blanks if left else blanks + text


def clip_line(line: Line, width: int) -> Line:
    clipped = []
    for span in line:
        text = clip(span.text, width)
        clipped.append(Span(text, span.style))
        width -= cells(text)
    return clipped


# Escape sequences of a log must not reach the terminal: they would move the cursor under the view.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def plain(line: str) -> str:
    text = _ESCAPES.sub("", line).expandtabs(4)
    return "".join(char if char.isprintable() else " " for char in text)
