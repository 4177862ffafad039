"""What runs on every host, and what the load balancers leave out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from percore import __version__
from percore.deploy.build.git import describe_commit
from percore.deploy.plan.version import is_newer
from percore.deploy.report import WORKER_HEADS, Report, moment, worker_rows
from percore.deploy.rollout.edge.load_balancers import Entry, find_drained
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import ask_all
from percore.deploy.rollout.parallel import stop_at
from percore.deploy.rollout.scope import Scope
from percore.errors import PercoreError
from percore.host.drained import KEPT


class NotRunning(PercoreError):
    """Something that should run does not."""

    exit_code = 9


APP_KEYS = ("name", "mode", "wanted")
WORKER_KEYS = ("slot", "pid", "state", "release", "port", "memory_bytes", "cpu_percent", "uptime_seconds", "restarts")
"""Of `invoke status --json`."""


def status(scope: Scope, report: Report, *, as_json: bool) -> None:
    """What runs on every host. Exit code 7 when a host does not answer, 9 when something does not run that should."""
    hosts, (replies, faults) = ask_all(scope, "status")
    drained, lost = find_drained(scope)
    entries = [_status_entry(host, replies.get(host.name), drained) for host in hosts]
    if as_json:
        report.json(entries)
    else:
        _print_status(entries, scope, report)
    stop_at({**lost, **faults}, report)
    down = [entry["host"] for entry in entries if entry["missing"]]
    if down:
        advice = scope.command("converge", f"--limit {','.join(down)}")
        raise NotRunning(f"not everything runs on {', '.join(down)}", next=advice)


def _status_entry(host: Host, reply: Mapping[str, Any] | None, drained: Sequence[tuple[str, Entry]]) -> dict[str, Any]:
    """The shape that scripts rely on; its names stay."""
    found = {
        "host": host.name,
        "reachable": False,
        "percore": None,
        "release": None,
        "commit": None,
        "apps": [],
        "missing": [],
        "drained": [{"at": name, **_drained_entry(entry)} for name, entry in drained if entry["host"] == host.name],
    }
    if reply is None:
        return found
    apps = [
        {
            **{name: app[name] for name in APP_KEYS},
            "workers": [{name: worker[name] for name in WORKER_KEYS} for worker in app["workers"]],
        }
        for app in reply["status"]["apps"]
    ]
    return {
        **found,
        "reachable": True,
        "percore": reply["status"].get("version"),
        "release": reply["current"],
        "commit": reply.get("commit"),
        "apps": apps,
        "missing": reply["missing"],
    }


def _drained_entry(entry: Entry) -> dict[str, Any]:
    return {"by": entry["who"], "since": moment(entry["at"]), "why": entry["why"], "stays": entry["verb"] == KEPT}


def _print_status(entries: Sequence[Mapping[str, Any]], scope: Scope, report: Report) -> None:
    rows: list[list[object]] = []
    for entry in entries:
        found = worker_rows(entry["host"], entry)
        rows += found or [[entry["host"], "nothing runs" if entry["reachable"] else "unreachable", *[""] * 10]]
    report.table(WORKER_HEADS, rows)
    for entry in entries:
        drained = (_tell_drained(each, entry["host"], scope) for each in entry["drained"])
        for text in [*entry["missing"], *_tell_version(entry["percore"], scope), *drained]:
            report.host(entry["host"], text)
    commits = {entry["release"]: describe_commit(entry["commit"]) for entry in entries if entry["commit"]}
    for release, commit in commits.items():
        report.line(f"release {release}: commit {commit}")


def _tell_version(running: str | None, scope: Scope) -> Iterator[str]:
    """Where the supervisor is of another version than this control machine."""
    if running and running != __version__:
        advice = f"pip install 'percore[deploy]=={running}'" if is_newer(running) else scope.command("deploy")
        yield f"the supervisor runs version {running}, this is version {__version__} -> {advice}"


def _tell_drained(drained: Mapping[str, Any], host: str, scope: Scope) -> str:
    if drained["stays"]:
        why = f": {drained['why']}" if drained["why"] else ""
        return f"drained at {drained['at']} since {drained['since']} by {drained['by']}{why}"
    return (
        f"drained at {drained['at']} since {drained['since']} by a run that goes on, or did not end ({drained['by']})"
        f" -> {scope.command('undrain', f'--host {host}')}"
    )
