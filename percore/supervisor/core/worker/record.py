"""What the state file says of a worker, how one goes on by it, and where its logs are."""

from __future__ import annotations

from percore.common.typing import Any, Optional
from percore.supervisor.base.states import OVER_FOR_GOOD
from percore.supervisor.core.worker.worker import Worker
from percore.supervisor.logs.files import FileId, LogPaths, OpenLogs, log_paths, written_paths
from percore.supervisor.process.process import Process
from percore.supervisor.state.saved import SavedEnd, SavedWorker


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


def adopt_process(worker: Worker, process: Process, saved: SavedWorker) -> None:
    """Takes over a living process of an earlier supervisor, in the state that this worker was made with."""
    logs = OpenLogs(written_paths_of(worker), saved.log_starts, tuple(FileId(*file) for file in saved.log_files))
    worker.child.adopt(process, worker.runtime.environment, worker.place, worker.config, saved.token, logs)
    worker.sockets.addresses = list(saved.addresses)
    worker.sockets.mark(drains=False)  # what drains is marked anew
    history = worker.history
    history.started_time, history.restarts, history.unknown = saved.started_time, saved.restarts, saved.unknown
    worker.go_on()


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


def adopt_end(worker: Worker, saved: SavedEnd) -> None:
    """It was over under an earlier supervisor."""
    worker.failure = saved.failure
    history = worker.history
    history.exit_code, history.last_end, history.restarts = saved.exit_code, saved.last_end, saved.restarts
    history.started_time, history.unknown = saved.started_time, saved.unknown
