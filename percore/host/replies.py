"""What the agent answers. The names of the fields are those on the wire; the control side types them when it reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional


class EmptyReply(NamedTuple):
    """Nothing but that it is done."""


class InspectReply(NamedTuple):
    current: Optional[str]
    marks: Mapping[str, Mapping[str, Any]]
    changes: list[str]
    owed: list[str]
    unfinished: bool
    status: Mapping[str, Any]
    workers: list[str]
    edits: Mapping[str, list[str]]
    disk_free_bytes: int
    inodes_free: Optional[int]
    memory_free_bytes: Optional[int]
    versions: Mapping[str, str]
    apps: list[str]
    placement: Mapping[str, str]


class ShownChange(NamedTuple):
    text: str
    diff: str


class CompareReply(NamedTuple):
    changes: list[ShownChange]
    reasons: list[str]
    handlers: list[str]


class DriftReply(NamedTuple):
    current: Optional[str]
    status: Mapping[str, Any]
    workers: list[str]
    files: list[ShownChange]
    owed: list[str]


class ChangesReply(NamedTuple):
    changed: list[str]


class ProbeReply(NamedTuple):
    probe: Optional[Mapping[str, Any]]


class ActivateReply(NamedTuple):
    former: Optional[str]
    status: Mapping[str, Any]


class StatusReply(NamedTuple):
    status: Mapping[str, Any]


class PruneReply(NamedTuple):
    pruned: list[str]


class HolderReply(NamedTuple):
    holder: Mapping[str, Any]


class JobsReply(NamedTuple):
    jobs: list[Any]


class HistoryReply(NamedTuple):
    entries: list[dict[str, Any]]


class ConflictFound(NamedTuple):
    """Another project has it, and what to type."""

    what: str
    next: str


class PortsReply(NamedTuple):
    strangers: Mapping[str, str]
    conflicts: list[ConflictFound]


class FindReply(NamedTuple):
    release: str
    current: Optional[str]
    commit: Optional[Mapping[str, Any]]
    irreversible: list[str]


class CurrentReply(NamedTuple):
    current: Optional[str]
    status: Mapping[str, Any]
    missing: list[str]
    commit: Optional[Mapping[str, Any]]
    apps: list[str]
    placement: Mapping[str, str]
    once: list[str]


class CountedConnections(NamedTuple):
    """Of one worker. `accepted` only where the bind shim counts them."""

    open: int
    queue: int
    accepted: Optional[int]


class FiguresReply(NamedTuple):
    """`connections` by worker id; workers that may not be looked at are left out. Sizes in bytes."""

    status: Mapping[str, Any]
    daemon: bool
    connections: Mapping[str, CountedConnections]
    load: float
    memory_used_bytes: int


class ExitReply(NamedTuple):
    code: int


class ControlReply(NamedTuple):
    """The apps that it was about, and what runs now."""

    apps: list[str]
    status: Mapping[str, Any]


class RemovalReply(NamedTuple):
    steps: list[str]
    data: str  # the directory of data that stays; empty where there is none
