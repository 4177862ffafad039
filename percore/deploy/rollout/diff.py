"""What a deploy would do, said before it is done: per host what changes, and why its workers are replaced."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from percore.common.printable import lines_of
from percore.deploy.report import Report
from percore.deploy.rollout.hosts import Host, count_hosts, on_all, stop_at
from percore.deploy.rollout.inspect import PLACE, comparable
from percore.errors import PercoreError, PreflightError, UsageError


class ChangesPending(PercoreError):
    """A check found that a deploy would change something."""

    exit_code = 8


def compare(hosts: Sequence[Host], report: Report, *, diff: bool) -> None:
    """Asks every host that differs what it would change; leaves the answers in its notes. Nothing is touched."""

    def ask(host: Host) -> None:
        assert host.state is not None
        artifact = host.notes.get("artifact")
        parts = dict(host.selected.files)
        host.notes["plan"] = host.ask(
            "compare", parts=parts, resources=comparable(host), record=host.notes.get("record"), place=PLACE,
            artifact=artifact and artifact.sha256, handlers=list(host.state.handlers), diff=diff,
            sizes={name: len(part) for name, part in parts.items()},
        )  # fmt: skip

    stop_at(on_all([host for host in hosts if not host.notes["up_to_date"]], ask), report)


def compare_release(hosts: Sequence[Host], report: Report) -> None:
    """Asks every host what a release that it has would change; leaves the answers in its notes."""

    def ask(host: Host) -> None:
        host.notes["plan"] = host.ask("compare_release", release=host.notes["release"])

    stop_at(on_all(hosts, ask), report)


def require_somebody_to_ask(hosts: Sequence[Host]) -> None:
    """Where ask_before_switch is set, a rollout that nobody watches says --yes; found out before anything is done."""
    if must_ask(hosts) and not sys.stdin.isatty():
        raise UsageError(
            f"ask_before_switch is set for environment '{hosts[0].scope.env}', and there is nobody to ask",
            next="add --yes",
        )


def ask(hosts: Sequence[Host], report: Report) -> None:
    """Where ask_before_switch is set, a person reads what would change, and says yes."""
    if must_ask(hosts) and not report.ask(f"change {count_hosts(hosts)} of {hosts[0].scope.env}?"):
        raise PreflightError("the answer was not yes; nothing was touched")


def must_ask(hosts: Sequence[Host]) -> bool:
    return not hosts[0].scope.yes and any(host.settings.ask_before_switch for host in hosts)


def describe_plan(host: Host) -> dict[str, Any]:
    """JSON-ready: `host`, `release`, `changes` (each `text` and `diff`), `handlers` that would run, `reasons`: why workers are
    replaced."""
    plan: Mapping[str, Any] = host.notes.get("plan", {"changes": [], "reasons": [], "handlers": []})
    reasons = list(plan["reasons"])
    current = host.notes["current"]
    if current is None:
        reasons = ["nothing is deployed there yet"]
    elif not host.notes["up_to_date"] and not reasons and not plan["changes"] and not plan["handlers"]:
        reasons = ["not all workers of the release run"]
    return {
        "host": host.name, "release": current, "up_to_date": host.notes["up_to_date"],
        "changes": plan["changes"], "handlers": plan["handlers"], "reasons": reasons,
    }  # fmt: skip


def show(hosts: Sequence[Host], report: Report) -> None:
    """What is the same on several hosts is shown once."""
    alike: dict[str, list[str]] = {}
    for host in hosts:
        text = json.dumps({key: value for key, value in describe_plan(host).items() if key != "host"})
        alike.setdefault(text, []).append(host.name)
    for text, names in alike.items():
        plan, title = json.loads(text), ", ".join(names)
        if plan["up_to_date"]:
            report.host(title, f"nothing to change, on {plan['release']}")
            continue
        report.host(title, f"on {plan['release'] or 'no release'}; this would change:")
        for reason in plan["reasons"]:
            report.step(f"because {reason}")
        for change in plan["changes"]:
            report.step(change["text"])
            for line in lines_of(change["diff"]):
                report.step(f"  {line}")
        for handler in plan["handlers"]:
            report.step(f"then {handler}")
