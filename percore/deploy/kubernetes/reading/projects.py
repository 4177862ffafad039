"""All projects of an environment."""

from __future__ import annotations

from percore.deploy.kubernetes.reading.project import ReadProject, read_project, read_wishes
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import load_hosts
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.wanted import build_apps


def read_projects(scope: Scope, report: Report) -> list[ReadProject]:
    """Builds each app as `build` does, once its settings are known to be right, and asks no host."""
    hosts = load_hosts(scope.everyone)
    by_app: dict[str, list[Host]] = {}
    for host in hosts:
        by_app.setdefault(host.settings.name, []).append(host)
    wishes = {name: read_wishes(members) for name, members in by_app.items()}
    artifacts = build_apps(hosts, report, for_hosts=False)
    return [read_project(members, wishes[name], artifacts[members[0].name], report) for name, members in by_app.items()]
