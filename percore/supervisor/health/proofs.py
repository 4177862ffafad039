"""Proofs that a worker serves at all the addresses where it should, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from percore.common.typing import TYPE_CHECKING, Callable, Optional
from percore.supervisor.base.loop import LoopScope, OneTimer
from percore.supervisor.health.probe import Probe, WorkerTarget

if TYPE_CHECKING:
    from typing import Protocol

    class ProofsOwner(Protocol):
        """Who needs them."""

        def proved(self) -> None:
            """All that it asked for; once, and not after `cancel`."""


class Proofs:
    def __init__(self, loop: LoopScope, owner: ProofsOwner) -> None:
        self._loop = loop
        self._owner = owner
        self._timer = OneTimer(loop)
        self._probe: Optional[Probe] = None
        self.is_under_way = False

    @property
    def reason(self) -> str:
        """Why the last attempt was none; empty where there was no attempt."""
        return self._probe.reason if self._probe else ""

    def ask(self, targets: Sequence[WorkerTarget], alternatives: Callable[[], Sequence[WorkerTarget]] = tuple) -> None:
        """One of each of `targets`. After a failure, where there are `alternatives`, the next one of those is tried.

        Without targets it is proved, in this turn of the loop, but not before all others saw what was asked.
        """
        self.cancel()
        self.is_under_way = True
        if not targets:
            self._timer.set(0, self._owner.proved)
            return

        def proved() -> None:
            if targets[1:]:
                self.ask(targets[1:], alternatives)
            else:
                self._owner.proved()

        def failed(_: str) -> None:
            if self._probe and len(found := alternatives()) > 1:
                self._probe.turn_to(found)

        self._probe = Probe(self._loop.outer, targets[0], proved, failed)

    def cancel(self) -> None:
        self.is_under_way = False
        self._timer.cancel()
        if self._probe:
            self._probe.cancel()
            self._probe = None
