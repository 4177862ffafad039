"""What an agent may answer: the shape of each event and reply, and how long it may take.

`replies` reads what a host said by these shapes.
"""

from __future__ import annotations

import re
from typing import Annotated, NotRequired, TypedDict

from percore.common.names import RELEASE_ID
from percore.common.typed import Count, Line, Rule, Sha256, between, pattern
from percore.host.drained import DrainedHost


def _is_path(text: str) -> bool:
    return len(text) < 4096 and bool(_PATH.fullmatch(text)) and not {".", ".."} & {*text.split("/")}


_PATH = re.compile(r"(/[A-Za-z0-9_.+@~=,-]+)+")

Word = Annotated[str, pattern("a word", r"[A-Za-z0-9_.+~:@ -]{0,255}")]
Name = Annotated[str, pattern("a word of letters and digits", r"[A-Za-z0-9_]{1,32}")]
User = Annotated[str, pattern("a user's name", r"([A-Za-z0-9_][A-Za-z0-9_.@+\\-]{0,254}\$?)?")]
ReleaseId = Annotated[str, Rule("a release id", RELEASE_ID.fullmatch)]
Path = Annotated[str, Rule("a path of letters, digits and ._+@~=,-", _is_path)]
PythonVersion = Annotated[str, pattern("a version of Python", r"[0-9]{1,3}\.[0-9]{1,3}[0-9A-Za-z.+-]{0,32}")]
Version = Annotated[str, pattern("a version", r"([0-9]{1,9}(\.[0-9]{1,9}){0,2}([-+][0-9A-Za-z.+-]{1,64})?)?")]
Port = Annotated[int, between(0, 65535)]
Figure = Annotated[float, between(0, 1e18)]
Moment = Annotated[float, between(0, 2**35)]
PortName = Annotated[str, pattern("the number of a port", r"[0-9]{1,5}")]


class HostFacts(TypedDict):
    hostname: Word
    system: Name
    machine: Name
    kernel: Word
    os: Word
    os_version: Word
    os_codename: Word
    python: PythonVersion
    python_path: Path
    libc: NotRequired[Word]
    uid: Count
    user: User
    cores: Count
    memory_bytes: Count
    systemd: bool
    nginx: Path | None
    nginx_version: NotRequired[Word]
    node: Path | None
    disk_free_bytes: Count
    drained: NotRequired[list[DrainedHost]]
    time: Moment


class WorkerStatus(TypedDict):
    slot: Count
    id: NotRequired[Count]
    pid: Count | None
    state: Word
    release: Line | None
    port: Port | None
    memory_bytes: Count
    cpu_percent: Figure
    uptime_seconds: Figure
    restarts: Count
    config_hash: NotRequired[Word]
    env_hash: NotRequired[Word]
    finished: NotRequired[bool]  # it was meant to end, and did so with success
    failure: NotRequired[Line | None]
    crash_looping: NotRequired[bool]


class JobState(TypedDict):
    scheduled: bool


class AppStatus(TypedDict):
    name: Line
    mode: Word
    wanted: Count
    workers: list[WorkerStatus]
    job: NotRequired[JobState | None]
    release: NotRequired[Line | None]
    addresses: NotRequired[list[Line]]
    counts: NotRequired[dict[Name, Count]]  # what happened to it


class Status(TypedDict):
    apps: list[AppStatus]


class CommitFacts(TypedDict):
    """The commit of which a release was made; it is shown, and leads nowhere."""

    sha: Annotated[str, pattern("the hash of a commit", r"[0-9a-f]{7,64}")]
    branch: Line
    is_dirty: bool


class Mark(TypedDict):
    mark: Word
    fingerprint: NotRequired[Line]
    artifact: NotRequired[Line]
    digest: NotRequired[Line]
    commit: NotRequired[CommitFacts | None]


class Inspected(TypedDict):
    current: ReleaseId | None
    marks: dict[ReleaseId, Mark]
    changes: list[Line]
    owed: list[Line]
    unfinished: bool
    status: Status
    workers: list[Line]  # what does not run as the release says
    edits: NotRequired[dict[ReleaseId, list[Line]]]  # by hand, in the files of a release
    disk_free_bytes: Count
    inodes_free: Count | None
    memory_free_bytes: Count | None
    versions: dict[Name, Version]
    apps: NotRequired[list[Line]]  # of the current release, also those that other hosts run
    placement: NotRequired[dict[Line, Line]]  # by app, the host that held it last


class FileChange(TypedDict):
    text: Line
    diff: str


class Compared(TypedDict):
    changes: list[FileChange]
    reasons: list[Line]
    handlers: list[Line]


class Drift(TypedDict):
    current: ReleaseId | None
    status: Status
    workers: list[Line]
    files: list[FileChange]
    owed: NotRequired[list[Line]]


class ProbePhase(TypedDict):
    asked: Count
    failed: Count
    faults: list[Line]
    p99: Figure | None


class ProbeSummary(TypedDict):
    target: Line | None
    before: ProbePhase
    during: ProbePhase


class Probed(TypedDict):
    probe: ProbeSummary | None


class HistoryEntry(TypedDict):
    """One of the history. The names of its releases are shown, and lead nowhere."""

    at: Moment
    who: Line
    what: Line
    release: Line | None
    result: Line
    commit: NotRequired[CommitFacts | None]


class HistoryAnswer(TypedDict):
    entries: list[HistoryEntry]


class FoundRelease(TypedDict):
    release: ReleaseId
    current: ReleaseId | None
    commit: NotRequired[CommitFacts | None]
    irreversible: NotRequired[list[ReleaseId]]


class LockHolder(TypedDict):
    owner: NotRequired[Line]
    why: NotRequired[Line]


class LetGo(TypedDict):
    holder: LockHolder


class ProjectConflict(TypedDict):
    what: Line
    next: Line


class Ports(TypedDict):
    strangers: dict[PortName, Line]
    conflicts: NotRequired[list[ProjectConflict]]  # with other projects on the host


class Current(TypedDict):
    current: ReleaseId | None
    status: Status
    missing: list[Line]
    commit: NotRequired[CommitFacts | None]
    apps: NotRequired[list[Line]]
    placement: NotRequired[dict[Line, Line]]
    once: NotRequired[list[Line]]  # jobs of which its releases say that one host runs them


class WithStatus(TypedDict):
    status: Status


class Changed(TypedDict):
    changed: list[Line]


class Controlled(TypedDict):
    apps: list[Line]
    status: Status


class Removal(TypedDict):
    steps: list[Line]
    data: Line


class CommandEnded(TypedDict):
    code: Annotated[int, between(-(2**31), 2**31)]


class Done(TypedDict):
    """Nothing but that it is done."""


class Failure(TypedDict):
    what: Line
    exit_code: Count
    where: NotRequired[str]
    next: NotRequired[str]
    detail: NotRequired[str]
    trace: NotRequired[str]


class Need(TypedDict):
    parts: list[Sha256]
    offsets: NotRequired[dict[Sha256, Count]]


class Progress(TypedDict):
    text: Line


class LogLine(TypedDict):
    text: str


class Started(TypedDict):
    release: ReleaseId
    app: Line


class TerminalOutput(TypedDict):
    """In base64."""

    data: Annotated[str, pattern("base64", r"[A-Za-z0-9+/=]{0,100000}")]


class WorkerEvent(TypedDict):
    app: Line
    slot: Count
    state: Word
    pid: NotRequired[Count | None]
    failure: NotRequired[Line | None]
