"""`placement: {APP: one}`: which host of the whole fleet runs the app, and what is said of where each app runs.

A host that runs it keeps it. One that does not answer may run it, so it keeps it as well, until it is taken out of the inventory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from percore.common.worker_status import is_wanted
from percore.deploy.connection.messages import Current
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import apps_of, closing_hosts, connect_all, load_hosts
from percore.deploy.rollout.inspect import Seen
from percore.deploy.rollout.parallel import on_all
from percore.deploy.rollout.wanted import WantedHost
from percore.deploy.schema import suggest
from percore.errors import UsageError


class Told(NamedTuple):
    """What a host says: the apps that it is to run, those of its release, and who held the single ones last."""

    wanted: frozenset[str]
    known: frozenset[str]
    holders: Mapping[str, str]
    once: frozenset[str] = frozenset()  # jobs of which its releases say `where: one`


class Decision(NamedTuple):
    """`holder` is empty where nobody may be given the app; `remark` says what an operator should know."""

    holder: str
    remark: str = ""


def settle_placement(hosts: Sequence[Host], report: Report, once: Collection[str] | None = None) -> None:
    """Decides for the apps of which the fleet has one; asks also the hosts that the run leaves out. `hosts` are connected.

    `once` are the jobs that say `where: one`; None: the hosts know them. An entry of `placement` wins.
    """
    if once is not None and not once and not any(host.single_apps for host in hosts):
        return
    fleet, told = _ask_fleet(hosts)
    for host in hosts:
        jobs = _once_of(told.values()) if once is None else once
        host.single_apps |= {name for name in jobs if name not in host.settings.placement}
    singles = sorted({app for host in hosts for app in host.single_apps})
    holders = {}
    for app in singles:
        holders[app], remark = decide(app, fleet, told)
        if remark:
            report.warn(remark)
    for host in hosts:
        elsewhere = {app for app, holder in holders.items() if app in host.single_apps and holder != host.name}
        host.absent_apps |= elsewhere
        host.holders = {app: holder for app, holder in holders.items() if holder}


def jobs_once(wanted: Sequence[WantedHost]) -> set[str]:
    """The jobs that a release says run on one host."""
    apps = [app for one in wanted if one.app for app in one.app.record["apps"]]
    return {app["name"] for app in apps if app.get("job_where") == "one"}


def _once_of(told: Iterable[Told]) -> frozenset[str]:
    """What all hosts say that have a release: a single one decides nothing."""
    said = [one.once for one in told if one.known]
    return said[0].intersection(*said) if said else frozenset()


def _ask_fleet(hosts: Sequence[Host]) -> tuple[list[str], dict[str, Told]]:
    """(the names of all hosts of the environment, what those that answer say)."""
    everyone = load_hosts(hosts[0].scope.everyone)
    ours = {host.name for host in hosts}
    others = [host for host in everyone if host.name not in ours]
    with closing_hosts(others):
        faults = connect_all(others)
        able = [*hosts, *(host for host in others if host.name not in faults)]
        return [host.name for host in everyone], on_all(able, _ask).results


def _ask(host: Host) -> Told:
    reply: Current = host.ask("status")
    wanted = frozenset(app["name"] for app in reply["status"]["apps"] if is_wanted(app))
    return Told(wanted, frozenset(reply.get("apps", [])), reply.get("placement", {}), frozenset(reply.get("once", [])))


def decide(app: str, fleet: Sequence[str], told: Mapping[str, Told]) -> Decision:
    """`fleet` are all hosts, in the inventory's order; of those that do not answer nothing is told."""
    running = [name for name in fleet if name in told and app in told[name].wanted]
    former = [one.holders[app] for one in told.values() if app in one.holders]
    if running:
        return Decision(next((name for name in running if name in former), running[0]))
    silent = [name for name in fleet if name not in told]
    if held := next((name for name in former if name in fleet), ""):
        where = f"{app} stays on {held}, which does not answer"
        advice = f"if {held} is gone for good, take it out of the inventory, then deploy or converge"
        return Decision(held, f"{where} -> {advice}" if held in silent else "")
    if silent and not former and any(app in one.known for one in told.values()):
        names = ", ".join(silent)
        return Decision(
            "", f"{app} is started nowhere, because it may run on {names} -> try again when {names} answers"
        )
    first = next(name for name in fleet if name in told)
    moved = f"{app} moves to {first}: {former[0]} is no longer in the inventory" if former else ""
    return Decision(first, f"{moved} -> make sure that it does not run there any more" if moved else "")


# -- what is said --------------------------------------------------------------------------------------------------------


def show_placement(seen: Sequence[Seen], report: Report) -> None:
    """On how many hosts each app runs, where there are several."""
    for line in describe_placement(seen) if len(seen) > 1 else ():
        report.step(line)


def describe_placement(seen: Sequence[Seen]) -> list[str]:
    apps = {app["name"]: app for one in seen if one.wanted.app for app in one.wanted.app.record["apps"]}
    placed = {app for one in seen for app in one.host.settings.placement}
    lines = []
    for name, app in apps.items():
        on = [one.name for one in seen if name not in one.host.absent_apps]
        is_plain = app.get("mode", "fork") == "fork" and "job_cron" not in app
        is_singleton = is_plain and app.get("instances", 1) == 1
        where = on[0] if len(on) == 1 else f"{len(on)} of {len(seen)} hosts"
        hint = (
            f" -> placement: {{{name}: one}} runs it once in the whole fleet, {{{name}: all}} says that this is meant"
        )
        is_hinted = is_singleton and len(on) > 1 and name not in placed
        lines.append(f"{name}: once on each of {len(on)} hosts{hint}" if is_hinted else f"{name}: on {where}")
    return lines


def require_app(hosts: Sequence[Host], app: str) -> None:
    """Some host has it; one where it is not placed is passed over."""
    if not app:
        return
    known = {name for host in hosts for name in apps_of(host)}
    if app not in known:
        advice = suggest(app, sorted(known), f"its apps: {', '.join(sorted(known)) or 'none'}")
        raise UsageError(f"no host of {hosts[0].scope.env} runs an app '{app}'", next=advice)
