"""What one connection holds on this host: the rollout lock, a switch that is not confirmed, a prober."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any, BinaryIO, Callable, Optional, Union

from percore.errors import PercoreError
from percore.host import messages as m
from percore.host import replies
from percore.host.lock import Lock
from percore.host.probe import Prober
from percore.host.release.marks import STAGED
from percore.host.release.resume import myself
from percore.host.release.stage import Staging
from percore.host.release.switch import Activation
from percore.host.release.target import Target
from percore.host.setup.set_up import SetUp, unfinished_change

Emit = Callable[[dict[str, Any]], None]


class Session:
    """`emit` writes an event to the control side; `source` is where the parts of a message arrive."""

    def __init__(self, source: BinaryIO, emit: Emit) -> None:
        self.source = source
        self.emit = emit
        self.owner = ""
        self.locks: dict[str, Lock] = {}  # by path: the app's, and that of the host's set-up
        self.pending: Union[Activation, SetUp, None] = None
        self.prober: Optional[Prober] = None
        self.is_over = False  # the control side said goodbye, or was silent for too long: it will not come back
        self.patience = m.CONFIRM_SECONDS

    def staging(self, target: Target) -> Staging:
        return Staging(target, self.source, self.emit)

    def take_lock(self, target: Target, owner: str) -> None:
        self.owner = owner
        self.lock_of(target).acquire(owner)
        self.patience = target.confirm_seconds

    def lock_of(self, target: Target) -> Lock:
        path = target.releases.lock_path
        return self.locks.setdefault(path, Lock(path))

    def say_leaving(self) -> None:
        for lock in self.locks.values():
            lock.say_leaving()

    def release_locks(self) -> None:
        for lock in self.locks.values():
            lock.release()

    def roll_back_unfinished(self, target: Target) -> None:
        """An agent that was killed, or a host that went down, left a switch that was never confirmed."""
        unfinished = unfinished_change(target, self.emit)
        if unfinished is not None:
            self.emit(
                {"event": "progress", "text": f"roll back {unfinished.record.release}, which was never confirmed"}
            )
            self._roll_back(unfinished, "found unconfirmed")

    def roll_back_pending(self) -> None:
        if self.pending is not None:
            self._roll_back(self.pending, "unconfirmed")

    def _roll_back(self, activation: Union[Activation, SetUp], result: str) -> None:
        """A switch against which nothing is known: its release stays staged."""
        try:
            activation.roll_back(mark=STAGED)
        except PercoreError:
            traceback.print_exc()
            result = f"{result}, not wholly rolled back"
        record = activation.record
        activation.releases.history.add(
            who=self.owner, what="automatic rollback", release=record.former, former=record.release, result=result
        )

    def note(self, activation: Union[Activation, SetUp], result: str, *, verb: str, more: Mapping[str, Any]) -> None:
        """A line of this host's history."""
        record = activation.record
        commit = activation.releases.marks.commit(record.release)
        activation.releases.history.add(
            who=self.owner, what=verb, release=record.release, former=record.former, result=result,
            **({"commit": commit} if commit else {}), **more,
        )  # fmt: skip


# -- the set-up of the host -------------------------------------------------------------------------------------------


def set_up(session: Session, request: m.SetUpRequest, target: Target) -> replies.ChangesReply:
    """What the host has whatever release runs; it waits to be confirmed, as a switch does."""
    session.take_lock(target, request.owner)
    session.roll_back_unfinished(target)
    change = SetUp(target, session.emit)
    try:
        changed = change.run(request, session.source, myself())
    except PercoreError as error:
        session.note(change, f"failed: {error.what}", verb=request.verb, more=request.note)
        raise
    session.pending = change
    return replies.ChangesReply(changed)


def keep(session: Session, request: m.KeepRequest, target: Target) -> replies.EmptyReply:
    """The set-up of the whole fleet is well: it stays, and another run may set up this host further."""
    change, session.pending = session.pending, None
    if change is not None:
        change.record.journal.end()
        session.note(change, "good", verb=request.verb, more=request.note)
    session.lock_of(target).release()
    return replies.EmptyReply()


def probe(session: Session, request: m.ProbeRequest) -> replies.ProbeReply:
    """Begin to probe where there are `targets`; `mark` the begin of what counts; tell what was found so far."""
    if request.targets:
        if session.prober is not None:
            session.prober.stop()
        session.prober = Prober(request.targets)
        session.prober.start()
    if session.prober is None:
        return replies.ProbeReply(None)
    if request.mark:
        session.prober.mark()
    return replies.ProbeReply(session.prober.summary())
