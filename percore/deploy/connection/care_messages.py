"""What an agent may answer about the state of its host: to `doctor`, `jobs`, `patch`, and to pages that are always open.

As in `messages`.
"""

from __future__ import annotations

from typing import Annotated, TypedDict

from percore.common.typed import Count, Line, pattern
from percore.deploy.connection.messages import Figure, Moment, Status, Word


class HostFinding(TypedDict):
    what: Line
    next: Line
    topic: Line
    severity: Annotated[str, pattern("a severity", "error|warning|note")]


class ShownCertificate(TypedDict):
    path: Line
    pem: Line
    names: list[Line]


class Diagnosis(TypedDict):
    findings: list[HostFinding]
    certificates: list[ShownCertificate]


class Patched(TypedDict):
    packages: list[Line]
    reboot: list[Line]
    units: list[Line]


class BootFound(TypedDict):
    boot: Word


class Proved(TypedDict):
    missing: list[Line]


class JobRun(TypedDict):
    started: Moment
    seconds: Figure | None
    exit_code: int | None
    end: Line
    failed: bool
    lines: list[Line]


class JobReport(TypedDict):
    name: Line
    cron: Line
    timezone: Line | None
    next: Moment | None
    running_since: Moment | None
    skipped: Count
    last: JobRun | None


class JobsAnswer(TypedDict):
    jobs: list[JobReport]


class CountedSockets(TypedDict):
    open: Count
    queue: Count
    accepted: Count | None


class Figures(TypedDict):
    """What a page that is always open shows of a host."""

    status: Status
    daemon: bool
    connections: dict[Word, CountedSockets]  # by worker id
    load: Figure
    memory_used_bytes: Count
