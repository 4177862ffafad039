"""What became of a worker's processes so far, and when the next one is started. Pure: the clock is an argument.

Never final by itself: supervisors that give up after three tries are the ones their users curse. A crash loop is slowed
down and said instead, and only `max_restarts`, where a process file sets it, ends it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence

from percore.common.typing import Any, Optional
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.kinds import FORK

# None for a worker that had been ready, whatever it lived; for others none at first, then 0.1 s doubling to 15 s.
_FIRST_WAIT = 0.1
LONGEST_WAIT = 15.0
_GROWTH = 1.5  # of exp_backoff_restart_delay
# So many ends within so many seconds are a crash loop, however long each life was.
LOOP_ENDS = 10
LOOP_SECONDS = 60.0
_LOOP_WAIT = 5.0
# While clients wait for a worker that had served, its starts are no further apart than this. So they soon have an answer, and
# a program that dies of its clients is still slow.
SERVE_AGAIN_SECONDS = 1.0
# After running this long, earlier ends count no more.
CALM_SECONDS = 30.0


class Failures:
    """The ends of one worker that were not asked for: how many in a row, and how many lately."""

    __slots__ = ("_times", "in_a_row", "is_loop", "quick", "unready", "unstable")

    def __init__(self) -> None:
        self.quick = 0  # in a row, each before `min_uptime`
        self.unready = 0  # in a row, each before it was ready
        self.unstable = 0  # all that came before `min_uptime`
        self.in_a_row = 0  # without CALM_SECONDS of running between them
        self.is_loop = False
        self._times: deque[float] = deque(maxlen=LOOP_ENDS)

    def add(self, now: float, *, was_stable: bool, was_ready: bool) -> None:
        """One more end; `was_stable` when it came after `min_uptime`."""
        self.quick = 0 if was_stable else self.quick + 1
        self.unready = 0 if was_ready else self.unready + 1
        self.unstable += not was_stable
        self.in_a_row += 1
        self._times.append(now)
        if len(self._times) == LOOP_ENDS and now - self._times[0] <= LOOP_SECONDS:
            self.is_loop = True

    def calm(self) -> None:
        """The worker ran for CALM_SECONDS: what was is forgotten, but for the count that people see."""
        self.quick = self.unready = self.in_a_row = 0
        self.is_loop = False
        self._times.clear()


class WorkerHistory:
    """What decides about the next start, and what operators are shown."""

    __slots__ = (
        "exit_code",
        "failures",
        "had_served",
        "is_overdue",
        "last_delay",
        "last_end",
        "last_tail",
        "restarts",
        "started_time",
        "unknown",
        "was_in_time",
        "was_stable",
    )

    def __init__(self) -> None:
        self.restarts = 0
        self.failures = Failures()
        self.exit_code = 0
        self.last_end = ""
        self.last_tail: list[str] = []  # of the last process that failed
        self.last_delay = 0.0  # seconds, of the last back-off
        self.had_served = False  # the last process was ready before it ended
        self.is_overdue = False  # the process is not ready in time, and goes on
        self.was_in_time = False  # a process was ready within its time, since somebody started it
        self.was_stable = False  # as `had_served`, for `min_uptime`
        self.started_time = 0.0  # wall clock, for people and for the state file
        self.unknown: Mapping[str, Any] = {}  # what another version wrote of the process, or of its end

    def has_failed(self, config: AppConfig) -> bool:
        """True for the end of a program that is not to be run again (`autorestart: false`), when it was no success."""
        return self.exit_code not in (0, *config.stop_exit_codes)


def ends_for_good(config: AppConfig, exit_code: Optional[int]) -> bool:
    """True when the restart policy accepts this end: no restart. The code is None where it is not known."""
    return not config.autorestart or exit_code in config.stop_exit_codes


def has_given_up(config: AppConfig, failures: Failures) -> bool:
    return config.max_restarts is not None and failures.quick > config.max_restarts


def next_delay(config: AppConfig, failures: Failures) -> Optional[float]:
    """As `restart_delay`; None where it has given up."""
    return None if has_given_up(config, failures) else restart_delay(config, failures)


def restart_delay(config: AppConfig, failures: Failures) -> float:
    """Seconds to wait before the next start. A delay that the process file sets counts as it stands."""
    if config.exp_backoff_restart_delay:
        return float(min(config.exp_backoff_restart_delay * _GROWTH ** min(failures.in_a_row - 1, 100), LONGEST_WAIT))
    if config.restart_delay:
        return config.restart_delay
    early = failures.quick if failures.is_loop else failures.unready
    wait = min(_FIRST_WAIT * 2.0 ** min(early - 2, 30), LONGEST_WAIT) if early > 1 else 0.0
    return _with_jitter(max(wait, _LOOP_WAIT) if failures.is_loop else wait)


def may_be_cut_short(config: AppConfig) -> bool:
    """Whether waiting clients shorten the delay: not one that the process file sets."""
    return not (config.restart_delay or config.exp_backoff_restart_delay)


def _with_jitter(wait: float) -> float:
    """Workers that died together do not all start together."""
    return wait * (0.8 + 0.4 * os.urandom(1)[0] / 255)


def hint_of(config: AppConfig, tail: Sequence[str]) -> str:
    """For workers of an app that compete for one port."""
    is_one_of_many = config.mode == FORK and config.instances != 1
    if is_one_of_many and any("EADDRINUSE" in line or "already in use" in line for line in tail):
        return "; another worker has its port -> exec_mode: cluster, which shares it"
    return ""
