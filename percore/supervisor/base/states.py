"""The life of a worker as a table: state and event in, next state and action out. Pure; nothing here touches a process.

An empty cell of the table changes nothing: a late event of the operating system is dropped, and an operator's request is
answered with the state it met.
"""

from __future__ import annotations

from enum import Enum

from percore.common.typing import NamedTuple, Optional


class State(str, Enum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    EXITED = "exited"
    FATAL = "fatal"


class WorkerRole(Enum):
    """What a worker is to its slot. Only the current one is started again when it ends by itself."""

    CURRENT = "current"
    INCOMING = "incoming"
    OUTGOING = "outgoing"


class Event(str, Enum):
    START = "start"
    STOP = "stop"
    READY = "ready"
    EXITED = "exited"  # the process ended, and the restart policy wants another one
    FINISHED = "finished"  # the process ended, and the restart policy accepts that
    TIMEOUT = "timeout"  # the time of the present state is over
    GAVE_UP = "gave up"


class Action(str, Enum):
    SPAWN = "spawn"
    TERMINATE = "terminate"
    KILL = "kill"


class Step(NamedTuple):
    state: State
    action: Optional[Action] = None


TABLE: dict[tuple[State, Event], Step] = {
    (State.STOPPED, Event.START): Step(State.STARTING, Action.SPAWN),
    (State.STARTING, Event.STOP): Step(State.STOPPING, Action.TERMINATE),
    (State.STARTING, Event.READY): Step(State.RUNNING),
    (State.STARTING, Event.EXITED): Step(State.BACKOFF),
    (State.STARTING, Event.FINISHED): Step(State.EXITED),
    (State.STARTING, Event.TIMEOUT): Step(State.STARTING, Action.KILL),
    (State.RUNNING, Event.STOP): Step(State.STOPPING, Action.TERMINATE),
    (State.RUNNING, Event.EXITED): Step(State.BACKOFF),
    (State.RUNNING, Event.FINISHED): Step(State.EXITED),
    (State.STOPPING, Event.EXITED): Step(State.STOPPED),
    (State.STOPPING, Event.FINISHED): Step(State.STOPPED),
    (State.STOPPING, Event.TIMEOUT): Step(State.STOPPING, Action.KILL),
    (State.BACKOFF, Event.START): Step(State.STARTING, Action.SPAWN),
    (State.BACKOFF, Event.STOP): Step(State.STOPPED),
    (State.BACKOFF, Event.TIMEOUT): Step(State.STARTING, Action.SPAWN),
    (State.BACKOFF, Event.GAVE_UP): Step(State.FATAL),
    (State.EXITED, Event.START): Step(State.STARTING, Action.SPAWN),
    (State.EXITED, Event.STOP): Step(State.STOPPED),
    (State.FATAL, Event.START): Step(State.STARTING, Action.SPAWN),
    (State.FATAL, Event.STOP): Step(State.STOPPED),
}

HAS_PROCESS = frozenset({State.STARTING, State.RUNNING, State.STOPPING})
OVER_FOR_GOOD = frozenset({State.EXITED, State.FATAL})  # until an operator starts it


def react(state: State, event: Event) -> Step:
    """The next state, and what to do on the way there; the same state and no action where the table is empty."""
    return TABLE.get((state, event), Step(state))
