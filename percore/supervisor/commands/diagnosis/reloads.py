"""Why a reload of an app would lose requests, or has lost some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from percore.common.finding import NOTE, WARNING, Finding
from percore.supervisor.commands.diagnosis.apps import AppFacts, times
from percore.supervisor.commands.diagnosis.ports import listening_ports
from percore.supervisor.core.worker.figures import DRAIN_LIMIT, DRAINED, KILLED
from percore.supervisor.process.stop_signal import name_for

STEERED = "steered"
_OFTEN = 0.05
"""Of all workers that were ended since the app is known: what happened once long ago is no reason to worry."""


def about_reloads(apps: Sequence[AppFacts]) -> Iterator[Finding]:
    for app in apps:
        yield from _why_not_shared(app)
        yield from _what_was_cut(app)


def _why_not_shared(app: AppFacts) -> Iterator[Finding]:
    running = [worker for worker in app.workers if worker["pid"] and worker["state"] == "running"]
    ports = listening_ports(worker["pid"] for worker in running)
    if not ports or (any(worker["addresses"] for worker in running) and running[0]["sharing"] == STEERED):
        return
    if app.is_fork:
        what = f"a reload of {app.name} is a restart: in fork mode its port {min(ports)} is closed for a moment"
        # Without a `port` it may be one for its own purposes, which no client knows.
        severity = WARNING if app.setting("port") in ports else NOTE
        yield Finding(what, f"exec_mode: cluster, if two of '{app.name}' may run at once", "reload", severity)
    elif all(worker["sharing"] == "none" for worker in running):
        what = f"a reload of {app.name} is a restart: each worker has a port of its own, closed for a moment"
        yield Finding(what, "share_port: true, or a load balancer that asks another worker then", "reload", NOTE)
    elif not any(worker["addresses"] for worker in running):
        what = f"{app.name} shares no port: the bind shim does not reach it (a static program?), so a reload loses requests"
        yield Finding(what, "link it dynamically, or list its address under listen in the process file", "reload")
    else:
        what = f"a reload of {app.name} may lose requests: its sockets are {running[0]['sharing']}, not steered"
        yield Finding(what, "Linux 4.6 or newer, without a sandbox that lacks SO_ATTACH_REUSEPORT_CBPF", "reload")


def _what_was_cut(app: AppFacts) -> Iterator[Finding]:
    seconds = app.setting("kill_timeout")
    signal = app.setting("kill_signal") or name_for(app.workers[0]["pid"] or 0)
    kills, limits = app.count(KILLED), app.count(DRAIN_LIMIT)
    ended = app.count(DRAINED) + limits
    if kills and kills >= _OFTEN * ended:
        what = f"{app.name} was killed {times(kills)}, because it had not ended {seconds:g} s after it was told to"
        yield Finding(what, f"end at {signal} within kill_timeout ({seconds:g} s), or raise it", "reload")
    if limits and limits >= _OFTEN * ended:
        what = f"{app.name} still had open connections {times(limits)} when a reload had to stop its worker"
        yield Finding(what, f"close idle connections sooner, and finish the others at {signal}", "reload")
