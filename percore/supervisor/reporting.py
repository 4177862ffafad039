"""What operators are shown of apps and workers; values of environments are left out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from percore.supervisor.app import App
from percore.supervisor.slot import Slot


def app_status(app: App) -> dict[str, Any]:
    addresses = list(app.listeners)
    ports = [address.port for address in addresses if address.port]
    return {
        "name": app.name,
        "mode": app.config.mode,
        "wanted": len(app.slots) if app.wanted else 0,
        "port": ports[0] if ports else app.config.port,
        "addresses": [str(address) for address in addresses],
        "workers": [worker.status() for worker in app.workers],
    }


def describe(app: App, slots: Iterable[Slot]) -> list[dict[str, Any]]:
    """Everything about the worker of each slot, for `describe`, `jlist` and `logs`."""
    found = []
    for slot in slots:
        worker = slot.worker
        config = worker.config.to_record()
        config["env"] = sorted(config.get("env", {}))
        paths = worker.log_paths
        found.append({
            **worker.status(), "name": app.name, "namespace": worker.config.namespace, "mode": app.config.mode,
            "config": config, "out_file": paths.out, "error_file": paths.error, "cwd": worker.config.cwd,
            "started_time": worker.started_time, "exit_code": worker.exit_code, "last_end": worker.last_end,
            "addresses": [str(address) for address in worker.addresses], "wanted": slot.wanted,
            "sharing": ("steered" if app.runtime.can_steer else "one socket") if worker.config.shares_port else "none",
            "instances": len(app.slots),
        })  # fmt: skip
    return found
