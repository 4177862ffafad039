"""Which lines of a log are asked for: since when, until when, with what in them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from percore.common.bounds import compile_regex
from percore.common.typing import NamedTuple, Optional
from percore.supervisor.logs.timestamps import read_stamp

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGO = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(s|min|m|h|d|w)")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_CLOCK = re.compile(r"\d\d:\d\d(?::\d\d)?")
_MOMENT = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])[T ](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?"
    r"\s?(?:Z|[+-]\d\d:?\d\d)?"
)
_EPOCH = re.compile(r"@(\d{1,11}(?:\.\d{1,9})?)")
_FORMS = "10m, 2h, 1d, 14:30, 2026-05-06, 2026-05-06T14:30 or 2026-05-06T14:30:00Z"


class TimedLine(NamedTuple):
    text: bytes
    moment: Optional[float]  # its own, or that of the line above; None where there is neither


class LogSelection(NamedTuple):
    since: Optional[float] = None
    until: Optional[float] = None
    pattern: Optional[re.Pattern[str]] = None

    @property
    def is_about_time(self) -> bool:
        return self.since is not None or self.until is not None

    def has(self, line: TimedLine) -> bool:
        return self.covers(line.moment) and self.matches(line)

    def covers(self, moment: Optional[float]) -> bool:
        """Whether it is told or not: what has no time at all is not left out for it."""
        if moment is None:
            return True
        return (self.since is None or moment >= self.since) and (self.until is None or moment <= self.until)

    def matches(self, line: TimedLine) -> bool:
        return self.pattern is None or bool(self.pattern.search(line.text.decode(errors="replace")))


def read_selection(since: str, until: str, grep: str, now: Optional[float] = None) -> LogSelection:
    """Empty texts ask for nothing. Raises ValueError that says what is wrong with one."""
    moment = time.time() if now is None else now
    found = LogSelection(
        read_moment(since, moment) if since else None,
        read_moment(until, moment) if until else None,
        compile_regex(grep) if grep else None,
    )
    if found.since is not None and found.until is not None and found.since > found.until:
        raise ValueError(f"'{since}' is later than '{until}'")
    return found


def read_moment(text: str, now: float) -> float:
    """How long ago, a time of today, a day, or a moment; without a zone it is this machine's own time."""
    if ago := _AGO.fullmatch(text.strip()):
        return now - float(ago[1]) * _UNITS[ago[2]]
    if epoch := _EPOCH.fullmatch(text.strip()):
        return float(epoch[1])
    written = text.strip()
    if _CLOCK.fullmatch(written):
        written = f"{time.strftime('%Y-%m-%d', time.localtime(now))} {written}"
    if _DAY.fullmatch(written):
        written += " 00:00"
    if re.fullmatch(r".{10}[T ]\d\d:\d\d(?:Z|[+-]\d\d:?\d\d)?", written):
        written = f"{written[:16]}:00{written[16:]}"
    moment = read_stamp(written.encode()) if _MOMENT.fullmatch(written) else None
    if moment is None:
        raise ValueError(f"'{text}' is no time: {_FORMS}")
    return moment


def with_moments(texts: Iterable[bytes], known: Optional[float] = None) -> list[TimedLine]:
    """A line without a time of its own belongs to the one above; those at the beginning to the first that has one."""
    stamps = [(text, read_stamp(text)) for text in texts]
    if known is None:
        known = next((moment for _, moment in stamps if moment is not None), None)
    lines = []
    for text, moment in stamps:
        known = known if moment is None else moment
        lines.append(TimedLine(text, known))
    return lines
