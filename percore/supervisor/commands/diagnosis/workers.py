"""Workers that keep failing, or are about to reach their limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from percore.common.finding import ERROR, Finding
from percore.supervisor.commands.diagnosis.apps import AppFacts, Worker
from percore.supervisor.commands.output import short_size


def about_workers(apps: Sequence[AppFacts]) -> Iterator[Finding]:
    for app in apps:
        for worker in app.workers:
            name = f"{worker['name']} {worker['slot']}"
            yield from _failures(worker, name)
            limit = app.memory_limit
            if limit and worker["memory_bytes"] > 0.9 * limit:
                used = f"{name} uses {short_size(worker['memory_bytes'])} of its limit of {short_size(limit)}"
                yield Finding(used, "percore monit", "workers")


def _failures(worker: Worker, name: str) -> Iterator[Finding]:
    if worker["crash_looping"] or worker["state"] == "fatal":
        what = f"{name} keeps failing: {worker['failure'] or worker['last_end']}"
        yield Finding(what, f"percore logs {worker['id']} --err", "workers", ERROR)
    elif worker["wanted"] and worker["failure"]:
        yield Finding(f"{name}: {worker['failure']}", f"percore logs {worker['id']}", "workers", ERROR)
    elif worker["restarts"] >= 5 and worker["pid"] and worker["uptime_seconds"] < 600:
        what = f"{name} was restarted {worker['restarts']} times, {worker['uptime_seconds']:.0f} s ago ({worker['last_end']})"
        yield Finding(what, f"percore logs {worker['id']} --err", "workers")
