"""What `diagnose` is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from percore.common.finding import Finding
from percore.host.messages import Port, TargetPaths


class DiagnoseRequest(NamedTuple):
    """`ports` are those that clients use."""

    target: TargetPaths
    ports: Sequence[Port] = ()


class ServedCertificate(NamedTuple):
    """The host's own certificate out of a file that NGINX uses, for the names of that server; the control side judges it."""

    path: str
    pem: str
    names: Sequence[str]


class DiagnoseReply(NamedTuple):
    findings: list[Finding]
    certificates: list[ServedCertificate]
