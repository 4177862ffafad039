"""`/health`: 200 as long as every worker that should be ready is."""

from __future__ import annotations

from typing import Any

from percore.web.http import HttpRequest, HttpResponse, Right, as_json
from percore.web.snapshot import Snapshot, Snapshots


def answer_health(snapshots: Snapshots, request: HttpRequest) -> HttpResponse:
    """Reasons only for those who may see the names of apps."""
    found = reasons(snapshots.get())
    answer: dict[str, Any] = {"status": "failing" if found else "ok"}
    if request.right >= Right.FIGURES:
        answer["reasons"] = found
    return as_json(answer, 503 if found else 200)


def reasons(snapshot: Snapshot) -> list[str]:
    """One line for each thing that is not as it should be."""
    if snapshot.error:
        return [snapshot.error]
    found = []
    for app in snapshot.apps.values():
        ready = [worker for worker in app["workers"] if worker["state"] == "running" and not worker["failure"]]
        done = [worker for worker in app["workers"] if worker["finished"]]
        missing = app["wanted"] - len({worker["slot"] for worker in (*ready, *done)})
        if missing > 0:
            why = next((f": {each['failure']}" for each in app["workers"] if each["failure"]), "")
            found.append(f"{app['name']}: {missing} of {app['wanted']} workers are not ready{why}")
    return found
