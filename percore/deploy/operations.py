"""The other verbs: stopping the fleet, starting it at boot, its logs, locks, history and drift."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from percore.deploy.build.git import describe_commit
from percore.deploy.connection.messages import Changed, LetGo
from percore.deploy.report import Report, moment
from percore.deploy.rollout.diff import ChangesPending
from percore.deploy.rollout.host import Host, lock_owner, show_event
from percore.deploy.rollout.hosts import ask_all, closing_hosts, connect_all, load_hosts, open_hosts
from percore.deploy.rollout.inspect import connect_hosts
from percore.deploy.rollout.parallel import all_or_stop, count_hosts, on_all, stop_at
from percore.deploy.rollout.scope import Scope
from percore.errors import PercoreError, PreflightError, UsageError


def stop(scope: Scope, report: Report) -> None:
    """End everything that a deploy started; the releases stay, and `deploy` starts them again."""
    hosts = load_hosts(scope)
    with closing_hosts(hosts):
        connect_hosts(hosts, report)
        all_or_stop(hosts, lambda host: _stop_one(host, report), report)
    report.finish("stopped")


def _stop_one(host: Host, report: Report) -> None:
    reply: Changed = host.ask("stop", report, owner=lock_owner(), unit=host.settings.unit)
    report.host(host.name, "; ".join(reply["changed"]) or "nothing ran")


def set_boot(scope: Scope, report: Report, *, enabled: bool) -> None:
    """Start at boot, or no longer. NGINX stays enabled: it may serve other sites."""
    hosts = load_hosts(scope)
    for host in hosts:
        if not host.settings.has_systemd:
            raise PreflightError(
                "there is no service manager to start anything at boot (service_manager: process)",
                where=host.name,
                next="use an environment whose hosts have systemd",
            )
    with closing_hosts(hosts):
        connect_hosts(hosts, report)
        all_or_stop(hosts, lambda host: _set_boot_one(host, enabled, report), report)
    report.finish("starts at boot" if enabled else "no longer starts at boot")
    if any(host.settings.startup != enabled for host in hosts):
        wanted = str(enabled).lower()
        report.line(f"the next deploy undoes this -> set startup: {wanted} in the inventory of {scope.env}")


def _set_boot_one(host: Host, enabled: bool, report: Report) -> None:
    names = [host.settings.unit, *(["nginx.service"] if enabled and host.settings.nginx else [])]
    units = [{"kind": "unit", "name": name, "enabled": enabled} for name in names]
    reply: Changed = host.ask("prepare", resources=units)
    report.host(host.name, "; ".join(reply["changed"]) or "unchanged")


def lock(scope: Scope, report: Report, *, why: str) -> None:
    """Hold the lock on every host until `unlock`: no rollout gets past it. All hosts, or none."""
    with open_hosts(scope, report, also_without_app=True) as hosts:
        held, faults = on_all(hosts, lambda host: host.ask("hold", owner=lock_owner(), why=why))
        if faults:
            _let_go([host for host in hosts if host.name in held], scope, report)
        stop_at(faults, report)
    report.finish(f"locked: {count_hosts(hosts)} -> {scope.command('unlock')}")


def _let_go(hosts: Sequence[Host], scope: Scope, report: Report) -> None:
    """Another host could not be locked."""
    for name, fault in on_all(hosts, lambda host: host.ask("let_go")).faults.items():
        report.warn(f"{name} stays locked: {fault.what} -> {scope.command('unlock', f'--limit {name}')}")


def unlock(scope: Scope, report: Report) -> None:
    """Remove what `lock` put there, whichever user ran it; a rollout that runs keeps its own lock."""
    with open_hosts(scope, report, also_without_app=True) as hosts:
        all_or_stop(hosts, lambda host: _unlock_one(host, report), report)
    report.finish("unlocked")


def _unlock_one(host: Host, report: Report) -> None:
    reply: LetGo = host.ask("let_go")
    holder = reply["holder"]
    said = f"was locked by {holder.get('owner', 'unknown')}" + (f": {holder['why']}" if holder.get("why") else "")
    report.host(host.name, said if holder else "was not locked")


def history(scope: Scope, report: Report, *, lines: int, as_json: bool) -> None:
    """What was switched on which host, when, by whom, and how it ended; the oldest first."""
    hosts = load_hosts(scope, also_without_app=True)
    with closing_hosts(hosts):
        unreachable = connect_all(hosts)
        reached = [host for host in hosts if host.name not in unreachable]
        found, faults = on_all(reached, lambda host: _history_of(host, lines))
    entries = sorted(itertools.chain(*found.values()), key=lambda entry: entry["at"])
    if as_json:
        report.json(entries)
    else:
        rows = [
            [
                moment(entry["at"]),
                entry["host"],
                entry["what"],
                entry["release"] or "-",
                describe_commit(entry.get("commit")) or "-",
                entry["result"],
                entry["who"],
            ]
            for entry in entries
        ]
        report.table(["when", "host", "what", "release", "commit", "result", "who"], rows)
    stop_at({**unreachable, **faults}, report)


def _history_of(host: Host, count: int) -> list[dict[str, Any]]:
    """Of its set-up, and of its app."""
    replies = [host.ask("history", target=target, count=count) for target in host.targets()]
    return [{"host": host.name, **entry} for reply in replies for entry in reply["entries"]]


def exec_command(scope: Scope, report: Report, words: Sequence[str]) -> None:
    """Run a command on all hosts at once, its lines behind the host's name; one word is a line for the hosts' shell.

    Raises a fault when it did not end with 0 everywhere.
    """
    if not words:
        raise UsageError("there is no command to run", next=scope.command("exec", "-- COMMAND"))
    shown = shlex.join(words) if len(words) > 1 else words[0]
    words = ["/bin/sh", "-c", words[0]] if len(words) == 1 else words
    with open_hosts(scope, report, also_without_app=True) as hosts:
        all_or_stop(hosts, lambda host: _exec_one(host, words, shown, report), report)


def _exec_one(host: Host, words: Sequence[str], shown: str, report: Report) -> None:
    reply = host.agent.ask("exec", words=list(words), on_event=lambda event: show_event(report, host.name, event))
    if reply["code"] != 0:
        raise PercoreError(f"'{shown}' ended with exit code {reply['code']}", where=host.name)


def facts(scope: Scope, report: Report) -> None:
    """The facts of each host, as JSON."""
    hosts = load_hosts(scope, also_without_app=True)
    with closing_hosts(hosts):
        faults = connect_all(hosts)
        report.json({host.name: host.agent.facts for host in hosts if host.name not in faults})
    stop_at(faults, report)


def drift(scope: Scope, report: Report, *, as_json: bool) -> None:
    """Per host: what its workers really run, files edited since, pending handlers. ChangesPending when anything drifted."""
    hosts, (replies, faults) = ask_all(scope, "drift")
    entries = [{"host": host.name, **replies[host.name]} for host in hosts if host.name in replies]
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
        again = f"{scope.command('deploy')} sets them right"
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
        report.step(f"pending handler: {name}")
    for file in entry["files"]:
        report.change(f"edited by hand: {file['text']}", file["diff"])
