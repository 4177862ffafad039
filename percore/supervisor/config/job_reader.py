"""`jobs` of a process file: an app that runs at its times and ends, as an `AppConfig`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from percore.common.typing import Any, NamedTuple
from percore.errors import UsageError
from percore.supervisor.config import kinds
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.app_reader import key_name, make_app
from percore.supervisor.config.formats import line_of, shown
from percore.supervisor.config.kinds import FORK
from percore.supervisor.config.value_types import Reader, milliseconds, schedule


class JobKey(NamedTuple):
    field: str  # of AppConfig
    read: Reader
    help: str
    default: str


JOB_KEYS = {
    "cron": JobKey("job_cron", schedule, "when it runs, as `cron_restart`", "required"),
    "timezone": JobKey(
        "job_timezone",
        kinds.zone,
        "time zone of these times, such as `Europe/Berlin` (package `tzdata` on the host)",
        "that of the host",
    ),
    "overlap": JobKey(
        "job_overlap",
        kinds.KINDS["Overlap"],
        "when its time comes while it still runs: `forbid` leaves that time out; `queue` runs it once more afterwards, "
        "however many times came",
        "forbid",
    ),
    "timeout": JobKey(
        "job_timeout",
        milliseconds,
        "a run that takes longer is stopped as `percore stop` does, and has failed",
        "none",
    ),
    "where": JobKey(
        "job_where",
        kinds.KINDS["Where"],
        "`each`: on every host of a fleet; `one`: on one host. The variable `placement` of the inventory wins",
        "each",
    ),
}

_OF_APPS = frozenset({
    "instances", "exec_mode", "share_port", "port", "port_per_worker", "listen", "health", "health_host", "instance_var",
    "increment_var", "wait_ready", "listen_timeout", "health_interval", "liveness_timeout", "shutdown_with_message",
    "autostart", "autorestart", "min_uptime", "max_restarts", "restart_delay", "exp_backoff_restart_delay",
    "max_memory_restart", "heap_snapshots", "cron_restart", "watch", "ignore_watch", "watch_delay", "depends_on", "pid_file",
})  # fmt: skip
"""Keys about programs that run all the time."""


def list_jobs(content: Any, path: str) -> Sequence[Mapping[str, Any]]:
    """The entries of `jobs`. Raises UsageError."""
    written = content.get("jobs") if isinstance(content, Mapping) else None
    if written is None:
        return []
    if not isinstance(written, list) or not all(isinstance(entry, Mapping) for entry in written):
        raise UsageError(f"'jobs' must be a list of jobs, not {shown(written)}", where=line_of(content, "jobs", path))
    return written


def make_job(written: Mapping[str, Any], *, path: str, number: int, **more: Any) -> AppConfig:
    """As `make_app`."""
    title = f"job '{written.get('name')}'" if written.get("name") else f"job {number}"
    fields = {}
    for key, job_key in JOB_KEYS.items():
        if written.get(key) is not None:
            fields[job_key.field] = _read(written, key, job_key.read, path, title)
    if not fields.get("job_cron"):
        raise UsageError(f"{title} has no 'cron'", where=path, next="say when it runs, such as cron: '30 4 * * *'")
    rest = {key: value for key, value in written.items() if key not in JOB_KEYS}
    for key in rest:
        if key_name(key) in _OF_APPS:
            raise UsageError(
                f"key '{key}' means nothing for {title}, which runs and ends", where=line_of(written, key, path)
            )
    config = make_app(rest, path=path, number=number, **more)
    return config._replace(**fields, mode=FORK, instances=1, autorestart=False)


def _read(written: Mapping[str, Any], key: str, read: Any, path: str, title: str) -> Any:
    try:
        return read(written[key])
    except (ValueError, TypeError) as error:
        wanted = str(error) if isinstance(error, ValueError) else "another kind of value"
        where = line_of(written, key, path)
        raise UsageError(f"key '{key}' of {title} must be {wanted}, not {shown(written[key])}", where=where) from None
