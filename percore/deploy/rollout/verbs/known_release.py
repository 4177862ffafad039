"""Switching to a release that the hosts have already: a former one, or that of the environment. Nothing is built."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from percore.deploy.report import Report
from percore.deploy.rollout.choose import (
    Standing,
    common_release,
    find_release,
    find_standings,
    require_release,
)
from percore.deploy.rollout.diff import compare_release, require_terminal, require_yes, show
from percore.deploy.rollout.edge.draining import open_load_balancers
from percore.deploy.rollout.hooks import hooks_of
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import closing_hosts, connect_all, load_hosts
from percore.deploy.rollout.inspect import connect_hosts
from percore.deploy.rollout.parallel import count_hosts, stop_at
from percore.deploy.rollout.placement import settle_placement
from percore.deploy.rollout.results import after_switch, recap
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.switch.probes import start_probes
from percore.deploy.rollout.switch.switch import switch


def rollback(scope: Scope, report: Report, *, release: str | None = None) -> None:
    """Back to the named release, or to the newest good one before the current, by the same switch as a deploy."""
    hosts = load_hosts(scope)
    require_terminal(hosts)
    hooks = hooks_of(hosts, report, "rollback")
    with closing_hosts(hosts, wait=True), hooks.told_of_end():
        hooks.run("before_connect")
        connect_hosts(hosts, report)
        hooks.run("after_connect")
        settle_placement(hosts, report)
        moves = find_release(hosts, release, report)
        show(compare_release(moves, report), report)
        require_yes(hosts, report)
        probes = start_probes(hosts)
        hooks.tell(release=moves[0].release)
        hooks.tell_commit(moves[0].commit)
        with open_load_balancers(scope, report) as balancers:
            switched = switch(moves, report, hooks, probes, balancers, verb="rollback")
        recap(after_switch(moves, switched), report)


def converge(scope: Scope, report: Report) -> None:
    """Bring hosts that were away, or were rolled back alone, to the release that the rest of the environment runs.

    A switch that was not confirmed is rolled back first. Nothing is built, and the other hosts are only asked.
    """
    everyone = load_hosts(scope.everyone)
    named = load_hosts(scope)
    hooks = hooks_of(named, report, "converge")
    with closing_hosts(everyone, wait=True), hooks.told_of_end():
        hooks.run("before_connect")
        standings = _connect_standings(everyone, {host.name for host in named}, report)
        hooks.run("after_connect")
        release = common_release(standings)
        chosen = {host.name for host in named}
        behind = [one.host for one in standings if one.name in chosen and one.is_behind(release)]
        if not behind:
            report.finish(f"nothing to change: {count_hosts(named)} on {release}")
            return
        moves = require_release(behind, release, report)
        probes = start_probes(behind)
        hooks.tell(release=release)
        hooks.tell_hosts(behind)
        hooks.tell_commit(moves[0].commit)
        with open_load_balancers(scope, report) as balancers:
            switched = switch(moves, report, hooks, probes, balancers, verb="converge")
        recap(after_switch(moves, switched), report)


def _connect_standings(everyone: Sequence[Host], named: Collection[str], report: Report) -> list[Standing]:
    """Of the hosts that answer; those that are named must."""
    faults = connect_all(everyone)
    stop_at({name: fault for name, fault in faults.items() if name in named}, report)
    reached = [host for host in everyone if host.name not in faults]
    settle_placement(reached, report)
    return find_standings(reached, report)
