"""Every operation and every event of an agent: the shape of what it answers (`messages`), and how long it may take."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

from percore.deploy.connection.care_messages import BootFound, Diagnosis, Figures, JobsAnswer, Patched, Proved
from percore.deploy.connection.messages import (
    Changed,
    CommandEnded,
    Compared,
    Controlled,
    Current,
    Done,
    Drift,
    FoundRelease,
    HistoryAnswer,
    HostFacts,
    Inspected,
    LetGo,
    LogLine,
    Need,
    Ports,
    Probed,
    Progress,
    Removal,
    Started,
    TerminalOutput,
    WithStatus,
    WorkerEvent,
)


class ReplyLimits(NamedTuple):
    """In seconds: `idle` without anything but `alive`, `whole` altogether; None: for as long as the operator waits."""

    idle: float | None
    whole: float | None
    streams: bool = False  # it may say as much as it likes


LOOK = ReplyLimits(30.0, 60.0)
QUESTION = ReplyLimits(900.0, 1800.0)
WORK = ReplyLimits(3600.0, 6 * 3600.0)
COMMAND = ReplyLimits(3600.0, None, streams=True)
STREAM = ReplyLimits(None, None, streams=True)

OPERATIONS: dict[str, tuple[type, ReplyLimits]] = {
    "inspect": (Inspected, QUESTION),
    "compare": (Compared, QUESTION),
    "compare_release": (Compared, QUESTION),
    "drift": (Drift, QUESTION),
    "find": (FoundRelease, QUESTION),
    "status": (Current, QUESTION),
    "diagnose": (Diagnosis, QUESTION),
    "figures": (Figures, LOOK),
    "history": (HistoryAnswer, QUESTION),
    "jobs": (JobsAnswer, QUESTION),
    "ports": (Ports, QUESTION),
    "probe": (Probed, QUESTION),
    "hold": (Done, QUESTION),
    "let_go": (LetGo, QUESTION),
    "health": (WithStatus, QUESTION),
    "attach": (WithStatus, QUESTION),
    "stage": (Changed, WORK),
    "amend": (Changed, WORK),
    "prepare": (Changed, WORK),
    "set_up": (Changed, WORK),
    "keep": (Done, WORK),
    "stop": (Changed, WORK),
    "start": (WithStatus, WORK),
    "remove": (Removal, WORK),
    "patch": (Patched, WORK),
    "reboot": (BootFound, QUESTION),
    "prove": (Proved, QUESTION),
    "control": (Controlled, COMMAND),
    "activate": (WithStatus, WORK),
    "revert": (WithStatus, WORK),
    "confirm": (Done, WORK),
    "release_command": (CommandEnded, COMMAND),
    "run": (CommandEnded, STREAM),
    "exec": (CommandEnded, COMMAND),
    "stream": (Done, STREAM),
}
"""Every operation of the agent: what it answers, and how long it may take."""

EVENTS: dict[str, type] = {
    "facts": TypedDict("FactsEvent", {"facts": HostFacts}),  # type: ignore[operator]
    "need": Need,
    "progress": Progress,
    "line": LogLine,
    "started": Started,
    "output": TerminalOutput,
    "worker": WorkerEvent,
}
"""Beside `result` and `alive`. Others, such as `changes`, are passed over."""
