"""What `doctor` found: on a host by the supervisor's command and by the agent, and on the control machine."""

from __future__ import annotations

from collections.abc import Iterable

from percore.common.typing import NamedTuple

ERROR, WARNING, NOTE = "error", "warning", "note"
"""It does not work; it will fail, or fails at times; it is worth knowing, and nothing is wrong."""


class Finding(NamedTuple):
    what: str
    next: str  # what to type, or to change
    topic: str = ""  # memory, ports, limits, ...
    severity: str = WARNING


def are_well(findings: Iterable[Finding]) -> bool:
    return all(finding.severity == NOTE for finding in findings)
