"""One look at a host: what the supervisor says of its apps, and the connections of their workers, as one plain value.

The same value comes from the supervisor beside us and from a host at the other end of a connection, so everything above
this module works for one host as for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from percore.common.typing import Any, NamedTuple, Optional
from percore.common.worker_status import is_job, is_up

CRASH_LOOPING = "crash-looping"
TROUBLED = ("backoff", "fatal", CRASH_LOOPING)
"""States in which something is to be done."""

UNPLANNED = ("crash", "exit", "memory", "unhealthy", "stranded")
"""Causes of a restart that nobody asked for, as the supervisor counts them."""
RELOADED, RELOAD_FAILED = "reloaded", "reload_failed"


class WorkerFigures(NamedTuple):
    id: int
    slot: int
    pid: int  # 0: none runs
    state: str
    cpu: float  # percent of one core, of the process and all below it
    memory: int  # bytes, likewise
    uptime: float  # seconds
    restarts: int  # as in `percore list`: those of reloads included
    failure: str
    is_up: bool
    open: Optional[int] = None  # connections; None where they cannot be counted
    queue: Optional[int] = None
    accepted: Optional[int] = None  # since its processes started


class AppFigures(NamedTuple):
    name: str
    mode: str
    release: str
    addresses: Sequence[str]
    wanted: int
    is_job: bool
    workers: Sequence[WorkerFigures]
    counts: Mapping[str, int]  # what happened to it, by kind; they never fall

    @property
    def restarts(self) -> int:
        """That nobody asked for; an older supervisor counts all of them together."""
        if not self.counts:
            return sum(worker.restarts for worker in self.workers)
        return sum(self.counts.get(cause, 0) for cause in UNPLANNED)

    @property
    def reloads(self) -> int:
        return self.counts.get(RELOADED, 0)

    @property
    def problem(self) -> str:
        """Why it is not as it should be; empty where all is well."""
        if not self.wanted:
            return ""
        failures = (worker.failure for worker in self.workers if not worker.is_up or worker.failure)
        failure = next(filter(None, failures), "")
        up = sum(worker.is_up for worker in self.workers)
        if up < self.wanted and not self.is_job:
            return failure or f"{up} of {self.wanted} workers run"
        return failure


class MachineFigures(NamedTuple):
    """What the whole host has and uses; zeros where nobody looked."""

    cores: int = 0
    load: float = 0.0
    memory_bytes: int = 0
    memory_used_bytes: int = 0


class HostSample(NamedTuple):
    apps: Sequence[AppFigures]
    machine: MachineFigures = MachineFigures()
    problem: str = ""  # why nothing is known
    next: str = ""  # what to type then


def read_status(status: Mapping[str, Any], connections: Mapping[int, Any], machine: MachineFigures) -> HostSample:
    """Of the supervisor's reply to `status`; `connections` by worker id (see `count_connections`)."""
    return HostSample([_read_app(app, connections) for app in status["apps"]], machine)


def _read_app(app: Mapping[str, Any], connections: Mapping[int, Any]) -> AppFigures:
    # During a reload a slot has two workers; the one that serves is the slot's until the other takes over.
    by_slot: dict[int, Mapping[str, Any]] = {}
    for worker in app["workers"]:
        by_slot.setdefault(worker["slot"], worker)
    return AppFigures(
        name=app["name"],
        mode=app["mode"],
        release=app.get("release") or "",
        addresses=[str(address) for address in app.get("addresses") or ()],
        wanted=app["wanted"],
        is_job=is_job(app),
        workers=[_read_worker(worker, connections) for _, worker in sorted(by_slot.items())],
        counts=app.get("counts") or {},
    )


def _read_worker(worker: Mapping[str, Any], connections: Mapping[int, Any]) -> WorkerFigures:
    id = worker.get("id", worker["slot"])  # an older supervisor does not say it
    counted = connections.get(id)
    return WorkerFigures(
        id=id,
        slot=worker["slot"],
        pid=worker["pid"] or 0,
        state=CRASH_LOOPING if worker.get("crash_looping") else worker["state"],
        cpu=float(worker["cpu_percent"]),
        memory=worker["memory_bytes"],
        uptime=worker["uptime_seconds"],
        restarts=worker["restarts"],
        failure=worker.get("failure") or "",
        is_up=is_up(worker),
        open=counted.open if counted else None,
        queue=counted.queue if counted else None,
        accepted=counted.accepted if counted else None,
    )


def total(values: Sequence[Optional[float]]) -> Optional[float]:
    """None where none of them is known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
