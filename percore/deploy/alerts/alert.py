"""What is told: one event, as a title, as text and as JSON."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from percore.errors import PartialError, PercoreError, RolloutError, UnreachableError

KINDS = {
    "done": "the hosts were changed, and all is well",
    "rolled_back": "the change failed; every host runs its former release",
    "partial": "the change failed, and it is not certain that every host went back",
    "failed": "the run failed before it changed a host",
    "unreachable": "a host does not answer",
    "job_failed": "the last run of a job failed",
    "disk": "a disk of a host is nearly full",
    "certificate": "a certificate ends soon",
    "unhealthy": "something else is wrong with a host or its workers",
    "recovered": "what was told before is over",
}
_MOST_LINES = 20


@dataclass(frozen=True)
class Alert:
    """`reason` is one sentence; `next` what to type; `log` the last lines of whatever failed."""

    kind: str
    env: str
    subject: str
    reason: str
    hosts: Sequence[str] = ()
    release: str = ""
    commit: str = ""
    next: str = ""
    log: Sequence[str] = ()
    time: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S%z"))
    sender: str = field(default_factory=socket.gethostname)

    @property
    def title(self) -> str:
        return f"{self.env}: {self.subject}"

    @property
    def text(self) -> str:
        """For people: what happened, where, what to type, and what was said last."""
        facts = (
            ("hosts", _shortened(self.hosts)), ("release", self.release), ("commit", self.commit[:12]),
            ("next", self.next),
        )  # fmt: skip
        lines = [self.reason, *(f"{name}: {value}" for name, value in facts if value)]
        return "\n".join([*lines, *(f"| {line}" for line in self.log)])

    def as_json(self) -> dict[str, Any]:
        """Names stay as they are: programs read them."""
        values = asdict(self)
        return {"event": values.pop("kind"), "title": self.title, **values}


def of_failure(error: PercoreError, verb: str, **known: Any) -> Alert:
    """A run that ended with this error."""
    kind, ending = _endings(error)
    return Alert(
        kind, subject=f"{verb} {ending}", reason=f"{error.where}: {error.what}" if error.where else error.what,
        next=error.next, log=error.detail.splitlines()[-_MOST_LINES:], **known,
    )  # fmt: skip


def _endings(error: PercoreError) -> tuple[str, str]:
    if isinstance(error, PartialError):
        return "partial", "failed, and not every host is certain to be back"
    if isinstance(error, RolloutError):
        return "rolled_back", "failed and was rolled back"
    if isinstance(error, UnreachableError):
        return "unreachable", "stopped: a host does not answer"
    return "failed", "failed before it changed a host"


def _shortened(hosts: Sequence[str]) -> str:
    return ", ".join(hosts) if len(hosts) <= 10 else f"{', '.join(hosts[:10])} and {len(hosts) - 10} more"
