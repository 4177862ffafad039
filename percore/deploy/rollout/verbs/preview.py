"""What a deploy would do, without doing it."""

from __future__ import annotations

from percore.deploy.report import Report
from percore.deploy.rollout.diff import ChangesPending, compare, show, to_json
from percore.deploy.rollout.hosts import closing_hosts, load_hosts
from percore.deploy.rollout.inspect import connect_hosts, inspect_all
from percore.deploy.rollout.parallel import count_hosts
from percore.deploy.rollout.pending_setup import find_pending
from percore.deploy.rollout.placement import jobs_once, settle_placement, show_placement
from percore.deploy.rollout.results import nothing_to_change
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.switch.release_command import announce, find_runner
from percore.deploy.rollout.wanted import build_apps, render_hosts


def preview(scope: Scope, report: Report, *, diff: bool, as_json: bool = False) -> None:
    """What `deploy` would do now. Builds, asks the hosts, and touches nothing there; ChangesPending when it would do anything."""
    hosts = load_hosts(scope)
    with closing_hosts(hosts):
        connect_hosts(hosts, report)
        artifacts = build_apps(hosts, report)
        wanted = render_hosts(hosts, artifacts, report)
        settle_placement(hosts, report, jobs_once(wanted))
        seen = inspect_all(wanted, None, report)
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
    report.finish(nothing_to_change(seen))
