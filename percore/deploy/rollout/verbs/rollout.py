"""The story of a deploy: build, inspect, choose, stage everywhere, verify everywhere, switch everywhere, or roll back everywhere.

Until `activate` nothing that runs is touched. From then on each host can bring back its former release by itself, and
does so when the switch fails, when another host failed, and when the control machine is gone before it confirmed.
"""

from __future__ import annotations

from percore.deploy.report import Report
from percore.deploy.rollout.diff import require_terminal
from percore.deploy.rollout.edge.hand_off import hand_over, hand_over_at_the_end
from percore.deploy.rollout.hooks import hooks_of
from percore.deploy.rollout.host import lock_owner
from percore.deploy.rollout.hosts import closing_hosts, load_hosts
from percore.deploy.rollout.inspect import connect_hosts, inspect_all
from percore.deploy.rollout.pending_setup import find_pending
from percore.deploy.rollout.placement import jobs_once, settle_placement
from percore.deploy.rollout.results import in_order, nothing_to_change, recap, show_urls, unchanged
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.switch.switch import policy_of
from percore.deploy.rollout.verbs.bring import bring
from percore.deploy.rollout.verbs.set_up import set_up
from percore.deploy.rollout.wanted import build_apps, commit_of, render_hosts


def deploy(scope: Scope, report: Report, *, diff: bool = False, as_json: bool = False) -> None:
    hosts = load_hosts(scope)
    policy = policy_of(hosts)
    require_terminal(hosts)
    hooks = hooks_of(hosts, report, "deploy")
    with closing_hosts(hosts, wait=True), hooks.told_of_end():
        hooks.run("before_connect")
        reached = connect_hosts(hosts, report, policy=policy)
        hooks.tell_reached(reached, hosts)
        hooks.run("after_connect")
        hooks.run("before_build")
        artifacts = build_apps(reached, report)
        hooks.tell_commit(commit_of(artifacts))
        hooks.run("after_build")
        wanted = render_hosts(reached, artifacts, report)
        settle_placement(reached, report, jobs_once(wanted))
        seen = inspect_all(wanted, lock_owner(), report)
        pending = find_pending([(one.host, one.state) for one in wanted], report, with_app=True)
        if pending:
            set_up(pending, report, diff=diff)
            seen = inspect_all(wanted, lock_owner(), report)
        behind = [one for one in seen if not one.is_up_to_date]
        done = unchanged(one for one in seen if one.is_up_to_date)
        if behind:
            done += bring(behind, seen, report, hooks, diff=diff, missing=len(hosts) - len(reached))
            done = in_order(done, reached)
            recap(done, report)
        else:
            report.finish(nothing_to_change(seen))
        if scope.brings_the_app:
            show_urls(reached, report)
            hand_over_at_the_end(scope, report, hosts)
        if as_json:
            report.json([result._asdict() for result in done])


def build_only(scope: Scope, report: Report) -> None:
    """Build what a deploy of this environment would send, and the load balancer's configuration."""
    hosts = load_hosts(scope)
    artifacts = build_apps(hosts, report, for_hosts=False)
    for name, artifact in {host.settings.name: artifacts[host.name] for host in hosts}.items():
        report.finish(f"{name}: {artifact.path.relative_to(scope.project)}")
    hand_over(scope, report, hosts)
