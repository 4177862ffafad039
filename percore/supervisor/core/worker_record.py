"""A worker as operators are shown it, and as the state file has it."""

from __future__ import annotations

import time

from percore.common.typing import Any, Optional
from percore.supervisor.core.worker import Worker
from percore.supervisor.logs.files import LogPaths, log_paths, written_paths
from percore.supervisor.states import OVER_FOR_GOOD, Role, State

_TRIES = frozenset({State.STARTING, State.RUNNING, State.BACKOFF})


def is_crash_looping(worker: Worker) -> bool:
    return worker.history.failures.is_loop and not worker.is_stable and worker.state in _TRIES


def line_of(worker: Worker) -> str:
    """What the log says of its change; empty where there is nothing new to say."""
    name, process = f"{worker.config.name} {worker.number}", worker.child.process
    is_running = worker.state is State.RUNNING
    if is_running and worker.liveness.unhealthy:
        return f"{name}: {worker.liveness.unhealthy}; new connections go to the others"
    if is_running and worker.is_stable:
        return ""  # "running" was said when it became ready
    pid = f" (pid {process.pid})" if process else ""
    trouble = f": {worker.failure}" if worker.failure and not is_running else ""
    return f"{name}: {'crash-looping' if is_crash_looping(worker) else worker.state.value}{pid}{trouble}"


def status_of(worker: Worker) -> dict[str, Any]:
    child, history, config = worker.child, worker.history, worker.config
    if child.process:
        child.usage.sample(child.process.pid)
    shown = State.STOPPING if worker.role is Role.OUTGOING and worker.is_ready else worker.state
    ports = [address.port for address in worker.sockets.addresses if address.port]
    return {
        "slot": worker.number,
        "id": worker.place.id,
        "pid": worker.pid,
        "state": shown.value,
        "release": config.release,
        "port": ports[0] if ports else config.port_of(worker.number),
        "memory_bytes": child.usage.memory_bytes if child.process else 0,
        "cpu_percent": child.usage.cpu_percent if child.process else 0.0,
        "uptime_seconds": round(time.monotonic() - child.started_at, 3) if child.process else 0.0,
        "restarts": history.restarts,
        "unstable_restarts": history.failures.unstable,
        "last_delay": round(history.last_delay, 3),
        "crash_looping": is_crash_looping(worker),
        "failure": worker.liveness.unhealthy if worker.is_ready else worker.failure,
    }


def log_paths_of(worker: Worker) -> LogPaths:
    """What people read of it."""
    return log_paths(worker.config, worker.number, worker.runtime.environment.home.logs)


def written_paths_of(worker: Worker) -> tuple[str, str]:
    """What the process itself writes; the same as what people read, unless a formatter stands between."""
    return written_paths(worker.config, worker.number, worker.runtime.environment.home.logs)


def record_of_process(worker: Worker) -> Optional[dict[str, Any]]:
    """What a new supervisor needs to adopt the process; None when there is none."""
    child = worker.child
    if not child.process:
        return None
    return {
        **worker.history.unknown,
        "role": worker.role.value,
        "state": worker.state.value,
        "pid": child.process.pid,
        "start_time": child.process.start_time,
        "token": child.token,
        "generation": worker.sockets.generation,
        "config": worker.config.to_record(),
        "addresses": [list(address) for address in worker.sockets.addresses],
        "started_time": worker.history.started_time,
        "restarts": worker.history.restarts,
        "log_starts": list(child.logs.starts),
        "log_files": [list(file) for file in child.logs.files],
    }


def record_of_end(worker: Worker) -> Optional[dict[str, Any]]:
    """What a new supervisor needs to leave it as it is: the job is done, or was given up; None where it is not so."""
    if worker.state not in OVER_FOR_GOOD:
        return None
    history = worker.history
    return {
        **history.unknown,
        "state": worker.state.value,
        "exit_code": history.exit_code,
        "failure": worker.failure,
        "last_end": history.last_end,
        "restarts": history.restarts,
        "started_time": history.started_time,
    }
