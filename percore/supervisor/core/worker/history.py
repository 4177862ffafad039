"""What became of a worker's processes so far: what decides about the next start, and what operators are shown."""

from __future__ import annotations

from collections.abc import Mapping

from percore.common.typing import Any
from percore.supervisor.config.app import AppConfig
from percore.supervisor.core.worker.backoff import Failures


class WorkerHistory:
    __slots__ = ("exit_code", "failures", "had_served", "last_delay", "last_end", "last_tail", "restarts",
                 "started_time", "unknown", "was_stable")  # fmt: skip

    def __init__(self) -> None:
        self.restarts = 0
        self.failures = Failures()
        self.exit_code = 0
        self.last_end = ""
        self.last_tail: list[str] = []  # of the last process that failed
        self.last_delay = 0.0  # seconds, of the last back-off
        self.had_served = False  # the last process was ready before it ended
        self.was_stable = False  # the same, for `min_uptime`
        self.started_time = 0.0  # wall clock, for people and for the state file
        self.unknown: Mapping[str, Any] = {}  # what another version wrote of the process, or of its end

    def has_failed(self, config: AppConfig) -> bool:
        """True for the end of a program that is not to be run again (`autorestart: false`), when it was no success."""
        return self.exit_code not in (0, *config.stop_exit_codes)
