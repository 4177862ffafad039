from __future__ import annotations

import pytest

from tests.bench.supervisor.table import Goal, Result, Sample, at_most, both, render, times_pm2


def result(goal: Goal, ours: list[float], theirs: list[float], *, kept: bool = True) -> Result:
    return Result("row", "something", "ms", goal, [Sample(value, kept=kept) for value in ours], [*map(Sample, theirs)])


@pytest.mark.parametrize(
    ("goal", "ours", "theirs", "is_reached"),
    [
        (times_pm2(0.5), [50.0, 51.0, 900.0], [102.0], True),  # the median counts, not an outlier
        (times_pm2(0.5), [52.0], [102.0], False),
        (times_pm2(2.2, more=True), [221.0], [100.0], True),
        (times_pm2(2.2, more=True), [219.0], [100.0], False),
        (at_most(14, "<= 14 MB"), [14.0], [], True),
        (both(at_most(5, "<= 5 ms"), times_pm2(0.5)), [4.0], [7.0], False),
    ],
)
def test_a_goal_is_judged_by_the_medians(goal: Goal, ours: list[float], theirs: list[float], is_reached: bool) -> None:
    assert result(goal, ours, theirs).is_reached is is_reached


def test_a_promise_that_was_not_kept_once_misses_the_goal_whatever_the_number() -> None:
    assert not result(at_most(0, "0"), [0.0], [], kept=False).is_reached


def test_a_row_that_pm2_has_nothing_for_has_no_ratio() -> None:
    row = result(at_most(0, "0"), [0.0], [])
    assert row.ratio is None
    assert row.to_record()["pm2"] is None


def test_the_table_shows_median_spread_ratio_and_verdict() -> None:
    line = render([result(times_pm2(0.5), [10.0, 12.0, 11.0], [20.0])]).splitlines()[-1]
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "something", "ms", "11 (10-12)", "20", "0.55 x", "<= 0.5 x", "NO",
    ]  # fmt: skip
