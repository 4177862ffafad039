"""Operations on the apps of the release that runs: starting, stopping, scaling, and taking them off this host."""

from __future__ import annotations

import subprocess

from percore.common.worker_status import is_wanted
from percore.errors import PercoreError, UsageError
from percore.host import messages as m
from percore.host import replies
from percore.host.output import Output
from percore.host.release.removal import data_left, plan_removal
from percore.host.release.running import app_names
from percore.host.release.target import Target
from percore.host.session import Session
from percore.host.streams import show


def control(session: Session, request: m.ControlRequest, target: Target) -> replies.ControlReply:
    """A command of `percore` on apps of the release that runs, its output as it comes."""
    known = app_names(target.releases)
    if not known:
        raise PercoreError("nothing is deployed here yet", next="deploy first")
    if request.owner:
        session.take_lock(target, request.owner)
        session.roll_back_unfinished(target)
    chosen = [name for name in known if request.app in (None, name)]
    if request.verb == "describe":
        for name in chosen:
            _run(session, target, "describe", *target.selectors([name]))
    elif chosen:
        _run(
            session,
            target,
            "--silent",
            request.verb,
            *target.selectors(chosen),
            *([request.count] if request.count else []),
        )
    return replies.ControlReply(chosen, target.status())


def _run(session: Session, target: Target, *words: str) -> None:
    output = Output(target.supervisor.start(*words, errors=subprocess.STDOUT))
    show(session, output)
    if code := output.code():
        raise PercoreError(f"'percore {' '.join(words)}' ended with code {code}")


def start(session: Session, request: m.StartRequest, target: Target) -> replies.StatusReply:
    """Start what should run of the release that is here, and does not."""
    release = target.releases.current()
    if release is None:
        raise UsageError("nothing is deployed here yet", next="deploy first")
    session.take_lock(target, request.owner)
    session.roll_back_unfinished(target)
    if request.unit:
        session.staging(target).prepare([{"kind": "unit", "name": request.unit, "active": True}], [])
    target.supervisor.apply(target.releases.record_path(release), release, session.emit)
    return replies.StatusReply(target.status())


def stop(session: Session, request: m.StopRequest, target: Target) -> replies.ChangesReply:
    """End what runs: the unit where there is one, else the daemon; where it has apps of others, only ours."""
    session.take_lock(target, request.owner)
    session.roll_back_unfinished(target)
    if target.has_others():
        return replies.ChangesReply(_stop_apps(target))
    if request.unit:
        unit = {"kind": "unit", "name": request.unit, "active": False}
        return replies.ChangesReply(session.staging(target).prepare([unit], []))
    is_running = target.status().get("daemon", True)
    target.supervisor.kill()
    return replies.ChangesReply(["stop the supervisor and all its workers"] if is_running else [])


def _stop_apps(target: Target) -> list[str]:
    names = {*app_names(target.releases)}
    running = [app["name"] for app in target.status()["apps"] if app["name"] in names and is_wanted(app)]
    for selector in target.selectors(running):
        target.supervisor.ask("stop", selector)
    return [f"stop app {name}" for name in running]


def remove(session: Session, request: m.RemoveRequest, target: Target) -> replies.RemovalReply:
    """Take the app off this host, or tell what that would do."""
    if request.owner:
        session.take_lock(target, request.owner)  # before we look: a rollout may be under way
    steps, data = plan_removal(target, with_data=request.data), "" if request.data else data_left(target)
    if request.owner:
        for step in steps:
            session.emit({"event": "progress", "text": step.text})
            step.work()
    return replies.RemovalReply([step.text for step in steps], data)


def jobs(session: Session, request: m.JobsRequest, target: Target) -> replies.JobsReply:
    """When each job runs next, and how its last run ended."""
    return replies.JobsReply(target.jobs(request.names))
