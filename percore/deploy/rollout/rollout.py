"""The story of a deploy: build, inspect, choose, stage everywhere, verify everywhere, switch everywhere, or roll back everywhere.

Until `activate` nothing that runs is touched. From then on each host can bring back its former release by itself, and
does so when the switch fails, when another host failed, and when the control machine is gone before it confirmed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from percore.deploy.build.artifact import Artifact
from percore.deploy.report import Report
from percore.deploy.rollout.choose import (
    Standing,
    choose,
    common_release,
    find_release,
    find_standings,
    require_release,
)
from percore.deploy.rollout.diff import (
    ChangesPending,
    compare,
    compare_release,
    must_ask,
    require_terminal,
    require_yes,
    show,
    to_json,
)
from percore.deploy.rollout.hooks import Hooks
from percore.deploy.rollout.host import Host, Scope, lock_owner
from percore.deploy.rollout.hosts import closing_hosts, connect_all, load_hosts
from percore.deploy.rollout.inspect import Seen, connect_hosts, inspect_host, leave_edited
from percore.deploy.rollout.load_balancer import write_edge_config
from percore.deploy.rollout.parallel import all_or_stop, count_hosts, stop_at
from percore.deploy.rollout.pending_setup import find_pending
from percore.deploy.rollout.placement import jobs_once, settle_placement, show_placement
from percore.deploy.rollout.preflight import preflight
from percore.deploy.rollout.results import (
    HostResult,
    after_switch,
    in_order,
    name_releases,
    recap,
    show_urls,
    unchanged,
)
from percore.deploy.rollout.set_up import set_up
from percore.deploy.rollout.stage import stage
from percore.deploy.rollout.switch.probes import start_probes
from percore.deploy.rollout.switch.release_command import announce, find_runner, run_release_command
from percore.deploy.rollout.switch.switch import policy_of, switch
from percore.deploy.rollout.wanted import WantedHost, build_apps, render_hosts


def deploy(scope: Scope, report: Report, *, diff: bool = False, as_json: bool = False) -> None:
    hosts = load_hosts(scope)
    policy = policy_of(hosts)
    require_terminal(hosts)
    hooks = _hooks_of(hosts, report, "deploy")
    with closing_hosts(hosts, wait=True), hooks.told_of_failure():
        hooks.run("before_connect")
        reached = connect_hosts(hosts, report, policy=policy)
        hooks.tell(hosts=_names_of(reached))
        hooks.run("after_connect")
        hooks.run("before_build")
        artifacts = build_apps(reached, report)
        hooks.tell_commit(_commit_of(artifacts))
        hooks.run("after_build")
        wanted = render_hosts(reached, artifacts, report)
        settle_placement(reached, report, jobs_once(wanted))
        seen = _inspect_all(wanted, lock_owner(), report)
        pending = find_pending([(one.host, one.state) for one in wanted], report, with_app=True)
        if pending:
            set_up(pending, report, diff=diff)
            seen = _inspect_all(wanted, lock_owner(), report)
        behind = [one for one in seen if not one.is_up_to_date]
        done = unchanged(one for one in seen if one.is_up_to_date)
        if behind:
            done += _bring(behind, seen, report, hooks, diff=diff, missing=len(hosts) - len(reached))
            done = in_order(done, reached)
            recap(done, report)
        else:
            report.finish(_nothing_to_change(seen))
        if scope.brings_the_app:
            write_edge_config(hosts)
            show_urls(reached, report)
        if as_json:
            report.json([result._asdict() for result in done])


def _inspect_all(wanted: Sequence[WantedHost], owner: str | None, report: Report) -> list[Seen]:
    return leave_edited(all_or_stop(wanted, lambda one: inspect_host(one, owner), report))


def _bring(
    behind: Sequence[Seen], seen: Sequence[Seen], report: Report, hooks: Hooks, *, diff: bool, missing: int
) -> list[HostResult]:
    """The hosts that differ get a release, have it staged, and switch to it."""
    hosts = [one.host for one in behind]
    probes = start_probes(hosts)
    choices = choose(behind, seen)
    hooks.tell(release=name_releases(choice.release for choice in choices))
    runner = find_runner(seen)
    preflight(choices, report)
    show_placement(seen, report)
    if diff or must_ask(hosts):
        show(compare(behind, report, diff=diff), report)
        announce(runner, report)
    require_yes(hosts, report)
    hooks.run("before_stage")
    stage(choices, report)
    hooks.run("after_stage")
    run_release_command(runner, choices, report)
    verb = f"deploy {hosts[0].scope.selection}".rstrip()
    switched = switch(choices, report, hooks, probes, verb=verb, missing=missing)
    return after_switch(choices, switched)


def preview(scope: Scope, report: Report, *, diff: bool, as_json: bool = False) -> None:
    """What `deploy` would do now. Builds, asks the hosts, and touches nothing there; ChangesPending when it would do anything."""
    hosts = load_hosts(scope)
    with closing_hosts(hosts):
        connect_hosts(hosts, report)
        artifacts = build_apps(hosts, report)
        wanted = render_hosts(hosts, artifacts, report)
        settle_placement(hosts, report, jobs_once(wanted))
        seen = _inspect_all(wanted, None, report)
        pending = find_pending([(one.host, one.state) for one in wanted], report, with_app=True)
        differences = compare(seen, report, diff=diff, setup=pending)
    if as_json:
        report.json(to_json(differences))
    else:
        report.phase("plan", count_hosts(hosts))
        show(differences, report)
        show_placement(seen, report)
        announce(find_runner(seen), report)
    behind = [one for one in differences if not one.up_to_date]
    if behind:
        raise ChangesPending(
            f"{len(behind)} of {count_hosts(hosts)} would change; nothing was touched",
            next=scope.command("deploy"),
        )
    report.finish(_nothing_to_change(seen))


def _nothing_to_change(seen: Sequence[Seen]) -> str:
    return f"nothing to change: {count_hosts(seen)} already on {name_releases(one.current for one in seen)}"


def rollback(scope: Scope, report: Report, *, release: str | None = None) -> None:
    """Back to the named release, or to the newest good one before the current, by the same switch as a deploy."""
    hosts = load_hosts(scope)
    require_terminal(hosts)
    hooks = _hooks_of(hosts, report, "rollback")
    with closing_hosts(hosts, wait=True), hooks.told_of_failure():
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
        switched = switch(moves, report, hooks, probes, verb="rollback")
        recap(after_switch(moves, switched), report)


def converge(scope: Scope, report: Report) -> None:
    """Bring hosts that were away, or were rolled back alone, to the release that the rest of the environment runs.

    A switch that was not confirmed is rolled back first. Nothing is built, and the other hosts are only asked.
    """
    everyone = load_hosts(dataclasses.replace(scope, limit="all"))
    named = load_hosts(scope)
    hooks = _hooks_of(named, report, "converge")
    with closing_hosts(everyone, wait=True), hooks.told_of_failure():
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
        hooks.tell(release=release, hosts=_names_of(behind))
        hooks.tell_commit(moves[0].commit)
        switched = switch(moves, report, hooks, probes, verb="converge")
        recap(after_switch(moves, switched), report)


def _connect_standings(everyone: Sequence[Host], named: Collection[str], report: Report) -> list[Standing]:
    """Of the hosts that answer; those that are named must."""
    faults = connect_all(everyone)
    stop_at({name: fault for name, fault in faults.items() if name in named}, report)
    reached = [host for host in everyone if host.name not in faults]
    settle_placement(reached, report)
    return find_standings(reached, report)


def _hooks_of(hosts: Sequence[Host], report: Report, verb: str) -> Hooks:
    scope = hosts[0].scope
    return Hooks(hosts[0].settings.hooks, scope.project, report, verb=verb, env=scope.env, hosts=_names_of(hosts))


def _names_of(hosts: Sequence[Host]) -> str:
    return " ".join(host.name for host in hosts)


def _commit_of(artifacts: Mapping[str, Artifact]) -> Mapping[str, Any] | None:
    """Of the app that is deployed; hosts of several kinds have artifacts of the same one."""
    commit = next((artifact.commit for artifact in artifacts.values()), None)
    return commit._asdict() if commit else None


def build_only(scope: Scope, report: Report) -> None:
    """Build what a deploy of this environment would send, and the load balancer's configuration."""
    hosts = load_hosts(scope)
    artifacts = build_apps(hosts, report, for_hosts=False)
    write_edge_config(hosts)
    for name, artifact in {host.settings.name: artifacts[host.name] for host in hosts}.items():
        report.finish(f"{name}: {artifact.path.relative_to(scope.project)}")
