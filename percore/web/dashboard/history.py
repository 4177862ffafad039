"""What was measured over the last hour, in rings of a fixed size: finely for some minutes, coarsely for the hour.

A value lies at the number of its step since the clock began, so a gap is a gap, and no two subjects can drift apart.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping

from percore.common.typing import Any, NamedTuple, Optional

Subject = tuple[str, ...]
"""Whose values they are: (host,), (host, app) or (host, app, worker)."""

Values = Mapping[str, Optional[float]]

MEAN, MOST, SUM = "mean", "most", "sum"
FIELDS: dict[str, str] = {
    "cpu": MEAN,
    "memory": MEAN,
    "open": MEAN,
    "queue": MOST,
    "accepted": MEAN,
    "restarts": SUM,
    "reloads": SUM,
}
"""What is kept of a subject, and what one value of several within a step is."""

DIGITS = 1
_NONE = math.nan


class HistorySpan(NamedTuple):
    """How far a ring reaches back, and in which steps. Seconds."""

    seconds: int
    step: int

    @property
    def length(self) -> int:
        return self.seconds // self.step


SPANS = (HistorySpan(300, 2), HistorySpan(3600, 10))


class Ring:
    """The values of all subjects over one span."""

    def __init__(self, span: HistorySpan, most_subjects: int) -> None:
        self.span = span
        self._most = most_subjects
        self._values: dict[Subject, dict[str, array[float]]] = {}
        self._last_step: dict[Subject, int] = {}
        self._counts: dict[Subject, int] = {}  # of what was put at the last step

    def put(self, subject: Subject, at: float, values: Values) -> bool:
        """False where there is no room for another subject."""
        number = int(at // self.span.step)
        if subject not in self._values:
            if len(self._values) >= self._most:
                return False
            blank = [_NONE] * self.span.length
            self._values[subject] = {field: array("f", blank) for field in FIELDS}
            self._last_step[subject] = number - 1
        self._advance(subject, number)
        self._counts[subject] += 1
        place = number % self.span.length
        for field, kind in FIELDS.items():
            value = values.get(field)
            if value is not None:
                kept = self._values[subject][field]
                kept[place] = _combine(kind, kept[place], value, self._counts[subject])
        return True

    def _advance(self, subject: Subject, number: int) -> None:
        """What was at the places of the steps up to this one is older than the span.

        A look that came a little late leaves no gap.
        """
        last = self._last_step[subject]
        if number <= last:
            return
        length, is_late = self.span.length, number - last == 2
        for step in range(max(last + 1, number - length + 1), number + 1):
            for field, kept in self._values[subject].items():
                carries = is_late and step < number and FIELDS[field] != SUM
                kept[step % length] = kept[last % length] if carries else _NONE
        self._last_step[subject], self._counts[subject] = number, 0

    def drop_old(self, at: float) -> None:
        """Those of which nothing was heard within the span."""
        oldest = int(at // self.span.step) - self.span.length
        for subject in [subject for subject, last in self._last_step.items() if last <= oldest]:
            for kept in (self._values, self._last_step, self._counts):
                kept.pop(subject, None)

    def steps(self, at: float, since: float) -> range:
        """The numbers of the steps that lie after `since`, without the last two: they may not be whole yet."""
        now = int(at // self.span.step) - 1
        return range(max(now - self.span.length + 1, int(since // self.span.step) + 1), now)

    def read(self, subject: Subject, steps: range) -> dict[str, list[Optional[float]]]:
        """None where nothing was measured."""
        kept = self._values.get(subject)
        if kept is None:
            return {field: [None] * len(steps) for field in FIELDS}
        last = self._last_step[subject]
        oldest = last - self.span.length
        return {
            field: [_written(values[step % self.span.length]) if oldest < step <= last else None for step in steps]
            for field, values in kept.items()
        }

    def read_sum(self, subjects: Iterable[Subject], steps: range) -> dict[str, list[Optional[float]]]:
        sums: dict[str, list[Optional[float]]] = {field: [None] * len(steps) for field in FIELDS}
        for subject in subjects:
            for field, values in self.read(subject, steps).items():
                kept = sums[field]
                for place, value in enumerate(values):
                    if value is not None:
                        kept[place] = round((kept[place] or 0.0) + value, DIGITS)
        return sums

    def subjects_below(self, parent: Subject) -> list[Subject]:
        depth = len(parent)
        return [one for one in self._values if len(one) == depth + 1 and one[:depth] == parent]


def _combine(kind: str, kept: float, value: float, count: int) -> float:
    if math.isnan(kept):
        return value
    if kind == SUM:
        return kept + value
    return max(kept, value) if kind == MOST else kept + (value - kept) / count


def _written(value: float) -> Optional[float]:
    return None if math.isnan(value) else round(value, DIGITS)


class Timelines:
    """All spans at once. Times are seconds since 1970, of one clock that does not jump (`Clock`)."""

    def __init__(self, most_subjects: int = 1_200, spans: Iterable[HistorySpan] = SPANS) -> None:
        self._rings = {span.seconds: Ring(span, most_subjects) for span in spans}
        self.is_full = False
        """True when some workers have no history of their own: there are too many."""

    def put(self, subject: Subject, at: float, values: Values) -> None:
        found = [ring.put(subject, at, values) for ring in self._rings.values()]
        self.is_full |= not all(found)

    def drop_old(self, at: float) -> None:
        for ring in self._rings.values():
            ring.drop_old(at)

    def read(
        self, subject: Subject, at: float, *, seconds: int, since: float = 0.0, with_parts: bool = False
    ) -> dict[str, Any]:
        """`at` are the beginnings of the steps; `parts` the same of what is one level below, by its name.

        The empty subject is all hosts together.
        """
        ring = self._rings[seconds]
        steps = ring.steps(at, since)
        parts = ring.subjects_below(subject) if with_parts else []
        whole = ring.read(subject, steps) if subject else ring.read_sum(ring.subjects_below(()), steps)
        return {
            "step": ring.span.step,
            "at": [number * ring.span.step for number in steps],
            "values": whole,
            "parts": {part[-1]: ring.read(part, steps) for part in parts},
        }
