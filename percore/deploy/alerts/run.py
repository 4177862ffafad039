"""A run of a verb that changes hosts: its end is told to the targets of `alerts`, and is the end of its trace."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from percore.deploy.alerts.event import Event, of_failure
from percore.deploy.alerts.send import send
from percore.deploy.alerts.targets import Target
from percore.deploy.alerts.trace import Otel, export
from percore.deploy.report import Report
from percore.errors import PercoreError


@dataclass(frozen=True)
class Known:
    """What is known of a run when it ends."""

    hosts: Sequence[str]
    release: str = ""
    commit: str = ""


@dataclass(frozen=True)
class Run:
    verb: str
    env: str
    project: Path
    report: Report
    targets: Sequence[Target] = ()
    otel: Otel | None = None
    started: int = field(default_factory=time.time_ns)

    def failed(self, error: PercoreError, known: Known) -> None:
        self.alert(of_failure(error, self.verb, env=self.env, **vars(known)))
        self._trace(known, error)

    def done(self, known: Known) -> None:
        subject = f"{self.verb} done on {'1 host' if len(known.hosts) == 1 else f'{len(known.hosts)} hosts'}"
        reason = f"release {known.release} serves" if known.release else "all is well"
        self.alert(Event("done", self.env, subject, reason, **vars(known)))
        self._trace(known, None)

    def left_out(self, hosts: Sequence[str], advice: str) -> None:
        """The run goes on without these."""
        subject = f"{self.verb} goes on without {', '.join(hosts)}"
        self.alert(Event("unreachable", self.env, subject, "no answer", hosts, next=advice))

    def alert(self, event: Event) -> None:
        send(event, self.targets, self.project, self.report)

    def _trace(self, known: Known, error: PercoreError | None) -> None:
        if self.otel is None:
            return
        attributes: dict[str, Any] = {
            "cicd.pipeline.name": self.verb, "deployment.environment.name": self.env, "deployment.id": known.release,
            "vcs.ref.head.revision": known.commit, "percore.hosts": list(known.hosts),
        }  # fmt: skip
        attributes = {name: value for name, value in attributes.items() if value}
        fault = export(self.otel, self.verb, attributes, self.started, self.report.phases, error)
        if fault:
            self.report.warn(f"the trace did not reach {self.otel.host}: {fault}")
