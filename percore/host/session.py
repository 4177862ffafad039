"""What one connection holds on this host: the rollout lock, a switch that is not confirmed, a prober."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any, BinaryIO, Callable, Optional

from percore.errors import PercoreError
from percore.host.lock import Lock
from percore.host.messages import CONFIRM_SECONDS
from percore.host.probe import Prober
from percore.host.release.marks import STAGED
from percore.host.release.stage import Staging
from percore.host.release.switch import Activation
from percore.host.release.target import Target

Emit = Callable[[dict[str, Any]], None]


class Session:
    """`emit` writes an event to the control side; `source` is where the parts of a message arrive."""

    def __init__(self, source: BinaryIO, emit: Emit) -> None:
        self.source = source
        self.emit = emit
        self.owner = ""
        self.lock: Optional[Lock] = None
        self.pending: Optional[Activation] = None
        self.prober: Optional[Prober] = None
        self.is_over = False  # the control side said goodbye, or was silent for too long: it will not come back
        self.patience = CONFIRM_SECONDS

    def staging(self, target: Target) -> Staging:
        return Staging(target, self.source, self.emit)

    def take_lock(self, target: Target, owner: str) -> None:
        self.owner = owner
        self.lock = self.lock or Lock(target.releases.lock_path)
        self.lock.acquire(owner)
        self.patience = target.confirm_seconds

    def say_leaving(self) -> None:
        if self.lock is not None:
            self.lock.say_leaving()

    def roll_back_unfinished(self, target: Target) -> None:
        """An agent that was killed, or a host that went down, left a switch that was never confirmed."""
        unfinished = Activation.resume(target.releases, target.supervisor, self.emit)
        if unfinished is not None:
            self.emit(
                {"event": "progress", "text": f"roll back {unfinished.record.release}, which was never confirmed"}
            )
            self._roll_back(unfinished, "found unconfirmed")

    def roll_back_pending(self) -> None:
        if self.pending is not None:
            self._roll_back(self.pending, "unconfirmed")

    def _roll_back(self, activation: Activation, result: str) -> None:
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

    def note(self, activation: Activation, result: str, *, verb: str, more: Mapping[str, Any]) -> None:
        """A line of this host's history."""
        record = activation.record
        commit = activation.releases.marks.commit(record.release)
        activation.releases.history.add(
            who=self.owner, what=verb, release=record.release, former=record.former, result=result,
            **({"commit": commit} if commit else {}), **more,
        )  # fmt: skip
