"""When a worker that ended is started again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from percore.supervisor.config.app import AppConfig
from percore.supervisor.core.worker.history import (
    CALM_SECONDS,
    LONGEST_WAIT,
    Failures,
    ends_for_good,
    has_given_up,
    restart_delay,
)

CONFIG = AppConfig("app", "app.js", "/srv")


def ended(times: int, *, apart: float = 0.0, was_stable: bool = False, was_ready: bool = False) -> Failures:
    failures = Failures()
    for number in range(times):
        failures.add(number * apart, was_stable=was_stable, was_ready=was_ready or was_stable)
    return failures


def test_the_first_crash_waits_for_nothing() -> None:
    assert restart_delay(CONFIG, ended(1)) == 0
    assert restart_delay(CONFIG, ended(3, apart=100, was_stable=True)) == 0


def test_a_worker_that_had_been_ready_starts_again_at_once_until_it_is_a_crash_loop() -> None:
    delays = [restart_delay(CONFIG, ended(count, apart=0.3, was_ready=True)) for count in range(1, 12)]
    assert delays[:9] == [0] * 9
    assert min(delays[9:]) >= 4


def test_the_delays_of_a_worker_that_was_not_ready_begin_anew_when_it_was() -> None:
    failures = ended(8)
    failures.calm()
    for number in range(3):
        failures.add(100 + number, was_stable=False, was_ready=False)
    assert restart_delay(CONFIG, failures) > 0
    failures.add(104, was_stable=False, was_ready=True)
    assert restart_delay(CONFIG, failures) == 0


def test_quick_ends_slow_down_to_a_limit_and_are_never_final() -> None:
    delays = [restart_delay(CONFIG, ended(count, apart=100)) for count in range(2, 60)]
    assert all(0.05 < delay < LONGEST_WAIT * 1.21 for delay in delays)
    assert delays[-1] > LONGEST_WAIT * 0.7
    assert not has_given_up(CONFIG, ended(10_000))


def test_an_app_that_crashes_after_each_stable_run_is_a_crash_loop_too_and_is_slowed_down() -> None:
    failures = ended(10, apart=1.2, was_stable=True)
    assert failures.is_loop
    assert failures.unstable == 0
    assert restart_delay(CONFIG, failures) >= 4


def test_crashes_far_apart_are_no_loop() -> None:
    assert not ended(100, apart=10).is_loop


def test_a_slowed_loop_stays_one_until_the_worker_runs_in_calm() -> None:
    failures = ended(10)
    failures.add(1000, was_stable=True, was_ready=True)
    assert failures.is_loop
    failures.calm()
    assert not failures.is_loop
    assert restart_delay(CONFIG, failures) == 0
    assert failures.unstable == 10


def test_max_restarts_is_final_only_where_it_is_set_and_counts_quick_ends_in_a_row() -> None:
    limited = CONFIG._replace(max_restarts=3)
    assert not has_given_up(limited, ended(3))
    assert has_given_up(limited, ended(4))
    failures = ended(3)
    failures.add(10, was_stable=True, was_ready=True)
    failures.add(11, was_stable=False, was_ready=False)
    assert not has_given_up(limited, failures)


def test_a_fixed_delay_is_honoured_also_in_a_loop() -> None:
    assert restart_delay(CONFIG._replace(restart_delay=2.5), ended(20)) == 2.5


def test_the_growing_delay_grows_by_half_to_15_s_whether_or_not_min_uptime_was_reached() -> None:
    growing = CONFIG._replace(exp_backoff_restart_delay=0.1)
    for was_stable in (False, True):
        delays = [restart_delay(growing, ended(count, was_stable=was_stable)) for count in range(1, 1200)]
        assert [round(delay, 3) for delay in delays[:3]] == [0.1, 0.15, 0.225]
        assert delays[-1] == LONGEST_WAIT


def test_the_growing_delay_begins_anew_after_thirty_seconds_of_running() -> None:
    assert CALM_SECONDS == 30
    failures = ended(8)
    failures.calm()
    failures.add(100, was_stable=True, was_ready=True)
    assert restart_delay(CONFIG._replace(exp_backoff_restart_delay=0.1), failures) == 0.1


def test_listed_exit_codes_and_autorestart_false_end_for_good() -> None:
    assert ends_for_good(CONFIG._replace(stop_exit_codes=(3,)), 3)
    assert not ends_for_good(CONFIG._replace(stop_exit_codes=(3,)), 0)
    assert not ends_for_good(CONFIG._replace(stop_exit_codes=(0,)), None)
    assert ends_for_good(CONFIG._replace(autorestart=False), 0)
    assert ends_for_good(CONFIG._replace(autorestart=False), None)


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans(), st.booleans()), min_size=1, max_size=50))
def test_no_history_waits_longer_than_the_limit(lives: list[tuple[float, bool, bool]]) -> None:
    failures, now = Failures(), 0.0
    for seconds, was_stable, was_ready in lives:
        now += seconds
        failures.add(now, was_stable=was_stable, was_ready=was_ready)
        assert 0 <= restart_delay(CONFIG, failures) <= LONGEST_WAIT * 1.2
