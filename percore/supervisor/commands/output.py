"""What commands print: messages, tables, colours and units."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence

from percore.common.printable import printable
from percore.common.typing import Any

_COLOURS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "bold": 1, "dim": 2}
_WIDEST = 1 << 16
# As Node breaks the lines of what it prints.
_LINE_LENGTH, _INNER_LEVELS = 80, 3
_is_silent = False
_is_brief = False
_has_colours = not os.environ.get("NO_COLOR")


def be_silent() -> None:
    global _is_silent
    _is_silent = True


def is_silent() -> bool:
    return _is_silent


def be_brief() -> None:
    """No table fits any more: what stands in one is printed as plain lines."""
    global _is_brief
    _is_brief = True


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
    if _is_brief:
        return 0
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


# -- as Node prints values -------------------------------------------------------------------------------------------


def js_literal(value: Any) -> str:
    """As Node's util.inspect prints a value: bare keys, single quotes, on one line what is short and not nested deeply."""
    return _literal(value, 0)[0]


def _literal(value: Any, depth: int) -> tuple[str, int]:
    """The text, and how deep the last object in it lies."""
    if isinstance(value, str):
        return js_text(value), depth
    if not isinstance(value, (dict, list)):
        is_word = value is None or isinstance(value, bool)
        return {None: "null", True: "true", False: "false"}[value] if is_word else str(value), depth
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    if not value:
        return opening + closing, depth
    items = list(value.values()) if isinstance(value, dict) else value
    inner = [_literal(item, depth + 1) for item in items]
    keys = [f"{js_key(key)}: " for key in value] if isinstance(value, dict) else [""] * len(items)
    parts = [key + text for key, (text, _) in zip(keys, inner)]
    last = next((level for item, (_, level) in zip(items[::-1], inner[::-1]) if is_nested(item)), depth)
    indent = "  " * depth
    length = sum(map(len, parts)) + 2 * len(parts) + len(indent) + len(opening) + 10
    if last - depth < _INNER_LEVELS and length <= _LINE_LENGTH and not any("\n" in part for part in parts):
        return f"{opening} {', '.join(parts)} {closing}", last
    lines = ",\n".join(f"{indent}  {part}" for part in parts)
    return f"{opening}\n{lines}\n{indent}{closing}", last


def is_nested(item: Any) -> bool:
    return isinstance(item, (dict, list)) and bool(item)


def js_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII) else js_text(key)


def js_text(text: str) -> str:
    """In the first kind of quotes that it does not contain."""
    escaped = json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', '"')
    quote = next((quote for quote in "'\"`" if quote not in escaped), "'")
    return quote + escaped.replace(quote, f"\\{quote}") + quote
