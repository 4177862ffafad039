"""The life of a worker, as a table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from percore.supervisor.config import AppConfig
from percore.supervisor.states import HAS_PROCESS, TABLE, Action, Event, State, ends_for_good, react, restart_delay

CONFIG = AppConfig("app", "app.js", "/srv")


def reachable(start: State) -> set[State]:
    found = {start}
    while True:
        new = {step.state for (state, _), step in TABLE.items() if state in found} - found
        if not new:
            return found
        found |= new


def test_every_state_can_be_reached() -> None:
    assert reachable(State.STOPPED) == set(State)


def test_every_state_can_reach_stopped() -> None:
    assert all(State.STOPPED in reachable(state) for state in State)


@given(st.lists(st.sampled_from(list(Event))))
def test_a_process_is_started_only_where_there_is_none(events: list[Event]) -> None:
    state = State.STOPPED
    for event in events:
        before = state
        state, action = react(before, event)
        if action is Action.SPAWN:
            assert before not in HAS_PROCESS
            assert state in HAS_PROCESS
        if action in (Action.TERMINATE, Action.KILL):
            assert before in HAS_PROCESS


@given(st.lists(st.sampled_from(list(Event))))
def test_a_stop_always_ends(events: list[Event]) -> None:
    state = State.STOPPED
    for event in events:
        state = react(state, event).state
    state = react(state, Event.STOP).state
    # Whatever has a process is killed after its time, and then its end is seen.
    for event in (Event.TIMEOUT, Event.EXITED):
        state = react(state, event).state
    assert state is State.STOPPED


def test_the_first_crash_after_a_stable_run_waits_for_nothing() -> None:
    assert restart_delay(CONFIG, 1) == 0


def test_a_crash_loop_slows_down_to_a_limit_and_never_ends_by_itself() -> None:
    delays = [restart_delay(CONFIG, count) for count in range(2, 200)]
    assert all(delay is not None and 0.05 < delay < 15 * 1.21 for delay in delays)
    assert (delays[-1] or 0) > 15 * 0.7


def test_max_restarts_is_final_only_where_it_is_set() -> None:
    limited = CONFIG._replace(max_restarts=3)
    assert restart_delay(limited, 3) is not None
    assert restart_delay(limited, 4) is None


def test_a_fixed_and_a_growing_delay_are_honoured() -> None:
    assert restart_delay(CONFIG._replace(restart_delay=2.5), 7) == 2.5
    growing = CONFIG._replace(exp_backoff_restart_delay=0.1)
    assert [round(restart_delay(growing, count) or 0, 3) for count in (1, 2, 3)] == [0.1, 0.15, 0.225]


def test_listed_exit_codes_and_autorestart_false_end_for_good() -> None:
    assert ends_for_good(CONFIG._replace(stop_exit_codes=(3,)), 3)
    assert not ends_for_good(CONFIG._replace(stop_exit_codes=(3,)), 0)
    assert ends_for_good(CONFIG._replace(autorestart=False), 0)
