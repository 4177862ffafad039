"""Tables and units as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(heads), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]

    def rule(left: str, middle: str, right: str) -> str:
        return left + middle.join("─" * (width + 2) for width in widths) + right

    def row(cells: Sequence[str]) -> str:
        return "│" + "│".join(f" {cell:<{width}} " for cell, width in zip(cells, widths)) + "│"

    return "\n".join(
        [rule("┌", "┬", "┐"), row(lines[0]), rule("├", "┼", "┤"), *map(row, lines[1:]), rule("└", "┴", "┘")]
    )


def duration(seconds: float) -> str:
    """As PM2 shows it: 5s, 3m, 2h, 4D."""
    for span, unit in ((86400, "D"), (3600, "h"), (60, "m")):
        if seconds >= span:
            return f"{int(seconds // span)}{unit}"
    return f"{int(seconds)}s"


def size(number: int) -> str:
    return f"{number / 1048576:.1f}mb"
