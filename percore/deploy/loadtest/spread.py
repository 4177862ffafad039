"""How requests spread over hosts and workers: what each worker accepted meanwhile, by its own counter. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Workers = Sequence[Mapping[str, Any]]


class WorkerShare(NamedTuple):
    """`accepted` is None where it is not counted, or the worker was replaced meanwhile."""

    host: str
    app: str
    slot: int
    pid: int
    accepted: int | None
    note: str = ""


def shares_of(host: str, before: Workers, after: Workers) -> list[WorkerShare]:
    """Of the apps that took anything."""
    known = {worker["pid"]: worker for worker in before}
    found = [_share(host, worker, known.get(worker["pid"])) for worker in after]
    busy = {share.app for share in found if share.accepted}
    return [share for share in found if share.app in busy]


def _share(host: str, worker: Mapping[str, Any], before: Mapping[str, Any] | None) -> WorkerShare:
    place = (host, worker["app"], worker["slot"], worker["pid"])
    if worker["accepted"] is None:
        return WorkerShare(*place, None, "not counted")
    if before is None or before["accepted"] is None:
        return WorkerShare(*place, worker["accepted"], "started meanwhile")
    return WorkerShare(*place, max(0, worker["accepted"] - before["accepted"]))


def total(shares: Sequence[WorkerShare]) -> int:
    return sum(share.accepted or 0 for share in shares)


def compare(host: str, sent: int, shares: Sequence[WorkerShare], *, kept: bool) -> str:
    """How the workers' sum and the generator's count belong together; empty where both are the same."""
    accepted = total(shares)
    if accepted == sent:
        return ""
    text = f"{host}: {sent} requests sent, {accepted} connections accepted"
    if kept:
        return f"{text}: several requests share a connection, so these are shares of connections"
    if accepted > sent:
        return f"{text}: {accepted - sent} are health checks, other clients, or repeated by NGINX"
    return f"{text}: {sent - accepted} did not reach a worker that counts"
