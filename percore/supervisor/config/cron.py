"""Cron expressions: what a text means, and the next moment it names, in the time zone of this machine or in another one.

Five fields (minute, hour, day of month, month, day of week), or six with the second in front. Where both days are
restricted, one of them is enough, as in every cron. When clocks change, a time that does not exist that day comes at the moment
of the change, and one that comes twice counts once; an expression for every hour follows the elapsed time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from percore.common.typing import Callable, NamedTuple, Optional

Offset = Callable[[int], int]
"""Of a time zone from UTC, in seconds, at a second of the epoch."""

_DAY = 86400
_HOUR = 3600
# 29 February is at most eight years away.
_FARTHEST_DAYS = 9 * 366
_LONGEST_SHIFT = 3 * _HOUR
_LAST = -1

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NICKNAMES = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip


class CronField(NamedTuple):
    title: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS = (
    CronField("second", 0, 59),
    CronField("minute", 0, 59),
    CronField("hour", 0, 23),
    CronField("day of the month", 1, 31),
    CronField("month", 1, 12, _MONTHS),
    CronField("day of the week", 0, 7, _WEEKDAYS),
)


class Schedule(NamedTuple):
    """Each field sorted. A weekday is (day, which one of the month): 0 is every one, -1 the last."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]  # -1: the last one of the month
    months: frozenset[int]
    weekdays: frozenset[tuple[int, int]]
    any_day: bool  # of the month
    any_weekday: bool

    @property
    def is_hourly(self) -> bool:
        return len(self.hours) == 24

    def next_after(self, moment: float, offset_at: Optional[Offset] = None) -> Optional[int]:
        """The first second after `moment` (seconds of the epoch) that it names; None when there is none.

        `offset_at` is that of the time zone, by default of this machine's.
        """
        offset_at = offset_at or _offset
        start = int(moment // 1) + 1
        if not self.is_hourly:
            if self._comes_with_change(start + offset_at(start), offset_at(start) - offset_at(start - 1)):
                return start
            start = _after_repetition(start, offset_at)
        farthest = start + _FARTHEST_DAYS * _DAY
        while start < farthest:
            offset = offset_at(start)
            local = start + offset
            end = _change_before(start, start + _DAY - local % _DAY, offset_at)
            found = self._first(local, end + offset)
            if found is not None:
                return found - offset
            shift = 0 if self.is_hourly else offset_at(end) - offset
            if self._comes_with_change(end + offset_at(end), shift):
                return end
            start = end - min(shift, 0)
        return None

    def _comes_with_change(self, local: int, shift: int) -> bool:
        """True when the clock was put forward by `shift` to this local time, over a time that would have been ours."""
        return shift > 0 and self._first(local - shift, local) is not None

    def _first(self, start: int, end: int) -> Optional[int]:
        """The first local second in this span."""
        day, earliest = divmod(start, _DAY)
        while day * _DAY < end:
            if self._is_on(day):
                for second in self._seconds_of_day(earliest):
                    return day * _DAY + second if day * _DAY + second < end else None
            day, earliest = day + 1, 0
        return None

    def _seconds_of_day(self, earliest: int) -> Iterator[int]:
        for hour in self.hours:
            if hour >= earliest // _HOUR:
                for minute in self.minutes:
                    for second in self.seconds:
                        if (found := hour * _HOUR + minute * 60 + second) >= earliest:
                            yield found

    def _is_on(self, day: int) -> bool:
        """`day` is counted from the epoch."""
        _, month, number, *_, weekday, _, _ = time.gmtime(day * _DAY)
        if month not in self.months:
            return False
        if self.any_day and self.any_weekday:
            return True
        is_day = number in self.days or (_LAST in self.days and time.gmtime((day + 1) * _DAY).tm_mday == 1)
        weekday = (weekday + 1) % 7
        nth = [0, (number - 1) // 7 + 1, *([_LAST] if time.gmtime((day + 7) * _DAY).tm_mon != month else [])]
        is_weekday = any((weekday, which) in self.weekdays for which in nth)
        if self.any_day or self.any_weekday:
            return is_weekday if self.any_day else is_day
        return is_day or is_weekday


def _offset(moment: int) -> int:
    return time.localtime(moment).tm_gmtoff


def zone_offset(name: str) -> Offset:
    """Of a zone such as Europe/Berlin. Raises ValueError where this machine does not know it."""
    from datetime import datetime, timezone  # few apps have a zone of their own
    from zoneinfo import ZoneInfo

    try:
        zone = ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("a time zone that this machine knows, such as Europe/Berlin (package tzdata)") from None

    def offset_at(moment: int) -> int:
        passed = datetime.fromtimestamp(moment, timezone.utc).astimezone(zone).utcoffset()
        return int(passed.total_seconds()) if passed else 0

    return offset_at


def _change_before(start: int, end: int, offset_at: Offset) -> int:
    """The first moment after `start` at which the clocks of the time zone are changed, but at the latest `end`."""
    offset = offset_at(start)
    if offset_at(end) == offset:
        return end
    while end - start > 1:
        middle = (start + end) // 2
        start, end = (middle, end) if offset_at(middle) == offset else (start, middle)
    return end


def _after_repetition(moment: int, offset_at: Offset) -> int:
    """`moment`, or where its local time was there before, because clocks were put back, the end of that."""
    earlier = moment - _LONGEST_SHIFT
    shift = offset_at(earlier) - offset_at(moment)
    return max(moment, _change_before(earlier, moment, offset_at) + shift) if shift > 0 else moment


# -- reading ---------------------------------------------------------------------------------------------------------


def parse(text: str) -> Schedule:
    """Raises ValueError with what is wrong."""
    words = _NICKNAMES.get(text.strip().lower(), text).split()
    if len(words) not in (5, 6):
        raise ValueError("five fields (minute hour day month weekday), or six with the second first")
    words = ["0", *words][-6:]
    seconds, minutes, hours, days, months = (_numbers(word, field) for word, field in zip(words, _FIELDS[:5]))
    schedule = Schedule(
        tuple(sorted(seconds)), tuple(sorted(minutes)), tuple(sorted(hours)), frozenset(days), frozenset(months),
        frozenset(_weekdays(words[5])), words[3] in ("*", "?"), words[5] in ("*", "?"),
    )  # fmt: skip
    if schedule.next_after(0) is None:
        raise ValueError("a day that comes")
    return schedule


def _numbers(word: str, field: CronField) -> set[int]:
    found: set[int] = set()
    for item in word.split(","):
        if field is _FIELDS[3] and item.lower() == "l":
            found.add(_LAST)
        else:
            found.update(_range(item, field))
    return found


def _weekdays(word: str) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for item in word.split(","):
        day, mark, which = item.partition("#")
        if mark and which not in ("1", "2", "3", "4", "5"):
            raise ValueError(f"a day of the week with #1 to #5 in place of '{item}'")
        nth = int(which or 0)
        if not mark and item[1:] and item[-1] in "lL":
            day, nth = item[:-1], _LAST
        found.update((number % 7, nth) for number in _range(day, _FIELDS[5]))
    return found


def _range(item: str, field: CronField) -> range:
    """`*`, `a`, `a-b`, each also with `/step`; `a/step` continues to the highest."""
    span, has_step, step_text = item.partition("/")
    step = int(step_text) if step_text.isascii() and step_text.isdigit() else 0
    if has_step and step < 1:
        raise ValueError(f"a {field.title} with a step of 1 or more in place of '{item}'")
    first, is_span, last = span.partition("-")
    if first in ("*", "?") and not is_span:
        # Sunday is both 0 and 7: a step must not see it twice.
        return range(field.low, min(field.high, 6 if field is _FIELDS[5] else 99) + 1, step or 1)
    low = _number(first, field)
    high = _number(last, field, is_last=True) if is_span else field.high if has_step else low
    if high < low:
        raise ValueError(f"a {field.title} that counts upwards in place of '{item}'")
    return range(low, high + 1, step or 1)


def _number(text: str, field: CronField, *, is_last: bool = False) -> int:
    name = text.lower()
    if name in field.names:
        number = field.names.index(name) + field.low
        return 7 if is_last and name == "sun" else number
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else -1
    if not field.low <= number <= field.high:
        raise ValueError(f"a {field.title} from {field.low} to {field.high} in place of '{text}'")
    return number
