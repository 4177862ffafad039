"""`percore list` and `percore status`."""

from __future__ import annotations

import json

from percore.supervisor.commands import take_none
from percore.supervisor.commands.asking import ask_or_nothing, select_workers
from percore.supervisor.commands.pm2json import shown_state
from percore.supervisor.commands.tables import duration, size, table


def show_status(arguments: list[str]) -> int:
    if "--json" not in arguments:
        return list_apps(arguments)
    result = ask_or_nothing("status") or {"release": None, "apps": [], "daemon": False}
    print(json.dumps({key: value for key, value in result.items() if key not in ("event", "ok")}))
    return 0


def list_apps(arguments: list[str]) -> int:
    take_none("list", arguments)
    print_list()
    return 0


def print_list() -> None:
    workers = select_workers()
    rows = [
        [
            str(worker["id"]), worker["name"], worker["mode"], str(worker["pid"] or "-"),
            duration(worker["uptime_seconds"]) if worker["pid"] else "-", str(worker["restarts"]),
            shown_state(worker), f"{worker['cpu_percent']:.0f}%", size(worker["memory_bytes"]),
        ]
        for worker in sorted(workers, key=lambda worker: worker["id"])
    ]  # fmt: skip
    print(table(["id", "name", "mode", "pid", "uptime", "↺", "status", "cpu", "mem"], rows))
    for worker in workers:
        if worker["failure"] and worker["wanted"]:
            print(f"{worker['name']} {worker['slot']}: {worker['failure']}")
