"""`jobs` of a process file: an app that runs at its times and ends, as an `AppConfig`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from percore.common.typing import Any
from percore.errors import UsageError
from percore.supervisor.config import kinds
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.app_reader import key_name, make_app
from percore.supervisor.config.formats import line_of, shown
from percore.supervisor.config.kinds import FORK
from percore.supervisor.config.value_types import milliseconds, schedule

_KEYS = {
    "cron": ("job_cron", schedule),
    "timezone": ("job_timezone", kinds.zone),
    "overlap": ("job_overlap", kinds.KINDS["Overlap"]),
    "timeout": ("job_timeout", milliseconds),
    "where": ("job_where", kinds.KINDS["Where"]),
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
    for key, (field, read) in _KEYS.items():
        if written.get(key) is not None:
            fields[field] = _read(written, key, read, path, title)
    if not fields.get("job_cron"):
        raise UsageError(f"{title} has no 'cron'", where=path, next="say when it runs, such as cron: '30 4 * * *'")
    rest = {key: value for key, value in written.items() if key not in _KEYS}
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
