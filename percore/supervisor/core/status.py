"""Which apps and workers an operator names, and what is shown of them.

Values of environments only where they are asked for by name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence

from percore import __version__
from percore.common.app_names import names_of, plain_name
from percore.common.typing import Any
from percore.errors import UsageError, nearest
from percore.supervisor.base.states import State, WorkerRole
from percore.supervisor.config.app import AppConfig
from percore.supervisor.core.app import App
from percore.supervisor.core.apps import Apps
from percore.supervisor.core.slot import Slot
from percore.supervisor.core.worker.record import log_paths_of, written_paths_of
from percore.supervisor.core.worker.worker import Worker, is_finished
from percore.supervisor.logs.files import has_formatter
from percore.supervisor.process.pid_file import pid_path

_TRIES = frozenset({State.STARTING, State.RUNNING, State.BACKOFF})

_LONGEST_ID = 18
Chosen = list[tuple[App, list[Slot]]]


def status(apps: Apps) -> dict[str, Any]:
    return {
        "release": apps.release or None,
        "daemon": True,
        "version": __version__,
        "apps": [_app_status(app) for app in apps.values()],
    }


def _app_status(app: App) -> dict[str, Any]:
    addresses = list(app.listeners)
    ports = [address.port for address in addresses if address.port]
    return {
        "name": app.name,
        "namespace": app.config.namespace,
        "mode": app.config.mode,
        "release": app.config.release or None,
        "source": app.config.source,
        "wanted": len(app.slots) if app.wanted and not _rests(app) else 0,
        **({"job": {"scheduled": app.wanted}} if app.config.is_job else {}),
        "port": ports[0] if ports else app.config.port,
        "addresses": [str(address) for address in addresses],
        "counts": dict(app.runtime.counts.of(app.name)),
        "workers": [{**status_of(worker), **_hashes(worker.config)} for worker in app.workers],
    }


def _rests(app: App) -> bool:
    """Nothing of it should run just now."""
    return app.config.is_job or (app.config.waits_for_its_time and not any(slot.wanted for slot in app.slots))


def _hashes(config: AppConfig) -> dict[str, str]:
    config_hash, env_hash = config.hashes()
    return {"config_hash": config_hash, "env_hash": env_hash}


def describe(
    apps: Apps, selectors: Sequence[str], dropped: Mapping[str, int], *, with_env: bool = False
) -> list[dict[str, Any]]:
    """Everything about the selected workers; of their environments only the names, unless `with_env`. `dropped`: bytes
    of log lost, by path."""
    chosen = select_all(apps, selectors)
    for app, _ in chosen:
        apps.runtime.loop.faults.contain(f"looking at ports of {app.name}", app.router.find_conflicts)
    return [entry for app, slots in chosen for entry in _describe(app, slots, dropped, with_env=with_env)]


def _describe(app: App, slots: Iterable[Slot], dropped: Mapping[str, int], *, with_env: bool) -> list[dict[str, Any]]:
    found = []
    for slot in slots:
        worker = slot.worker
        config = worker.config.to_record()
        env = config.setdefault("env", {})
        if not with_env:
            config["env"] = sorted(env)
            if "hooks" in config:
                config["hooks"] = sorted(config["hooks"])  # an address may be secret
        paths = log_paths_of(worker)
        found.append({
            **status_of(worker), "name": app.name, "namespace": worker.config.namespace, "mode": app.config.mode,
            "config": config, "out_file": paths.out, "error_file": paths.error, "log_file": paths.combined,
            "log_dropped_bytes": sum(dropped.get(os.path.realpath(path), 0) for path in {*paths, *written_paths_of(worker)}),
            "has_lost_log": bool(worker.child.process) and worker.child.logs.is_moved,
            "log_starts": None if has_formatter(worker.config) else worker.child.logs.starts, "cwd": worker.config.cwd,
            "started_time": worker.history.started_time, "exit_code": worker.history.exit_code,
            "last_end": worker.history.last_end,
            "addresses": [str(address) for address in worker.sockets.addresses], "wanted": slot.wanted,
            "sharing": str(app.runtime.sharing) if worker.config.shares_port else "none",
            "thieves": [f"{owner} takes connections meant for {address}" for address, owner in app.router.conflicts.items()],
            "counts": dict(app.runtime.counts.of(app.name)),
            "memory_marks": worker.child.usage.marks if worker.child.process else [],
            "instances": len(app.slots), "pid_file": pid_path(worker.config, slot.id, app.runtime.environment.home.pids),
            "uncapped": app.runtime.children.groups.problem if worker.config.memory_max else "",
            **({"base_env": app.base_env} if with_env else {}),
        })  # fmt: skip
    return found


# -- which apps and slots an operator names ------------------------------------------------------------------------------


def select_all(apps: Mapping[str, App], selectors: Iterable[str]) -> Chosen:
    """What any of the selectors means, each slot once. Raises UsageError when one of them means nothing."""
    chosen: dict[str, list[Slot]] = {}
    for selector in selectors:
        for app, slots in select(apps, selector):
            known = chosen.setdefault(app.name, [])
            known += [slot for slot in slots if slot not in known]
    return [(apps[name], slots) for name, slots in chosen.items()]


def select_whole(apps: Mapping[str, App], selectors: Iterable[str]) -> Chosen:
    """For what cannot be done to one worker of several."""
    chosen = select_all(apps, selectors)
    for app, slots in chosen:
        if len(slots) < len(app.slots):
            raise UsageError(
                f"worker {slots[0].id} is one of {len(app.slots)} of '{app.name}'",
                next=f"percore delete {app.name}, or percore scale {app.name} {len(app.slots) - 1}",
            )
    return chosen


def select(apps: Mapping[str, App], selector: str) -> Chosen:
    """PM2's selectors: `all`, an id, a name, `namespace:name`, a namespace, `/regex/`. Raises UsageError when nothing matches."""
    everything = list(apps.values())
    if selector == "all":
        return [(app, app.slots) for app in everything]
    if selector.isascii() and selector.isdigit() and len(selector) <= _LONGEST_ID:
        by_id = [(app, [slot]) for app in everything for slot in app.slots if slot.id == int(selector)]
        if by_id:
            _refuse_ambiguous(apps, selector, by_id[0][0])
            return by_id
    if len(selector) > 2 and selector.startswith("/") and selector.endswith("/"):
        from percore.common.bounds import compile_regex, regex_limit

        try:
            pattern = compile_regex(selector[1:-1])
        except ValueError as error:
            raise UsageError(f"{selector} is not a regular expression: {error}") from None
        with regex_limit(selector):
            chosen = [app for app in everything if pattern.search(plain_name(app.name, app.config.namespace))]
    else:
        chosen = [app for app in everything if selector in names_of(app.name, app.config.namespace)] or [
            app for app in everything if app.config.namespace == selector
        ]
    if not chosen:
        known = nearest(selector, list(apps))
        hint = f"did you mean '{known}'?" if known else "see 'percore list'"
        raise UsageError(f"no app, id or namespace is called '{selector}'", next=hint)
    return [(app, app.slots) for app in chosen]


def _refuse_ambiguous(apps: Mapping[str, App], selector: str, found: App) -> None:
    """An app may be called as the worker of another one is numbered."""
    if selector in apps and apps[selector] is not found:
        raise UsageError(
            f"'{selector}' is an id of '{found.name}', and the name of another app",
            next=f"/^{selector}$/ means the name",
        )


# -- one worker ------------------------------------------------------------------------------------------------------


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
    shown = State.STOPPING if worker.role is WorkerRole.OUTGOING and worker.is_ready else worker.state
    ports = [address.port for address in worker.sockets.addresses if address.port]
    return {
        "slot": worker.number,
        "id": worker.place.id,
        "pid": worker.pid,
        "state": shown.value,
        "role": worker.role.value,
        "release": config.release,
        "port": ports[0] if ports else config.port_of(worker.number),
        "memory_bytes": child.usage.memory_bytes if child.process else 0,
        "cpu_percent": child.usage.cpu_percent if child.process else 0.0,
        "uptime_seconds": round(time.monotonic() - child.started_at, 3) if child.process else 0.0,
        "restarts": history.restarts,
        "unstable_restarts": history.failures.unstable,
        "last_delay": round(history.last_delay, 3),
        "crash_looping": is_crash_looping(worker),
        "finished": is_finished(worker),
        "failure": worker.liveness.unhealthy if worker.is_ready else worker.failure,
    }
