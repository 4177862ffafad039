"""What is to be set up on a host, before a release or without one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from percore.deploy.connection.messages import Compared, Inspected
from percore.deploy.plan.host_state import HostState
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host, HostValue
from percore.deploy.rollout.parallel import all_or_stop

Specs = list[dict[str, Any]]


@dataclass(frozen=True)
class PendingSetup(HostValue):
    """What the host says of these resources."""

    state: HostState = field(repr=False)
    specs: Specs = field(repr=False)
    reply: Inspected = field(repr=False)

    @property
    def differs(self) -> bool:
        return bool(self.reply["changes"] or self.reply["owed"] or self.reply["unfinished"])

    def compare(self, *, diff: bool) -> Compared:
        parts = self.state.contents_of(self.specs)
        compared: Compared = self.host.ask(
            "compare",
            target=self.host.setup_target(),
            parts=parts,
            resources=self.specs,
            place="",
            handlers=list(self.state.handlers),
            diff=diff,
            sizes={name: len(part) for name, part in parts.items()},
        )
        return compared


def find_pending(states: Iterable[tuple[Host, HostState]], report: Report, *, with_app: bool) -> list[PendingSetup]:
    """The hosts that are to be set up, or further. Nothing is locked."""
    asked = [_Question(host, state.select(host.scope.selection), with_app) for host, state in states]
    answers = all_or_stop([one for one in asked if one.specs], _Question.ask, report)
    return [one for one in answers if one.differs]


@dataclass(frozen=True)
class _Question(HostValue):
    state: HostState = field(repr=False)
    with_app: bool

    @property
    def specs(self) -> Specs:
        return self.state.set_up(with_app=self.with_app)

    def ask(self) -> PendingSetup:
        return PendingSetup(self.host, self.state, self.specs, inspect_setup(self.host, self.specs))


def inspect_setup(host: Host, specs: Specs) -> Inspected:
    """What of these differs there."""
    reply: Inspected = host.ask("inspect", target=host.setup_target(), resources=specs)
    return reply
