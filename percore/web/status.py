"""`/status`: what `pm2 web` shows of the machine and its processes, without any variable or argument."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psutil

from percore.supervisor.commands.pm2_json import pm2_fields
from percore.web.http import HttpRequest, HttpResponse, as_json
from percore.web.snapshot import Snapshots

_SECRET = ("env", "args", "node_args", "filter_env")  # what may hold a secret is left out


def answer_status(snapshots: Snapshots, _: HttpRequest) -> HttpResponse:
    snapshot = snapshots.get()
    answer = {
        "system_info": {"hostname": platform.node(), "uptime": round(time.time() - psutil.boot_time(), 2)},
        "monit": _machine(),
        "processes": [_process(worker) for worker in sorted(snapshot.workers, key=lambda each: each["id"])],
    }
    return as_json({**answer, "error": snapshot.error} if snapshot.error else answer, 503 if snapshot.error else 200)


def _machine() -> dict[str, Any]:
    memory = psutil.virtual_memory()
    return {
        "loadavg": list(os.getloadavg()),
        "total_mem": memory.total,
        "free_mem": memory.available,
        "cpu": list(_cores()),
        "interfaces": {name: [_address(each) for each in found] for name, found in psutil.net_if_addrs().items()},
    }


def _cores() -> Iterator[dict[str, Any]]:
    """Times in milliseconds."""
    for times in psutil.cpu_times(percpu=True):
        names = {"user": times.user, "nice": times.nice, "sys": times.system, "idle": times.idle, "irq": times.irq}
        yield {"model": "", "speed": 0, "times": {name: round(1000 * value) for name, value in names.items()}}


def _address(found: Any) -> dict[str, Any]:
    family = {2: "IPv4", 10: "IPv6"}.get(int(found.family), "")
    return {"address": found.address, "netmask": found.netmask or "", "family": family}


def _process(worker: Mapping[str, Any]) -> dict[str, Any]:
    """The names of variables are all that the supervisor was asked for; here not even those."""
    config = {**worker["config"], "env": {}}
    fields = pm2_fields({**worker, "config": config}, runs_programs=False)
    fields["pm2_env"] = {key: value for key, value in fields["pm2_env"].items() if key not in _SECRET}
    return fields
