"""What the status of an app and of its workers says, on both sides of a connection."""

from __future__ import annotations

from collections.abc import Mapping

from percore.common.typing import Any

PASSING = ("starting", "stopping")
"""States that end by themselves soon."""


def is_up(worker: Mapping[str, Any]) -> bool:
    """It runs, or it was meant to end and did so with success."""
    return worker["state"] == "running" or bool(worker.get("finished"))


def count_up(app: Mapping[str, Any]) -> int:
    return sum(map(is_up, app["workers"]))


def shortage_of(app: Mapping[str, Any]) -> str:
    """`web: 1 of 2 workers run (exited with code 1)`; empty where enough of them are up."""
    up = count_up(app)
    if up >= app["wanted"]:
        return ""
    reasons = (worker.get("failure") for worker in app["workers"] if not is_up(worker))
    reason = next(filter(None, reasons), "")
    return f"{app['name']}: {up} of {app['wanted']} workers run" + (f" ({reason})" if reason else "")


def is_job(app: Mapping[str, Any]) -> bool:
    """It runs at its times; between them it has no worker, and while it runs perhaps one of an earlier release."""
    return app.get("job") is not None


def is_wanted(app: Mapping[str, Any]) -> bool:
    """Its workers should run, or its times count."""
    return bool(app["job"].get("scheduled")) if is_job(app) else app["wanted"] > 0
