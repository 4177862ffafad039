"""What the control side asks about commands and jobs, and says to a command that runs."""

from __future__ import annotations

from typing import Annotated, NamedTuple, Optional

from percore.common.typed import Line, between, pattern
from percore.host.messages import ReleaseId, TargetPaths


class ReleaseCommandRequest(NamedTuple):
    """`command` is a line for a shell, run as this app, or as the release's first one."""

    target: TargetPaths
    release: ReleaseId
    command: Line
    app: Line = ""


class OperatorTerminal(NamedTuple):
    """The operator's. `kind` is what programs find in TERM."""

    rows: Annotated[int, between(1, 10_000)]
    columns: Annotated[int, between(1, 10_000)]
    kind: Annotated[str, pattern("a kind of terminal", r"[A-Za-z0-9_.+-]{1,64}")] = "dumb"


class RunRequest(NamedTuple):
    """`words` are a command in the current release, run as this app, or as the release's first one."""

    target: TargetPaths
    words: list[Line]
    app: Line = ""
    terminal: Optional[OperatorTerminal] = None


class InputMessage(NamedTuple):
    """What is typed while a command runs, in base64; empty at the end of the input."""

    data: Line
