"""What an agent may say: the shape of each event and reply, and how long and how much it may take to say it.

A host is not trusted with more than itself. So nothing it says is used before `read_event` or `read_reply` looked at it, and
what is wrong raises `WrongReply`, which the connection turns into a failure of that host alone. Names that are not known here
pass (a status goes into JSON as it came), yet nothing in the code reads them.
"""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

from percore.common.names import RELEASE_ID
from percore.common.typed import Count, Line, Rule, Sha256, Wrong, between, pattern, read

DEEPEST = 32
LONGEST_NUMBER = 20
MOST_EVENTS = 100_000
MOST_BYTES = 64 << 20
"""Of one reply and all that is said before it, where no lines of logs or of a command are streamed."""


WrongReply = Wrong
"""What is wrong with it, as the end of a sentence that begins with `its agent answered 'OP'`."""


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


class Facts(TypedDict):
    hostname: Word
    system: Name
    machine: Name
    kernel: Word
    os: Word
    os_version: Word
    os_codename: Word
    python: PythonVersion
    python_path: Path
    uid: Count
    user: User
    cores: Count
    memory_bytes: Count
    systemd: bool
    nginx: Path | None
    node: Path | None
    disk_free_bytes: Count
    time: Moment


class Worker(TypedDict):
    slot: Count
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


class App(TypedDict):
    name: Line
    mode: Word
    wanted: Count
    workers: list[Worker]


class Status(TypedDict):
    apps: list[App]


class Mark(TypedDict):
    mark: Word
    fingerprint: NotRequired[Line]
    artifact: NotRequired[Line]


class Inspected(TypedDict):
    current: ReleaseId | None
    marks: dict[ReleaseId, Mark]
    changes: list[Line]
    owed: list[Line]
    unfinished: bool
    status: Status
    disk_free_bytes: Count
    inodes_free: Count | None
    memory_free_bytes: Count | None
    versions: dict[Name, Version]


class Change(TypedDict):
    text: Line
    diff: str


class Compared(TypedDict):
    changes: list[Change]
    reasons: list[Line]
    handlers: list[Line]


class Drift(TypedDict):
    current: ReleaseId | None
    status: Status
    workers: list[Line]
    files: list[Change]
    owed: NotRequired[list[Line]]


class Phase(TypedDict):
    asked: Count
    failed: Count
    faults: list[Line]
    p99: Figure | None


class Probe(TypedDict):
    target: Line | None
    before: Phase
    during: Phase


class Probed(TypedDict):
    probe: Probe | None


class Entry(TypedDict):
    """One of the history. The names of its releases are shown, and lead nowhere."""

    at: Moment
    who: Line
    what: Line
    release: Line | None
    result: Line


class History(TypedDict):
    entries: list[Entry]


class Found(TypedDict):
    release: ReleaseId
    current: ReleaseId | None


class Holder(TypedDict):
    owner: NotRequired[Line]
    why: NotRequired[Line]


class LetGo(TypedDict):
    holder: Holder


class Ports(TypedDict):
    strangers: dict[PortName, Line]


class Current(TypedDict):
    current: ReleaseId | None
    status: Status


class WithStatus(TypedDict):
    status: Status


class Changed(TypedDict):
    changed: list[Line]


class Ended(TypedDict):
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


class WorkerEvent(TypedDict):
    app: Line
    slot: Count
    state: Word
    pid: NotRequired[Count | None]
    failure: NotRequired[Line | None]


class Limits(NamedTuple):
    """In seconds: `idle` without anything but `alive`, `whole` altogether; None: for as long as the operator waits."""

    idle: float | None
    whole: float | None
    streams: bool = False  # it may say as much as it likes


QUESTION = Limits(900.0, 1800.0)
WORK = Limits(3600.0, 6 * 3600.0)
COMMAND = Limits(3600.0, None, streams=True)
STREAM = Limits(None, None, streams=True)

_OPERATIONS: dict[str, tuple[type, Limits]] = {
    "inspect": (Inspected, QUESTION),
    "compare": (Compared, QUESTION),
    "compare_release": (Compared, QUESTION),
    "drift": (Drift, QUESTION),
    "find": (Found, QUESTION),
    "status": (Current, QUESTION),
    "history": (History, QUESTION),
    "ports": (Ports, QUESTION),
    "probe": (Probed, QUESTION),
    "hold": (Done, QUESTION),
    "let_go": (LetGo, QUESTION),
    "health": (WithStatus, QUESTION),
    "attach": (WithStatus, QUESTION),
    "stage": (Changed, WORK),
    "amend": (Changed, WORK),
    "prepare": (Changed, WORK),
    "stop": (Changed, WORK),
    "activate": (WithStatus, WORK),
    "revert": (WithStatus, WORK),
    "confirm": (Done, WORK),
    "exec": (Ended, COMMAND),
    "stream": (Done, STREAM),
}
"""Every operation of the agent: what it answers, and how long it may take."""

_EVENTS: dict[str, type] = {
    "facts": TypedDict("FactsEvent", {"facts": Facts}),  # type: ignore[operator]
    "need": Need,
    "progress": Progress,
    "line": LogLine,
    "worker": WorkerEvent,
}
"""Beside `result` and `alive`. Others, such as `changes`, are passed over."""


def limits_of(op: str) -> Limits:
    return _OPERATIONS[op][1]


def read_line(line: bytes) -> dict[str, Any]:
    """One line as an event: a JSON object with the name of an event in it."""
    try:
        event = json.loads(line, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise WrongReply(f"with what is no JSON ({type(error).__name__})") from None
    event = _sound(event)
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise WrongReply("with what is no event")
    return event


def read_event(event: dict[str, Any]) -> dict[str, Any]:
    """An event, its values looked at."""
    kind = _EVENTS.get(event["event"])
    checked: dict[str, Any] = event if kind is None else read(kind, event, "")
    return checked


def read_result(op: str, event: dict[str, Any]) -> dict[str, Any]:
    """The last line of an answer: `ok` and what the operation returns, or the `error`."""
    ok = read(bool, event.get("ok"), "ok")
    checked: dict[str, Any] = (
        read(_OPERATIONS[op][0], event, "") if ok else {**event, "error": read(Failure, event.get("error"), "error")}
    )
    return checked


# -- numbers, texts and depths that no reader needs to fear -------------------------------------------------------------


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError("too long a number")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("no finite number")
    return number


def _sound(value: Any, depth: int = 0) -> Any:
    """The value, not nested too deeply, and its texts such that they can be encoded: half a character stands as its escape."""
    if depth > DEEPEST:
        raise WrongReply(f"with what is nested more than {DEEPEST} deep")
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_sound(entry, depth + 1) for entry in value]
    if isinstance(value, dict):
        return {_sound(key): _sound(entry, depth + 1) for key, entry in value.items()}
    return value
