"""Times as Kubernetes takes them: five fields, without seconds and without the last days of a month."""

from __future__ import annotations

from collections.abc import Iterable

from percore.supervisor.config.cron import Schedule, parse


def kubernetes_schedule(written: str) -> str | None:
    """None for times that it cannot say. A single second is left out: the run begins at the minute."""
    times, words = _parsed(written), written.split()
    if times is None or len(words) == 1:
        return words[0].lower() if times else None
    minute, hour, day, month, weekday = words[-5:]
    if not times.any_day and ("*" in day or "?" in day):
        day = _listed(times.days)  # a star in it would mean that the day of the week counts alone
    return f"{minute} {hour} {day} {month} {_weekdays(weekday, times)}".replace("?", "*")


def _parsed(written: str) -> Schedule | None:
    """None also where it is no expression."""
    try:
        times = parse(written)
    except ValueError:
        return None
    is_known = len(times.seconds) == 1 and min(times.days) > 0 and all(which == 0 for _, which in times.weekdays)
    return times if is_known else None


def _weekdays(written: str, times: Schedule) -> str:
    """Sunday is 0 there and never the end of a range; a star in it would mean that the day of the month counts alone."""
    if times.any_weekday:
        return "*"
    is_alike = not any(mark in written.lower() for mark in ("7", "sun", "*", "?", "/"))
    return written if is_alike else _listed(day for day, _ in times.weekdays)


def _listed(numbers: Iterable[int]) -> str:
    return ",".join(map(str, sorted(numbers)))


def seconds_left_out(written: str) -> bool:
    words = written.split()
    return len(words) == 6 and words[0] != "0"
