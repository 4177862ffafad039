"""What commands print: messages, tables, colours and units."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence

from percore.common.printable import printable
from percore.common.typing import Any

_COLOURS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "bold": 1, "dim": 2}
_WIDEST = 1 << 16
_is_silent = False
_has_colours = not os.environ.get("NO_COLOR")


def be_silent() -> None:
    global _is_silent
    _is_silent = True


def is_silent() -> bool:
    return _is_silent


def say(text: str) -> None:
    """For messages other than the result; --silent suppresses them."""
    if not _is_silent:
        print(printable(text))


def warn(text: str) -> None:
    print(printable(f"percore: {text}"), file=sys.stderr)


def show_progress(event: Mapping[str, Any]) -> None:
    pid = f" (pid {event['pid']})" if event["pid"] else ""
    trouble = f": {event['failure']}" if event.get("failure") else ""
    if not _is_silent:
        text = f"{event['app']} {event['slot']}: {event['state']}{pid}{trouble}"
        print(printable(text), file=sys.stderr)


def leave_out_colours() -> None:
    global _has_colours
    _has_colours = False


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], colours: Iterable[Sequence[str]] = ()) -> str:
    """`colours` has a name, or nothing, for each cell of each row."""
    lines = [[printable(str(cell)) for cell in line] for line in (heads, *rows)]
    painted = [["cyan"] * len(heads), *map(list, colours)]
    painted += [[""] * len(heads)] * (len(lines) - len(painted))
    widths = column_widths(lines)

    def rule(left: str, middle: str, right: str) -> str:
        return left + middle.join("─" * (width + 2) for width in widths) + right

    def row(cells: Sequence[str], colours: Sequence[str]) -> str:
        padded = (colour(f"{cell:<{width}}", shade) for cell, width, shade in zip(cells, widths, colours))
        return "│" + "│".join(f" {cell} " for cell in padded) + "│"

    body = [row(cells, shades) for cells, shades in zip(lines, painted)]
    return "\n".join([rule("┌", "┬", "┐"), body[0], rule("├", "┼", "┤"), *body[1:], rule("└", "┴", "┘")])


def column_widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(printable(cell)) for cell in column) for column in zip(*lines)]


def table_width(lines: Sequence[Sequence[str]]) -> int:
    return sum(width + 3 for width in column_widths(lines)) + 1


def terminal_width() -> int:
    """Width of the terminal; without one there is no limit."""
    if not sys.stdout.isatty():
        return _WIDEST
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


def colour(text: str, name: str) -> str:
    """Only on a terminal, and not where NO_COLOR is set."""
    if not name or not _has_colours or not sys.stdout.isatty():
        return text
    return f"\033[{_COLOURS[name]}m{text}\033[0m"


def duration(seconds: float) -> str:
    """As PM2 shows it: 5s, 3m, 2h, 4D."""
    for span, unit in ((86400, "D"), (3600, "h"), (60, "m")):
        if seconds >= span:
            return f"{int(seconds // span)}{unit}"
    return f"{int(seconds)}s"


def size(number: int) -> str:
    return f"{number / 1048576:.1f}mb"


def short_size(number: float) -> str:
    for unit in ("B", "K", "M"):
        if number < 1024:
            return f"{number:.0f}{unit}" if unit != "M" or number >= 100 else f"{number:.1f}M"
        number /= 1024
    return f"{number:.1f}G"
