"""When an app's `cron_restart` is due, with a clock that can be set."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from percore.supervisor.automation.schedule import CronSchedule
from percore.supervisor.base.loop import Loop

HOUR = 3600
NOON = 1_767_268_800  # 2026-01-01 12:00 UTC


class Clock:
    def __init__(self) -> None:
        self.now = float(NOON)
        self.rang: list[str] = []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    monkeypatch.setenv("TZ", "UTC0")
    yield Clock()
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def schedules(clock: Clock) -> Iterator[CronSchedule]:
    loop = Loop()
    made = CronSchedule(loop, clock.rang.append, lambda: clock.now)
    yield made
    made.follow({})
    loop.close()


def test_each_app_rings_at_its_time_and_again_at_the_next(schedules: CronSchedule, clock: Clock) -> None:
    schedules.follow({"hourly": "30 * * * *", "daily": "0 13 * * *"})
    clock.now = NOON + 1800.01
    schedules.came()
    assert clock.rang == ["hourly"]
    assert schedules.next_time("hourly") == NOON + 5400
    clock.now = NOON + HOUR
    schedules.came()
    assert clock.rang == ["hourly", "daily"]


def test_what_passed_while_the_machine_slept_comes_once(schedules: CronSchedule, clock: Clock) -> None:
    schedules.follow({"a": "30 * * * *"})
    clock.now = NOON + 10 * HOUR
    schedules.came()
    assert clock.rang == ["a"]
    assert schedules.next_time("a") == NOON + 10 * HOUR + 1800


def test_a_clock_that_is_put_forward_over_a_time_rings_once(schedules: CronSchedule, clock: Clock) -> None:
    schedules.follow({"a": "0 13 * * *"})
    clock.now = NOON + 400 * 24 * HOUR
    schedules.clock_was_set()
    assert clock.rang == ["a"]
    assert schedules.next_time("a") == NOON + 400 * 24 * HOUR + HOUR


def test_a_clock_that_is_put_back_a_little_does_not_ring_again_and_far_back_means_another_time(
    schedules: CronSchedule, clock: Clock
) -> None:
    schedules.follow({"a": "0 13 * * *"})
    clock.now = NOON + HOUR
    schedules.came()
    clock.now = NOON + HOUR - 600
    schedules.clock_was_set()
    assert schedules.next_time("a") == NOON + 25 * HOUR
    clock.now = NOON - 300 * 24 * HOUR
    schedules.clock_was_set()
    assert schedules.next_time("a") == NOON - 300 * 24 * HOUR + HOUR
    assert clock.rang == ["a"]


def test_an_app_that_went_away_rings_no_more_and_a_new_expression_counts_from_now(
    schedules: CronSchedule, clock: Clock
) -> None:
    schedules.follow({"a": "0 13 * * *", "b": "0 13 * * *"})
    schedules.follow({"b": "0 14 * * *"})
    clock.now = NOON + HOUR
    schedules.came()
    assert clock.rang == []
    assert schedules.next_time("a") is None
    assert schedules.next_time("b") == NOON + 2 * HOUR


def test_the_alarm_of_the_kernel_rings_in_the_loop_and_is_closed_when_nobody_needs_it() -> None:
    before = len(os.listdir("/proc/self/fd"))
    loop = Loop()
    rang: list[str] = []
    schedules = CronSchedule(loop, rang.append)
    schedules.follow({"a": "* * * * * *"})
    while not rang:
        loop.turn()
    schedules.follow({})
    loop.close()
    assert len(os.listdir("/proc/self/fd")) == before
