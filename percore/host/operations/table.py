"""Everything the control side can ask for: an operation is a function of the session, a typed request, and mostly the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Union

from percore.common import typed
from percore.errors import UsageError
from percore.host import messages as m
from percore.host.commands import messages as commands
from percore.host.commands.console import run
from percore.host.commands.release import release_command
from percore.host.diagnosis.diagnose import DiagnoseRequest, diagnose
from percore.host.operations.app_control import control, jobs, remove, start, stop
from percore.host.operations.figures import figures
from percore.host.operations.look import (
    compare,
    compare_release,
    drift,
    find,
    inspect,
    ports,
    read_history,
    status,
)
from percore.host.operations.switch import (
    activate,
    amend,
    attach,
    bye,
    confirm,
    health,
    hold,
    let_go,
    prepare,
    revert,
    stage,
)
from percore.host.patching.patch import PatchRequest, ProveRequest, RebootRequest, patch, prove, reboot
from percore.host.projects.messages import PortsRequest
from percore.host.release.target import Target
from percore.host.session import Session, keep, probe, set_up
from percore.host.streams import execute, stream


class OnTarget(NamedTuple):
    """An operation about the app's place on this host, which is made of the request's `target`."""

    request: type
    work: Callable[[Session, Any, Target], Any]


class Simple(NamedTuple):
    """One that needs no target."""

    request: type
    work: Callable[[Session, Any], Any]


def perform(session: Session, message: Mapping[str, Any]) -> dict[str, Any]:
    """What the result line carries besides `ok`. Raises UsageError for a message that makes no sense."""
    op = message.get("op")
    operation = OPERATIONS.get(op) if isinstance(op, str) else None
    if operation is None:
        raise UsageError(f"the agent has no operation {ascii(op)[:40]}", next="update percore on the control machine")
    try:
        request = typed.read(operation.request, message)
    except typed.Wrong as wrong:
        raise UsageError(f"the agent was asked '{op}' {wrong}") from None
    if isinstance(operation, OnTarget):
        reply = operation.work(session, request, Target(request.target))
    else:
        reply = operation.work(session, request)
    answer: dict[str, Any] = typed.as_json(reply)
    return answer


OPERATIONS: dict[str, Union[OnTarget, Simple]] = {
    "inspect": OnTarget(m.InspectRequest, inspect),
    "compare": OnTarget(m.CompareRequest, compare),
    "compare_release": OnTarget(m.CompareReleaseRequest, compare_release),
    "drift": OnTarget(m.DriftRequest, drift),
    "find": OnTarget(m.FindRequest, find),
    "status": OnTarget(m.StatusRequest, status),
    "figures": OnTarget(m.FiguresRequest, figures),
    "jobs": OnTarget(m.JobsRequest, jobs),
    "diagnose": OnTarget(DiagnoseRequest, diagnose),
    "history": OnTarget(m.HistoryRequest, read_history),
    "ports": Simple(PortsRequest, ports),
    "probe": Simple(m.ProbeRequest, probe),
    "stage": OnTarget(m.StageRequest, stage),
    "amend": OnTarget(m.AmendRequest, amend),
    "prepare": OnTarget(m.PrepareRequest, prepare),
    "release_command": OnTarget(commands.ReleaseCommandRequest, release_command),
    "activate": OnTarget(m.ActivateRequest, activate),
    "set_up": OnTarget(m.SetUpRequest, set_up),
    "keep": OnTarget(m.KeepRequest, keep),
    "attach": OnTarget(m.AttachRequest, attach),
    "health": Simple(m.HealthRequest, health),
    "revert": OnTarget(m.RevertRequest, revert),
    "confirm": OnTarget(m.ConfirmRequest, confirm),
    "bye": Simple(m.ByeRequest, bye),
    "hold": OnTarget(m.HoldRequest, hold),
    "let_go": OnTarget(m.LetGoRequest, let_go),
    "stop": OnTarget(m.StopRequest, stop),
    "start": OnTarget(m.StartRequest, start),
    "remove": OnTarget(m.RemoveRequest, remove),
    "patch": OnTarget(PatchRequest, patch),
    "reboot": OnTarget(RebootRequest, reboot),
    "prove": OnTarget(ProveRequest, prove),
    "control": OnTarget(m.ControlRequest, control),
    "run": OnTarget(commands.RunRequest, run),
    "exec": Simple(m.ExecRequest, execute),
    "stream": OnTarget(m.StreamRequest, stream),
}
"""By the names on the wire."""
