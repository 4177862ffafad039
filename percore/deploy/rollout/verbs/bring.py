"""The part of a deploy that changes hosts: those that differ are checked, shown and asked for, staged and switched."""

from __future__ import annotations

from collections.abc import Sequence

from percore.deploy.report import Report
from percore.deploy.rollout.choose import choose
from percore.deploy.rollout.diff import compare, must_ask, require_yes, show
from percore.deploy.rollout.edge.draining import open_load_balancers
from percore.deploy.rollout.hooks import Hooks
from percore.deploy.rollout.inspect import Seen
from percore.deploy.rollout.placement import show_placement
from percore.deploy.rollout.preflight import preflight
from percore.deploy.rollout.results import HostResult, after_switch, name_releases
from percore.deploy.rollout.stage import stage
from percore.deploy.rollout.switch.probes import start_probes
from percore.deploy.rollout.switch.release_command import announce, find_runner, run_release_command
from percore.deploy.rollout.switch.switch import switch


def bring(
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
    with open_load_balancers(hosts[0].scope, report) as balancers:
        hooks.run("before_stage")
        stage(choices, report)
        hooks.run("after_stage")
        run_release_command(runner, choices, report)
        verb = f"deploy {hosts[0].scope.selection}".rstrip()
        switched = switch(choices, report, hooks, probes, balancers, verb=verb, missing=missing)
    return after_switch(choices, switched)
