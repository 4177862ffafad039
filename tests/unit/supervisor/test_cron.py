"""Cron expressions, judged second by second against the plain meaning of the words."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from percore.supervisor.config.cron import parse

# Rules in full, so that no zone files are needed. The last one moves by half an hour.
ZONES = ("UTC0", "CET-1CEST,M3.5.0,M10.5.0/3", "EST5EDT,M3.2.0,M11.1.0", "LHST-10:30LHDT-11,M10.1.0,M4.1.0")
BERLIN = ZONES[1]


@pytest.fixture(autouse=True)
def _own_zone() -> Iterator[None]:
    before = os.environ.get("TZ")
    yield
    use_zone(before)


def use_zone(zone: str | None) -> None:
    if zone is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = zone
    time.tzset()


def moment(text: str, fold: int = 0) -> int:
    """Seconds of the epoch of a local time; `fold` 1 for the second of two."""
    parts = time.strptime(text, "%Y-%m-%d %H:%M:%S")
    summer = int(time.mktime((*parts[:8], 1)))
    return summer if time.localtime(summer)[:6] == parts[:6] and not fold else int(time.mktime((*parts[:8], 0)))


def following(expression: str, start: str, count: int = 3, zone: str = "UTC0") -> list[str]:
    use_zone(zone)
    now = moment(start)
    found = []
    for _ in range(count):
        now = parse(expression).next_after(now) or 0
        found.append(time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now)))
    return found


@pytest.mark.parametrize(
    ("expression", "times"),
    [
        ("*/15 * * * *", ["2026-01-31 12:15:00", "2026-01-31 12:30:00"]),
        ("30 3 * * *", ["2026-02-01 03:30:00", "2026-02-02 03:30:00"]),
        ("*/10 * * * * *", ["2026-01-31 12:00:10", "2026-01-31 12:00:20"]),
        ("0 0 L * *", ["2026-02-28 00:00:00", "2026-03-31 00:00:00"]),
        ("0 0 29 2 *", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
        ("0 9 * JAN-MAR MON", ["2026-02-02 09:00:00", "2026-02-09 09:00:00"]),
        ("0 9 * * sat-sun", ["2026-02-01 09:00:00", "2026-02-07 09:00:00"]),
        ("0 9 * * 7", ["2026-02-01 09:00:00", "2026-02-08 09:00:00"]),
        ("0 9 * * FRI#1", ["2026-02-06 09:00:00", "2026-03-06 09:00:00"]),
        ("0 9 * * 5L", ["2026-02-27 09:00:00", "2026-03-27 09:00:00"]),
        ("0 0 13 * 5", ["2026-02-06 00:00:00", "2026-02-13 00:00:00"]),  # either day is enough
        ("5/20 8-10/2 ? * ?", ["2026-02-01 08:05:00", "2026-02-01 08:25:00"]),
        ("@daily", ["2026-02-01 00:00:00", "2026-02-02 00:00:00"]),
        ("@Monthly", ["2026-02-01 00:00:00", "2026-03-01 00:00:00"]),
    ],
)
def test_what_expressions_mean(expression: str, times: list[str]) -> None:
    assert following(expression, "2026-01-31 12:00:00", 2) == [f"{time} UTC" for time in times]


def test_a_time_that_is_skipped_comes_at_the_change_and_one_that_is_repeated_counts_once() -> None:
    assert following("30 2 * * *", "2026-03-28 12:00:00", 2, BERLIN) == [
        "2026-03-29 03:00:00 CEST",
        "2026-03-30 02:30:00 CEST",
    ]
    assert following("30 2 * * *", "2026-10-24 12:00:00", 2, BERLIN) == [
        "2026-10-25 02:30:00 CEST",
        "2026-10-26 02:30:00 CET",
    ]


def test_an_expression_for_every_hour_goes_by_the_real_time() -> None:
    assert following("30 * * * *", "2026-10-25 01:30:00", 3, BERLIN) == [
        "2026-10-25 02:30:00 CEST",
        "2026-10-25 02:30:00 CET",
        "2026-10-25 03:30:00 CET",
    ]
    assert following("30 * * * *", "2026-03-29 01:30:00", 1, BERLIN) == ["2026-03-29 03:30:00 CEST"]


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("* * * * * * *", "five fields"),
        ("@reboot", "five fields"),
        ("60 * * * *", "a minute from 0 to 59 in place of '60'"),
        ("* 5-3 * * *", "counts upwards"),
        ("*/0 * * * *", "a step of 1 or more"),
        ("* * 0 * *", "a day of the month from 1 to 31"),
        ("* * * FOO *", "a month from 1 to 12 in place of 'FOO'"),
        ("* * * * MON#6", "#1 to #5"),
        ("1,,2 * * * *", "a minute from 0 to 59 in place of ''"),
        ("0 0 30 2 *", "a day that comes"),
        ("² * * * *", "a minute"),
    ],
)
def test_what_is_no_expression_says_which_part(expression: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        parse(expression)


@given(st.text(alphabet="0123456789*/-,?L#@ amonjsu\t", max_size=30))
def test_any_text_is_a_schedule_or_a_value_error(text: str) -> None:
    try:
        schedule = parse(text)
    except ValueError:
        return
    assert schedule.next_after(1_700_000_000) is not None


# -- against brute force ---------------------------------------------------------------------------------------------


def some(low: int, high: int) -> st.SearchStrategy[Any]:
    """None for any, or a few values."""
    return st.none() | st.frozensets(st.integers(low, high), min_size=1, max_size=4)


def written(values: frozenset[int] | None) -> str:
    return "*" if values is None else ",".join(map(str, sorted(values)))


def is_named(fields: list[frozenset[int] | None], local: time.struct_time) -> bool:
    minutes, hours, days, months, weekdays = fields
    weekday = (local.tm_wday + 1) % 7
    if days is not None and weekdays is not None:
        is_day = local.tm_mday in days or weekday in weekdays
    else:
        is_day = (days is None or local.tm_mday in days) and (weekdays is None or weekday in weekdays)
    return (
        local.tm_sec == 0
        and (minutes is None or local.tm_min in minutes)
        and (hours is None or local.tm_hour in hours)
        and (months is None or local.tm_mon in months)
        and is_day
    )


def brute_force(fields: list[frozenset[int] | None], start: int, end: int) -> int | None:
    """The first named moment after `start`: every minute of the local calendar is asked for."""
    is_hourly = fields[1] is None
    seen: set[tuple[int, ...]] = set()
    before = (start - 6 * 3600) // 60 * 60
    for now in range(before, end, 60):
        local, last = time.localtime(now), time.localtime(now - 60)
        shift = local.tm_gmtoff - last.tm_gmtoff
        skipped = (
            [time.gmtime(now - 60 + last.tm_gmtoff + step) for step in range(60, shift + 60, 60)] if shift > 0 else []
        )
        hit = is_named(fields, local) and (is_hourly or local[:5] not in seen)
        if not is_hourly and any(is_named(fields, moment) for moment in skipped):
            hit = True
        seen.add(tuple(local[:5]))
        if hit and now > start:
            return now
    return None


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(some(0, 59), some(0, 23), some(1, 31), some(1, 12), some(0, 6)),
    st.sampled_from(ZONES),
    st.sampled_from(("2026-03-28 20:00:00", "2026-10-24 20:00:00", "2026-03-07 20:00:00", "2026-10-31 20:00:00",
                     "2026-04-04 20:00:00", "2026-10-03 20:00:00", "2026-12-31 12:00:00", "2028-02-28 12:00:00")),
    st.integers(0, 86400),
)  # fmt: skip
def test_the_next_moment_is_the_one_that_brute_force_finds(fields: Any, zone: str, day: str, seconds: int) -> None:
    use_zone(zone)
    start = moment(day) + seconds
    end = (start + 36 * 3600) // 60 * 60
    expression = " ".join(written(values) for values in fields)
    found = parse_or_none(expression, start)
    assert (found if found is not None and found < end else None) == brute_force(list(fields), start, end)


def parse_or_none(expression: str, start: int) -> int | None:
    try:
        return parse(expression).next_after(start)
    except ValueError:
        return None  # 31 February


@settings(max_examples=50, deadline=None)
@given(st.frozensets(st.integers(0, 59), min_size=1, max_size=5), st.integers(0, 10_000))
def test_seconds_are_a_field_of_their_own(seconds: frozenset[int], start: int) -> None:
    use_zone("UTC0")
    found = parse(f"{written(seconds)} * * * * *").next_after(start)
    assert found == next(now for now in range(start + 1, start + 62) if now % 60 in seconds)
