"""What the state file says of a worker, and where its logs are."""

from __future__ import annotations

from percore.common.typing import Any, Optional
from percore.supervisor.base.states import OVER_FOR_GOOD
from percore.supervisor.core.worker.worker import Worker
from percore.supervisor.logs.files import LogPaths, log_paths, written_paths


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
