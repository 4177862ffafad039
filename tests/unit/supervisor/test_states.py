"""The life of a worker, as a table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from percore.supervisor.base.states import HAS_PROCESS, TABLE, Action, Event, State, react


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
