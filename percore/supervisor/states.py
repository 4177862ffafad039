"""The life of a worker as a table: state and event in, next state and action out. Pure; nothing here touches a process.

An empty cell of the table changes nothing: a late event of the operating system is dropped, and an operator's request is
answered with the state it met.
"""

from __future__ import annotations

import os
from enum import Enum
from typing import NamedTuple, Optional

from percore.supervisor.config import AppConfig


class State(str, Enum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    EXITED = "exited"
    FATAL = "fatal"


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


def react(state: State, event: Event) -> Step:
    """The next state, and what to do on the way there; the same state and no action where the table is empty."""
    return TABLE.get((state, event), Step(state))


# Waits between crashes: none after a stable run, then 0.1 s doubling to 15 s. Never final by itself: supervisors that give
# up after three tries are the ones their users curse.
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 15.0


def ends_for_good(config: AppConfig, exit_code: int) -> bool:
    """True when the restart policy accepts this end: no restart."""
    return not config.autorestart or exit_code in config.stop_exit_codes


def restart_delay(config: AppConfig, quick_failures: int) -> Optional[float]:
    """Seconds to wait after the `quick_failures`-th end in a row that came before `min_uptime`; None: give up."""
    if config.max_restarts is not None and quick_failures > config.max_restarts:
        return None
    if config.exp_backoff_restart_delay:
        return float(min(config.exp_backoff_restart_delay * 1.5 ** max(0, quick_failures - 1), _LONGEST_WAIT))
    if config.restart_delay:
        return config.restart_delay
    if quick_failures <= 1:
        return 0.0
    # Jitter, so that workers that died together do not all start together.
    wait = min(_FIRST_WAIT * 2.0 ** min(quick_failures - 2, 30), _LONGEST_WAIT)
    return wait * (0.8 + 0.4 * os.urandom(1)[0] / 255)
