"""From samples to a table: medians, spread, ratios, and whether each goal is reached. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional


class Sample(NamedTuple):
    """One measurement; `note` says what the number alone does not, `kept` is False when something promised was not kept."""

    value: float
    note: str = ""
    kept: bool = True


class Goal(NamedTuple):
    """`text` for people; `is_reached` takes our median and PM2's (None where PM2 has nothing to compare)."""

    text: str
    is_reached: Callable[[float, Optional[float]], bool]


def at_most(limit: float, text: str) -> Goal:
    return Goal(text, lambda ours, _: ours <= limit)


def times_pm2(factor: float, *, more: bool = False) -> Goal:
    """At most, or with `more` at least, `factor` times what PM2 has."""

    def is_reached(ours: float, theirs: Optional[float]) -> bool:
        if theirs is None:
            return False
        return ours >= factor * theirs if more else ours <= factor * theirs

    return Goal(f"{'>=' if more else '<='} {factor:g} x", is_reached)


def both(first: Goal, second: Goal) -> Goal:
    return Goal(
        f"{first.text} and {second.text}",
        lambda ours, theirs: first.is_reached(ours, theirs) and second.is_reached(ours, theirs),
    )


class Result(NamedTuple):
    """All samples of one row."""

    row: str
    what: str
    unit: str
    goal: Goal
    ours: Sequence[Sample]
    theirs: Sequence[Sample]

    @property
    def our_median(self) -> float:
        return statistics.median(sample.value for sample in self.ours)

    @property
    def their_median(self) -> Optional[float]:
        return statistics.median(sample.value for sample in self.theirs) if self.theirs else None

    @property
    def ratio(self) -> Optional[float]:
        return self.our_median / self.their_median if self.their_median else None

    @property
    def is_reached(self) -> bool:
        return all(sample.kept for sample in self.ours) and self.goal.is_reached(self.our_median, self.their_median)

    def to_record(self) -> dict[str, Any]:
        return {
            "row": self.row, "what": self.what, "unit": self.unit, "goal": self.goal.text, "reached": self.is_reached,
            "percore": _side_record(self.ours), "pm2": _side_record(self.theirs) if self.theirs else None,
            "ratio": None if self.ratio is None else round(self.ratio, 3),
        }  # fmt: skip


def _side_record(samples: Sequence[Sample]) -> dict[str, Any]:
    return {
        "median": statistics.median(sample.value for sample in samples),
        "samples": [sample.value for sample in samples],
        "notes": [sample.note for sample in samples if sample.note],
    }


def render(results: Sequence[Result]) -> str:
    """The table as Markdown, which is also readable on a terminal."""
    lines = [["What", "unit", "percore", "pm2", "ratio", "goal", "reached"]]
    for result in results:
        ratio = "-" if result.ratio is None else f"{result.ratio:.2f} x"
        lines.append([
            result.what, result.unit, spread(result.ours), spread(result.theirs), ratio, result.goal.text,
            "yes" if result.is_reached else "NO",
        ])  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rows = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([rows[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *rows[1:]])


def spread(samples: Sequence[Sample]) -> str:
    """The median, and from where to where the samples went."""
    if not samples:
        return "-"
    values = [sample.value for sample in samples]
    text = number(statistics.median(values))
    if len(values) > 1 and min(values) != max(values):
        text += f" ({number(min(values))}-{number(max(values))})"
    return text


def number(value: float) -> str:
    """Three digits that matter."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value == int(value):
        return str(int(value))
    return f"{value:.3g}"
