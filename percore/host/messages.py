"""What the control side asks: a class for each operation, read with types and bounds.

The names of the fields are those on the wire. A field with a default may be left out; one that is not known here passes unread.
Resources and handlers (`Spec`) are read by the classes in `resources`, which know their kinds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, Optional

from percore.common.names import RELEASE_ID, is_absolute_path, is_inner_path
from percore.common.typed import Count, Line, Rule, Sha256, between, pattern

Spec = dict[str, Any]
"""A resource or a handler as JSON has it: a `kind`, and what the class of that kind says."""

Path = Annotated[str, Rule("an absolute path", lambda path: len(path) < 4096 and is_absolute_path(path))]
ReleaseId = Annotated[str, Rule("a release id", RELEASE_ID.fullmatch)]
ReleasePart = Annotated[str, pattern("a part of a release id", r"[0-9a-f-]{1,40}")]
Port = Annotated[int, between(1, 65535)]
Seconds = Annotated[float, between(0, 86400)]
InnerPath = Annotated[str, Rule("a path in a directory", lambda path: path != "" and is_inner_path(path))]
Sizes = dict[Sha256, Count]
NOTHING: Mapping[str, Any] = MappingProxyType({})

CONFIRM_SECONDS = 30.0
"""So long without a word from the control side, and it is gone; a rollout says by itself how long (confirm_seconds)."""


class TargetPaths(NamedTuple):
    """Where the app and the supervisor are on this host."""

    deploy_to: Path
    command: list[Path]
    home: Path
    package: Path
    user: Optional[Line] = None
    confirm_seconds: Seconds = CONFIRM_SECONDS
    app: Optional[Line] = None  # app_name, which with the environment makes a project
    env: Optional[Line] = None
    renamed_from: Optional[Line] = None
    shared: Mapping[Line, Line] = NOTHING  # its settings of what it shares with other projects


class Plan(NamedTuple):
    """What activation does around the apps: `before` and `after` they are switched; `health` says what to ask.

    `handlers` are those that a change may notify, in the order in which they run.
    """

    before: list[Spec]
    after: list[Spec]
    handlers: Sequence[Spec] = ()
    health: Mapping[str, Any] = NOTHING


class TagChoice(NamedTuple):
    """`tags.Selection` as it is sent."""

    tags: Sequence[Line] = ()
    skip: Sequence[Line] = ()


class Archive(NamedTuple):
    """The packed artifact. `bytes` as it is sent."""

    sha256: Sha256
    bytes: Count
    unpacked_bytes: Count


class SentCommit(NamedTuple):
    """What the release was built of. `branch` is empty in a detached checkout."""

    sha: Annotated[str, pattern("the hash of a commit", r"[0-9a-f]{7,64}")]
    branch: Line
    is_dirty: bool


class PackageArchive(NamedTuple):
    """percore's own on-host package, and where it is unpacked."""

    path: Path
    sha256: Sha256
    bytes: Count
    unpacked_bytes: Count


class ProbeTarget(NamedTuple):
    """What to ask. `name` is the host it is about."""

    name: Line
    address: Line
    port: Port
    path: Optional[Line]
    site: Line = ""  # the Host header
    tls: bool = False


class InspectRequest(NamedTuple):
    target: TargetPaths
    owner: Optional[Line] = None
    resources: Sequence[Spec] = ()
    programs: Sequence[Line] = ()
    unit: Optional[Line] = None  # in whose PATH these are looked for, instead of our own
    fingerprint: Optional[Line] = None  # also tell which releases of this one were edited by hand


class CompareRequest(NamedTuple):
    target: TargetPaths
    resources: list[Spec]
    handlers: list[Spec]
    sizes: Sizes
    diff: bool
    place: Line
    record: Optional[dict[str, Any]] = None
    artifact: Optional[Sha256] = None
    activation: Optional[Plan] = None
    places: Mapping[str, Line] = NOTHING  # where a value of the record is set


class CompareReleaseRequest(NamedTuple):
    target: TargetPaths
    release: ReleaseId
    absent: Optional[Sequence[Line]] = None


class DriftRequest(NamedTuple):
    target: TargetPaths


class StageRequest(NamedTuple):
    target: TargetPaths
    release: ReleaseId
    fingerprint: Line
    record: dict[str, Any]
    activation: Plan
    selection: TagChoice
    prepare: list[Spec]
    files: Sizes
    artifact: Archive
    package: PackageArchive
    digest: Optional[Sha256] = None  # of the artifacts of this release for all kinds of hosts
    commit: Optional[SentCommit] = None
    shared: Mapping[InnerPath, InnerPath] = NOTHING  # places in the release, and what they lead to in shared/
    absent: Sequence[Line] = ()  # apps of the record that other hosts run
    irreversible: bool = False  # its release command changes what no rollback brings back


class AmendRequest(NamedTuple):
    target: TargetPaths
    activation: Plan
    selection: TagChoice
    prepare: list[Spec]
    files: Sizes


class PrepareRequest(NamedTuple):
    target: TargetPaths
    resources: list[Spec]
    handlers: Sequence[Spec] = ()


class SetUpRequest(NamedTuple):
    target: TargetPaths
    resources: list[Spec]
    handlers: list[Spec]
    sizes: Sizes
    owner: Line
    run: Line
    verb: Line = "setup"
    note: Mapping[str, Any] = NOTHING


class KeepRequest(NamedTuple):
    target: TargetPaths
    verb: Line = "setup"
    note: Mapping[str, Any] = NOTHING


class ProbeRequest(NamedTuple):
    targets: Sequence[ProbeTarget] = ()
    mark: bool = False


class ActivateRequest(NamedTuple):
    target: TargetPaths
    release: ReleaseId
    run: Line = ""
    amended: bool = False
    verb: Line = "deploy"
    note: Mapping[str, Any] = NOTHING
    absent: Optional[Sequence[Line]] = None  # apps that other hosts run; None: as the release was placed before


class AttachRequest(NamedTuple):
    target: TargetPaths
    owner: Line
    run: Line


class HealthRequest(NamedTuple):
    pass


class RevertRequest(NamedTuple):
    target: TargetPaths
    verb: Line = "deploy"
    note: Mapping[str, Any] = NOTHING
    result: Line = "rolled back: the run failed elsewhere"


class ConfirmRequest(NamedTuple):
    target: TargetPaths
    release: ReleaseId
    deployed: bool
    keep: Count
    verb: Line = "deploy"
    note: Mapping[str, Any] = NOTHING
    placement: Mapping[Line, Line] = NOTHING  # by app of which the fleet has one, the host that runs it


class ByeRequest(NamedTuple):
    pass


class HoldRequest(NamedTuple):
    target: TargetPaths
    owner: Line
    why: Line = ""


class LetGoRequest(NamedTuple):
    target: TargetPaths


class HistoryRequest(NamedTuple):
    target: TargetPaths
    count: Count = 20  # type: ignore[assignment] # its name on the wire, which every tuple has for a method


class FindRequest(NamedTuple):
    target: TargetPaths
    release: Optional[ReleasePart] = None


class StatusRequest(NamedTuple):
    target: TargetPaths


class FiguresRequest(NamedTuple):
    target: TargetPaths


class JobsRequest(NamedTuple):
    """`names` are jobs; none: all of them."""

    target: TargetPaths
    names: Sequence[Line] = ()


class StopRequest(NamedTuple):
    target: TargetPaths
    owner: Line
    unit: Optional[Line] = None


class StartRequest(NamedTuple):
    target: TargetPaths
    owner: Line
    unit: Optional[Line] = None


class ControlRequest(NamedTuple):
    """`percore VERB` on the apps of the release, or on one of them. Without an `owner` it only looks."""

    target: TargetPaths
    verb: Annotated[str, pattern("a command on apps", "start|stop|restart|reload|scale|describe|flush")]
    owner: Optional[Line] = None
    app: Optional[Line] = None
    count: Optional[Annotated[str, pattern("a number of workers", r"[+-]?[0-9]{1,5}|max")]] = None  # type: ignore[assignment]


class RemoveRequest(NamedTuple):
    """Without an `owner` it only tells what would go."""

    target: TargetPaths
    owner: Optional[Line] = None
    data: bool = False


class ExecRequest(NamedTuple):
    words: list[Line]


class StreamRequest(NamedTuple):
    target: TargetPaths
    words: list[Line]
