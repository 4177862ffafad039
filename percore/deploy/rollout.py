"""The story of a deploy: build, look, stage everywhere, verify everywhere, switch everywhere, or take back everywhere.

Until `activate` nothing that runs is touched. From then on each host can bring back its former release by itself, and
does so when we fail, when we say so because another host failed, and when we are gone before having confirmed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from percore.deploy.build import Artifact, build
from percore.deploy.edge import write_edge_config
from percore.deploy.fleet import (
    Host,
    Scope,
    close_all,
    count_hosts,
    load_fleet,
)
from percore.deploy.report import Report, describe_apps
from percore.deploy.staging import stage
from percore.deploy.survey import choose_release, connect_hosts, find_release, look, preflight
from percore.deploy.switching import activate, confirm


def deploy(scope: Scope, report: Report) -> None:
    hosts = load_fleet(scope)
    artifacts = build_apps(hosts, scope.project, report)
    try:
        connect_hosts(hosts, report)
        look(hosts, artifacts, scope.project, report)
        waiting = [host for host in hosts if not host.notes["up_to_date"]]
        if not waiting:
            report.finish(f"nothing to change: {count_hosts(hosts)} already on {name_releases(hosts)}")
        else:
            choose_release(waiting, hosts)
            preflight(waiting, report)
            stage(waiting, report)
            activate(waiting, report)
            confirm(waiting, report)
            recap(hosts, report)
        write_edge_config(scope.env, hosts, scope.project)
        show_urls(hosts, report)
    finally:
        close_all(hosts, wait=True)


def rollback(scope: Scope, report: Report, *, release: str | None = None) -> None:
    """Back to the named release, or to the newest good one before the current, by the same switch as a deploy."""
    hosts = load_fleet(scope)
    try:
        connect_hosts(hosts, report)
        find_release(hosts, release, report)
        activate(hosts, report)
        confirm(hosts, report, deployed=False)
        recap(hosts, report)
    finally:
        close_all(hosts, wait=True)


def build_apps(hosts: Iterable[Host], project: Path, report: Report) -> dict[str, Artifact]:
    """One artifact per app; by the app's name. Hosts of one app share it."""
    artifacts: dict[str, Artifact] = {}
    for host in hosts:
        settings = host.settings
        if settings.name in artifacts:
            continue
        report.phase("build", settings.name)
        artifact = build(settings, project, report.step)
        artifacts[settings.name] = artifact
        if not artifact.was_built:
            report.step(f"unchanged, {artifact.size_text} from the cache")
    return artifacts


def recap(hosts: list[Host], report: Report) -> None:
    rows = [
        [
            host.name,
            host.notes["release"],
            describe_apps(host.notes["status"]),
            "unchanged" if host.notes.get("up_to_date") else "healthy",
        ]
        for host in hosts
    ]
    report.line()
    report.table(["host", "release", "apps", "result"], rows)
    report.finish(f"done: {count_hosts(hosts)} on {name_releases(hosts)}")


def show_urls(hosts: list[Host], report: Report) -> None:
    for host in hosts[:5]:
        port = host.settings.shown_port
        if port is not None:
            report.line(f"  http://{host.url_host}{'' if port == 80 else f':{port}'}/")


def build_only(scope: Scope, report: Report) -> None:
    """Build what a deploy of this environment would send, and the load balancer's configuration."""
    hosts = load_fleet(scope)
    artifacts = build_apps(hosts, scope.project, report)
    write_edge_config(scope.env, hosts, scope.project)
    for name, artifact in artifacts.items():
        report.finish(f"{name}: {artifact.path.relative_to(scope.project)}")


def name_releases(hosts: Iterable[Host]) -> str:
    return ", ".join(sorted({str(host.notes["release"]) for host in hosts}))
