"""Everything the control side can ask for: an operation is a function of the session, a typed request, and mostly the target."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Optional, Union

from percore.common import typed
from percore.errors import PercoreError, RolloutError, UsageError
from percore.host import diff, facts, replies
from percore.host import messages as m
from percore.host.app_control import control, jobs, remove, start
from percore.host.commands import messages as commands
from percore.host.commands.console import run
from percore.host.commands.release import release_command
from percore.host.lock import Lock
from percore.host.ports import find_conflicts
from percore.host.release.change.journal import Journal
from percore.host.release.marks import GOOD
from percore.host.release.placement import names_of, note_holders, once_of, read_holders
from percore.host.release.resume import end_agent, is_at_work, is_switched, myself
from percore.host.release.running import find_deviations, find_missing
from percore.host.release.stage import prune_packages
from percore.host.release.switch import Activation
from percore.host.release.target import Target
from percore.host.resources.registry import make
from percore.host.session import Session, keep, probe, set_up
from percore.host.setup.set_up import unfinished_change
from percore.host.streams import execute, stream

ATTACH_SECONDS = 120.0
"""So long a rollout that came back waits for what its former agent is still doing."""


class OnTarget(NamedTuple):
    """An operation about the app's place on this host, which is made of the request's `target`."""

    request: type
    work: Callable[[Session, Any, Target], Any]


class Simple(NamedTuple):
    """One that needs no target."""

    request: type
    work: Callable[[Session, Any], Any]


def perform(session: Session, message: Mapping[str, Any]) -> dict[str, Any]:
    """What the result line carries besides `ok`. Raises UsageError for a message that makes no sense."""
    op = message.get("op")
    operation = OPERATIONS.get(op) if isinstance(op, str) else None
    if operation is None:
        raise UsageError(f"the agent has no operation {ascii(op)[:40]}", next="update percore on the control machine")
    try:
        request = typed.read(operation.request, message)
    except typed.Wrong as wrong:
        raise UsageError(f"the agent was asked '{op}' {wrong}") from None
    if isinstance(operation, OnTarget):
        reply = operation.work(session, request, Target(request.target))
    else:
        reply = operation.work(session, request)
    answer: dict[str, Any] = typed.as_json(reply)
    return answer


# -- looking -----------------------------------------------------------------------------------------------------------


def inspect(session: Session, request: m.InspectRequest, target: Target) -> replies.InspectReply:
    """What is here now, and what would change; takes the lock when an `owner` asks for it."""
    if request.owner:
        session.take_lock(target, request.owner)
        session.roll_back_unfinished(target)
        target.releases.staging.clean()
    releases, status = target.releases, target.status()
    current = releases.current()
    return replies.InspectReply(
        current=current,
        marks=releases.marks.read(),
        changes=[text for text in (make(spec).change() for spec in request.resources) if text],
        owed=target.handlers.texts(),
        unfinished=bool(Journal(releases.journal_path).read()),
        status=status,
        workers=find_deviations(releases, current, status),
        edits=target.edits_of(request.fingerprint) if request.fingerprint else {},
        disk_free_bytes=facts.free_bytes(releases.directory),
        inodes_free=facts.free_inodes(releases.directory),
        memory_free_bytes=facts.free_memory(),
        versions={name: facts.program_version(name) for name in request.programs},
        apps=names_of(releases, releases.current()),
        placement=read_holders(releases),
    )


def compare(session: Session, request: m.CompareRequest, target: Target) -> replies.CompareReply:
    return diff.compare(target, request, session.staging(target).receive_contents)


def compare_release(session: Session, request: m.CompareReleaseRequest, target: Target) -> replies.CompareReply:
    return diff.compare_release(target, request.release, request.absent)


def drift(session: Session, request: m.DriftRequest, target: Target) -> replies.DriftReply:
    return diff.find_drift(target)


def find(session: Session, request: m.FindRequest, target: Target) -> replies.FindReply:
    """The release to go back to: the named one, or the newest good one before the current."""
    releases = target.releases
    found = releases.find(request.release) if request.release else releases.previous_good()
    session.staging(target).verify(found)
    marks = releases.marks
    return replies.FindReply(found, releases.current(), marks.commit(found), marks.irreversible_after(found))


def status(session: Session, request: m.StatusRequest, target: Target) -> replies.CurrentReply:
    releases, found = target.releases, target.status()
    current = releases.current()
    return replies.CurrentReply(
        current, found, find_missing(releases, current, found), releases.marks.commit(current),
        names_of(releases, current), read_holders(releases), once_of(releases),
    )  # fmt: skip


def read_history(session: Session, request: m.HistoryRequest, target: Target) -> replies.HistoryReply:
    return replies.HistoryReply(target.releases.history.last(request.count))


def ports(session: Session, request: m.PortsRequest) -> replies.PortsReply:
    return replies.PortsReply(find_conflicts(request.ports, user=_user_of(request.target)))


def _user_of(paths: Optional[m.TargetPaths]) -> Optional[int]:
    """The supervisor's; None while that user is still to be made."""
    try:
        return Target(paths).supervisor.uid() if paths else None
    except PercoreError:
        return None


# -- staging and switching ---------------------------------------------------------------------------------------------


def stage(session: Session, request: m.StageRequest, target: Target) -> replies.ChangesReply:
    return replies.ChangesReply(session.staging(target).stage(request))


def amend(session: Session, request: m.AmendRequest, target: Target) -> replies.ChangesReply:
    return replies.ChangesReply(session.staging(target).amend(request))


def prepare(session: Session, request: m.PrepareRequest, target: Target) -> replies.ChangesReply:
    return replies.ChangesReply(session.staging(target).prepare(request.resources, request.handlers))


def activate(session: Session, request: m.ActivateRequest, target: Target) -> replies.ActivateReply:
    session.pending = None
    activation = Activation(target.releases, target.supervisor, request.release, session.emit,
                            amended=request.amended, absent=request.absent)  # fmt: skip
    try:
        found = activation.run(session.owner, request.run, myself())
    except PercoreError as error:
        session.note(activation, f"failed: {error.what}", verb=request.verb, more=request.note)
        raise
    session.pending = activation
    return replies.ActivateReply(activation.record.former, found)


def attach(session: Session, request: m.AttachRequest, target: Target) -> replies.StatusReply:
    """Take up a switch of this rollout whose agent lost its connection; RolloutError when it was rolled back."""
    journal = Journal(target.releases.journal_path)
    deadline = time.monotonic() + ATTACH_SECONDS
    while is_at_work(journal.read()) and time.monotonic() < deadline:
        time.sleep(0.1)
    entries = journal.read()
    if is_switched(entries, request.run):
        end_agent(entries)
    session.take_lock(target, request.owner)
    if not is_switched(journal.read(), request.run):
        session.roll_back_unfinished(target)
        raise RolloutError("the switch was rolled back while the connection was cut", next="deploy again")
    session.pending = unfinished_change(target, session.emit)
    journal.note("agent", **myself())
    return replies.StatusReply(target.status())


def health(session: Session, request: m.HealthRequest) -> replies.StatusReply:
    """Is the switch of this session still healthy? RolloutError when a worker ended or does not answer."""
    if session.pending is None:
        raise RolloutError("nothing was switched here")
    return replies.StatusReply(session.pending.recheck())


def revert(
    session: Session, request: m.RevertRequest, target: Target
) -> Union[replies.StatusReply, replies.ActivateReply]:
    """Roll back the activation of this session: another host failed."""
    activation, session.pending = session.pending, None
    if activation is None:
        return replies.StatusReply(target.status())
    activation.roll_back()
    session.note(activation, "rolled back: another host failed", verb=request.verb, more=request.note)
    return replies.ActivateReply(activation.record.former, activation.supervisor.status())


def confirm(session: Session, request: m.ConfirmRequest, target: Target) -> replies.PruneReply:
    """The whole fleet is healthy: the release is good, and older ones may be removed."""
    activation, session.pending = session.pending, None
    if activation is not None:
        if activation.record.amended:
            target.releases.end_amendment(activation.record.release, keeps=True)
        activation.record.journal.end()  # this decides; whatever ends us now, the release stays
    target.releases.marks.set(request.release, GOOD, deployed=request.deployed)
    if request.placement:
        note_holders(target.releases, request.placement)
    if activation is not None:
        session.note(activation, "good", verb=request.verb, more=request.note)
    pruned = target.releases.prune(request.keep)
    prune_packages(target)
    return replies.PruneReply(pruned)


def bye(session: Session, request: m.ByeRequest) -> replies.EmptyReply:
    """The control side ends on purpose: it will not come back for what is not confirmed."""
    session.is_over = True
    return replies.EmptyReply()


# -- the lock of a person ----------------------------------------------------------------------------------------------


def hold(session: Session, request: m.HoldRequest, target: Target) -> replies.EmptyReply:
    """A person holds the lock."""
    session.lock_of(target).hold(request.owner, request.why)
    return replies.EmptyReply()


def let_go(session: Session, request: m.LetGoRequest, target: Target) -> replies.HolderReply:
    lock = Lock(target.releases.lock_path)
    holder = lock.holder()
    lock.let_go()
    return replies.HolderReply(holder)


# -- commands ----------------------------------------------------------------------------------------------------------


def stop(session: Session, request: m.StopRequest, target: Target) -> replies.ChangesReply:
    """End what runs: the unit where there is one, else the daemon."""
    if request.unit:
        unit = {"kind": "unit", "name": request.unit, "active": False}
        return replies.ChangesReply(session.staging(target).prepare([unit], []))
    is_running = target.status().get("daemon", True)
    target.supervisor.kill()
    return replies.ChangesReply(["stop the supervisor and all its workers"] if is_running else [])


OPERATIONS: dict[str, Union[OnTarget, Simple]] = {
    "inspect": OnTarget(m.InspectRequest, inspect),
    "compare": OnTarget(m.CompareRequest, compare),
    "compare_release": OnTarget(m.CompareReleaseRequest, compare_release),
    "drift": OnTarget(m.DriftRequest, drift),
    "find": OnTarget(m.FindRequest, find),
    "status": OnTarget(m.StatusRequest, status),
    "jobs": OnTarget(m.JobsRequest, jobs),
    "history": OnTarget(m.HistoryRequest, read_history),
    "ports": Simple(m.PortsRequest, ports),
    "probe": Simple(m.ProbeRequest, probe),
    "stage": OnTarget(m.StageRequest, stage),
    "amend": OnTarget(m.AmendRequest, amend),
    "prepare": OnTarget(m.PrepareRequest, prepare),
    "release_command": OnTarget(commands.ReleaseCommandRequest, release_command),
    "activate": OnTarget(m.ActivateRequest, activate),
    "set_up": OnTarget(m.SetUpRequest, set_up),
    "keep": OnTarget(m.KeepRequest, keep),
    "attach": OnTarget(m.AttachRequest, attach),
    "health": Simple(m.HealthRequest, health),
    "revert": OnTarget(m.RevertRequest, revert),
    "confirm": OnTarget(m.ConfirmRequest, confirm),
    "bye": Simple(m.ByeRequest, bye),
    "hold": OnTarget(m.HoldRequest, hold),
    "let_go": OnTarget(m.LetGoRequest, let_go),
    "stop": OnTarget(m.StopRequest, stop),
    "start": OnTarget(m.StartRequest, start),
    "remove": OnTarget(m.RemoveRequest, remove),
    "control": OnTarget(m.ControlRequest, control),
    "run": OnTarget(commands.RunRequest, run),
    "exec": Simple(m.ExecRequest, execute),
    "stream": OnTarget(m.StreamRequest, stream),
}
"""By the names on the wire."""
