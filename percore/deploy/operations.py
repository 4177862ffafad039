"""The other verbs: looking at the fleet, stopping it, starting it at boot."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from percore.common.printable import lines_of
from percore.deploy.report import WORKER_HEADS, Report, worker_rows
from percore.deploy.rollout.diff import ChangesPending
from percore.deploy.rollout.hosts import (
    Host,
    Scope,
    close_all,
    connect_all,
    count_hosts,
    load_fleet,
    on_all,
    require_all,
    show_event,
    stop_at,
    who_am_i,
)
from percore.deploy.rollout.inspect import connect_hosts
from percore.errors import PercoreError, PreflightError, UsageError


def _ask_all(scope: Scope, op: str, **message: Any) -> tuple[list[Host], dict[str, PercoreError]]:
    """The hosts, each answer in its notes as `reply`, and the faults of those that gave none."""
    hosts = load_fleet(scope)
    try:
        faults = connect_all(hosts)

        def ask(host: Host) -> None:
            host.notes["reply"] = host.ask(op, **message)

        faults.update(on_all([host for host in hosts if host.name not in faults], ask))
    finally:
        close_all(hosts)
    return hosts, faults


def status(scope: Scope, report: Report, *, as_json: bool) -> None:
    """What runs on every host; hosts that do not answer are named, and make the exit code 7."""
    hosts, faults = _ask_all(scope, "status")
    entries = [_status_entry(host, host.notes.get("reply")) for host in hosts]
    if as_json:
        report.json(entries)
    else:
        _print_status(entries, report)
    stop_at(faults, report)


def _status_entry(host: Host, reply: Mapping[str, Any] | None) -> dict[str, Any]:
    """The shape that scripts rely on; its names stay."""
    if reply is None:
        return {"host": host.name, "reachable": False, "release": None, "apps": []}
    names = ("name", "mode", "wanted", "workers")
    worker_names = (
        "slot",
        "pid",
        "state",
        "release",
        "port",
        "memory_bytes",
        "cpu_percent",
        "uptime_seconds",
        "restarts",
    )
    apps = [
        {
            **{name: app[name] for name in names if name != "workers"},
            "workers": [{name: worker[name] for name in worker_names} for worker in app["workers"]],
        }
        for app in reply["status"]["apps"]
    ]
    return {"host": host.name, "reachable": True, "release": reply["current"], "apps": apps}


def _print_status(entries: Sequence[Mapping[str, Any]], report: Report) -> None:
    rows: list[list[object]] = []
    for entry in entries:
        found = worker_rows(entry["host"], entry)
        rows += found or [[entry["host"], "nothing runs" if entry["reachable"] else "unreachable", *[""] * 10]]
    report.table(WORKER_HEADS, rows)


def stop(scope: Scope, report: Report) -> None:
    """End everything that a deploy started; the releases stay, and `deploy` starts them again."""
    hosts = load_fleet(scope)
    try:
        connect_hosts(hosts, report)

        def stop_one(host: Host) -> None:
            reply = host.ask("stop", report, unit="percore.service" if host.settings.has_systemd else None)
            report.host(host.name, "; ".join(reply["changed"]) or "nothing ran")

        stop_at(on_all(hosts, stop_one), report)
    finally:
        close_all(hosts)
    report.finish("stopped")


def set_boot(scope: Scope, report: Report, *, enabled: bool) -> None:
    """Start at boot, or no longer."""
    hosts = load_fleet(scope)
    for host in hosts:
        if not host.settings.has_systemd:
            raise PreflightError(
                "there is no service manager to start anything at boot (service_manager: process)",
                where=host.name,
                next="use an environment whose hosts have systemd",
            )
    try:
        connect_hosts(hosts, report)
        stop_at(on_all(hosts, lambda host: _set_boot_one(host, enabled, report)), report)
    finally:
        close_all(hosts)
    report.finish("starts at boot" if enabled else "no longer starts at boot")


def _set_boot_one(host: Host, enabled: bool, report: Report) -> None:
    names = ["percore.service", *(["nginx.service"] if host.settings.nginx else [])]
    units = [{"kind": "unit", "name": name, "enabled": enabled} for name in names]
    reply = host.ask("prepare", resources=units)
    report.host(host.name, "; ".join(reply["changed"]) or "so already")


def logs(scope: Scope, report: Report, *, app: str | None, lines: int, follow: bool) -> None:
    """The apps' own lines from all hosts, each behind its host's name."""
    hosts = load_fleet(scope)
    words = [*([app] if app else []), "--lines", str(lines), "--follow" if follow else "--nostream"]
    try:
        require_all(hosts, report)
        stop_at(on_all(hosts, lambda host: _stream(host, words, report)), report)
    finally:
        close_all(hosts)


def _stream(host: Host, words: list[str], report: Report) -> None:
    host.agent.ask(
        "stream", target=host.target(), words=words, on_event=lambda event: show_event(report, host.name, event)
    )


def lock(scope: Scope, report: Report, *, why: str) -> None:
    """Hold the lock on every host until `unlock`: no rollout goes past it. All hosts, or none."""
    hosts = load_fleet(scope)
    try:
        require_all(hosts, report)
        held: list[Host] = []

        def hold(host: Host) -> None:
            host.ask("hold", owner=who_am_i(), why=why)
            held.append(host)

        faults = on_all(hosts, hold)
        if faults:
            on_all(held, lambda host: host.ask("let_go"))
        stop_at(faults, report)
    finally:
        close_all(hosts)
    report.finish(f"locked: {count_hosts(hosts)} -> invoke unlock --env {scope.env}")


def unlock(scope: Scope, report: Report) -> None:
    """Take away what `lock` put there, whoever did; a rollout that runs keeps its own lock."""
    hosts = load_fleet(scope)
    try:
        require_all(hosts, report)

        def let_go(host: Host) -> None:
            holder = host.ask("let_go")["holder"]
            said = f"was locked by {holder.get('owner', 'unknown')}" + (
                f": {holder['why']}" if holder.get("why") else ""
            )
            report.host(host.name, said if holder else "was not locked")

        stop_at(on_all(hosts, let_go), report)
    finally:
        close_all(hosts)
    report.finish("unlocked")


def history(scope: Scope, report: Report, *, lines: int, as_json: bool) -> None:
    """What was switched on which host, when, by whom, and how it ended; the oldest first."""
    hosts, faults = _ask_all(scope, "history", count=lines)
    entries = [
        {"host": host.name, **entry} for host in hosts for entry in host.notes.get("reply", {}).get("entries", [])
    ]
    entries.sort(key=lambda entry: entry["at"])
    if as_json:
        report.json(entries)
    else:
        rows = [
            [_moment(entry["at"]), entry["host"], entry["what"], entry["release"] or "-", entry["result"], entry["who"]]
            for entry in entries
        ]
        report.table(["when", "host", "what", "release", "result", "who"], rows)
    stop_at(faults, report)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def exec_command(scope: Scope, report: Report, words: Sequence[str]) -> None:
    """Run a command on all hosts at once, its lines behind the host's name; one word is a line for the hosts' shell.

    Raises a fault when it did not end with 0 everywhere.
    """
    if not words:
        raise UsageError("there is no command to run", next=f"invoke exec --env {scope.env} -- COMMAND")
    shown = shlex.join(words) if len(words) > 1 else words[0]
    words = ["/bin/sh", "-c", words[0]] if len(words) == 1 else words
    hosts = load_fleet(scope)
    try:
        require_all(hosts, report)

        def run(host: Host) -> None:
            reply = host.agent.ask(
                "exec", words=list(words), on_event=lambda event: show_event(report, host.name, event)
            )
            if reply["code"] != 0:
                raise PercoreError(f"'{shown}' ended with exit code {reply['code']}", where=host.name)

        faults = on_all(hosts, run)
        stop_at(faults, report)
    finally:
        close_all(hosts)


def facts(scope: Scope, report: Report) -> None:
    """What each host says of itself, as JSON."""
    hosts = load_fleet(scope)
    try:
        faults = connect_all(hosts)
        report.json({host.name: host.agent.facts for host in hosts if host.name not in faults})
    finally:
        close_all(hosts)
    stop_at(faults, report)


def drift(scope: Scope, report: Report, *, as_json: bool) -> None:
    """Per host: what its workers really run, files edited since, restarts owed. ChangesPending when anything drifted."""
    hosts, faults = _ask_all(scope, "drift")
    entries = [{"host": host.name, **host.notes["reply"]} for host in hosts if "reply" in host.notes]
    releases = [entry["current"] for entry in entries]
    common = max(releases, key=releases.count) if releases else None
    if as_json:
        report.json(entries)
    else:
        for entry in entries:
            _show_drift(entry, common, report)
    stop_at(faults, report)
    drifted = [e["host"] for e in entries if e["workers"] or e["files"] or e.get("owed") or e["current"] != common]
    if drifted:
        again = f"invoke deploy --env {scope.env} sets them right"
        raise ChangesPending(f"drifted: {', '.join(drifted)}", next=again)
    if not as_json:
        report.finish(f"nothing drifted on {count_hosts(entries)}")


def _show_drift(entry: Mapping[str, Any], common: str | None, report: Report) -> None:
    other = "" if entry["current"] == common else f", most hosts run {common or 'nothing'}"
    report.host(entry["host"], f"release {entry['current'] or 'none'}{other}")
    for app in entry["status"]["apps"]:
        hashes = {(worker.get("config_hash", "-"), worker.get("env_hash", "-")) for worker in app["workers"]}
        shown = ", ".join(f"config {config} env {env}" for config, env in sorted(hashes))
        report.step(f"{app['name']}: {len(app['workers'])} workers, {shown}")
    for text in entry["workers"]:
        report.step(text)
    for name in entry.get("owed", []):
        report.step(f"{name} owes a restart")
    for file in entry["files"]:
        report.step(f"edited by hand: {file['text']}")
        for line in lines_of(file["diff"]):
            report.step(f"  {line}")
