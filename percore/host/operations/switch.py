"""Operations of a rollout: staging a release, switching to it, and holding the lock that keeps other rollouts away."""

from __future__ import annotations

import time
from typing import Union

from percore.errors import PercoreError, RolloutError
from percore.host import messages as m
from percore.host import replies
from percore.host.lock import Lock
from percore.host.projects.owner import claim
from percore.host.release.change.journal import Journal
from percore.host.release.marks import GOOD
from percore.host.release.packages import prune_packages
from percore.host.release.placement import note_holders
from percore.host.release.resume import end_agent, is_at_work, is_switched, myself
from percore.host.release.switch import Activation
from percore.host.release.target import Target
from percore.host.session import Session
from percore.host.setup.set_up import unfinished_change

ATTACH_SECONDS = 120.0
"""So long a rollout that came back waits for what its former agent is still doing."""


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
    session.note(activation, request.result, verb=request.verb, more=request.note)
    return replies.ActivateReply(activation.record.former, target.status())


def confirm(session: Session, request: m.ConfirmRequest, target: Target) -> replies.PruneReply:
    """The whole fleet is healthy: the release is good, and older ones may be removed."""
    activation, session.pending = session.pending, None
    if activation is not None:
        if activation.record.amended:
            target.releases.end_amendment(activation.record.release, keeps=True)
        activation.record.journal.end()  # this decides; whatever ends us now, the release stays
    claim(target.paths, with_settings=True)
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
