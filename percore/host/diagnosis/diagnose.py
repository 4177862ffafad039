"""What is wrong with this host: what `percore doctor` finds as the supervisor's user, and what root alone can see."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from percore.common import typed
from percore.common.finding import ERROR, NOTE, WARNING, Finding
from percore.common.typed import Line
from percore.errors import PercoreError
from percore.host import facts
from percore.host.diagnosis.firewall import about_firewall
from percore.host.diagnosis.nginx import ServedCertificate, look_at_nginx
from percore.host.messages import Port, TargetPaths
from percore.host.output import Output, TooMuch
from percore.host.release.plan import sites_here
from percore.host.release.target import Target
from percore.host.session import Session

DOCTOR_SECONDS = 30.0
_LITTLE_DISK = 512 << 20
_FEW_INODES = 10_000
_MOST_FINDINGS = 200


class DiagnoseRequest(NamedTuple):
    """`ports` are those that clients use."""

    target: TargetPaths
    ports: Sequence[Port] = ()


class DiagnoseReply(NamedTuple):
    findings: list[Finding]
    certificates: list[ServedCertificate]


def diagnose(session: Session, request: DiagnoseRequest, target: Target) -> DiagnoseReply:
    """Each finding once. Nothing is changed."""
    nginx = look_at_nginx(sites_here(target.releases))
    findings = [
        *_asked_command(target),
        *_about_disk(target),
        *about_firewall(request.ports),
        *nginx.findings,
    ]
    return DiagnoseReply(list(dict.fromkeys(findings)), nginx.certificates)


class SaidFinding(NamedTuple):
    """As an older version says it, too."""

    what: Line
    next: Line
    topic: Line = ""
    severity: Line = WARNING


class SaidFindings(NamedTuple):
    findings: list[SaidFinding]


def _asked_command(target: Target) -> list[Finding]:
    """Of the supervisor, which runs as a user that root does not believe: text, read with bounds."""
    if not target.supervisor.is_installed():
        return []
    try:
        output = Output(target.supervisor.start("doctor", "--json"), seconds=DOCTOR_SECONDS)
        said = output.all()
        output.code()
        found = typed.read(SaidFindings, json.loads(said))
    except (PercoreError, TooMuch, typed.Wrong, ValueError) as error:
        what = f"'percore doctor' gave no answer that makes sense there: {error}"
        return [Finding(what, "percore doctor, on the host", "supervisor", ERROR)]
    return [_believed(each) for each in found.findings[:_MOST_FINDINGS]]


def _believed(said: SaidFinding) -> Finding:
    severity = said.severity if said.severity in (ERROR, WARNING, NOTE) else WARNING
    return Finding(said.what, said.next, said.topic, severity)


def _about_disk(target: Target) -> Iterator[Finding]:
    """Where releases and percore itself lie; the command looked at the place of logs and state."""
    seen = {_device(target.supervisor.home)}
    for path in (target.releases.deploy_to, target.supervisor.package):
        if _device(path) in seen:
            continue
        seen.add(_device(path))
        room = os.statvfs(_existing(path))
        free, whole = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
        if free < min(_LITTLE_DISK, whole // 20):
            what = f"only {free >> 20} MB are free below {path}"
            yield Finding(what, "remove files there, or lower keep_releases", "disk", ERROR)
        inodes = facts.free_inodes(path)
        if inodes is not None and inodes < min(_FEW_INODES, room.f_files // 20):
            what = f"only {inodes} inodes are free below {path}"
            yield Finding(what, "remove files there, or lower keep_releases", "disk", ERROR)


def _device(path: str) -> int:
    return os.stat(_existing(path)).st_dev


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path) or "/"
    return path
