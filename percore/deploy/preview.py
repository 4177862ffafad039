"""What a deploy would do, said before it is done: per host what changes, and why its workers are replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from percore.deploy.fleet import Host, on_all, stop_at
from percore.deploy.report import Report
from percore.deploy.survey import PLACE, comparable
from percore.errors import PercoreError


class ChangesPending(PercoreError):
    """A check found that a deploy would change something."""

    exit_code = 8


def compare(hosts: Sequence[Host], report: Report, *, diff: bool) -> None:
    """Asks every host that differs what it would change; leaves the answers in its notes. Nothing is touched."""

    def ask(host: Host) -> None:
        assert host.state is not None
        parts = dict(host.state.files)
        host.notes["plan"] = host.ask(
            "compare", parts=parts, resources=comparable(host), record=host.notes["record"], place=PLACE,
            artifact=host.notes["artifact"].sha256, handlers=list(host.state.handlers), diff=diff,
            sizes={name: len(part) for name, part in parts.items()},
        )  # fmt: skip

    stop_at(on_all([host for host in hosts if not host.notes["up_to_date"]], ask), report)


def describe_plan(host: Host) -> dict[str, Any]:
    """JSON-ready: `host`, `release`, `changes` (each `text` and `diff`), `handlers` that would run, `reasons`: why workers are
    replaced."""
    plan: Mapping[str, Any] = host.notes.get("plan", {"changes": [], "reasons": [], "handlers": []})
    reasons = list(plan["reasons"])
    if host.notes["seen"]["current"] is None:
        reasons = ["nothing is deployed there yet"]
    elif not host.notes["up_to_date"] and not reasons and not plan["changes"] and not plan["handlers"]:
        reasons = ["not all workers of the release run"]
    return {
        "host": host.name, "release": host.notes["seen"]["current"], "up_to_date": host.notes["up_to_date"],
        "changes": plan["changes"], "handlers": plan["handlers"], "reasons": reasons,
    }  # fmt: skip


def show(hosts: Sequence[Host], report: Report) -> None:
    for host in hosts:
        plan = describe_plan(host)
        if plan["up_to_date"]:
            report.host(host.name, f"nothing to change, on {plan['release']}")
            continue
        report.host(host.name, f"on {plan['release'] or 'no release'}; a deploy would switch it:")
        for reason in plan["reasons"]:
            report.step(f"because {reason}")
        for change in plan["changes"]:
            report.step(change["text"])
            for line in change["diff"].splitlines():
                report.step(f"  {line}")
        for handler in plan["handlers"]:
            report.step(f"then {handler}")
