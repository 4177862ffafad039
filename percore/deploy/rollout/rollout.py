"""The story of a deploy: build, look, stage everywhere, verify everywhere, switch everywhere, or take back everywhere.

Until `activate` nothing that runs is touched. From then on each host can bring back its former release by itself, and
does so when we fail, when we say so because another host failed, and when we are gone before having confirmed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from percore.deploy.build.artifact import Artifact, build
from percore.deploy.report import Report, describe_apps
from percore.deploy.rollout.diff import (
    ChangesPending,
    ask,
    compare,
    compare_release,
    describe_plan,
    must_ask,
    require_somebody_to_ask,
    show,
)
from percore.deploy.rollout.hooks import Hooks
from percore.deploy.rollout.hosts import Host, Scope, close_all, connect_all, count_hosts, load_fleet, stop_at
from percore.deploy.rollout.inspect import (
    choose_release,
    connect_hosts,
    find_common_release,
    find_release,
    look,
    require_release,
)
from percore.deploy.rollout.load_balancer import write_edge_config
from percore.deploy.rollout.preflight import preflight
from percore.deploy.rollout.probes import describe, mark_probes, start_probes
from percore.deploy.rollout.stage import stage
from percore.deploy.rollout.switch import activate, check_all, confirm, policy_of, take_back
from percore.errors import PercoreError


def deploy(scope: Scope, report: Report, *, diff: bool = False, as_json: bool = False) -> None:
    hosts = load_fleet(scope)
    policy = policy_of(hosts)
    require_somebody_to_ask(hosts)
    hooks = Hooks(hosts[0].settings.hooks, scope.project, report, env=scope.env, hosts=" ".join(h.name for h in hosts))
    hooks.run("before_build")
    artifacts = build_apps(hosts, scope.project, report)
    hooks.run("after_build")
    here: list[Host] = []
    try:
        hooks.run("before_connect")
        here = connect_hosts(hosts, report, policy=policy)
        hooks.run("after_connect")
        look(here, artifacts, scope.project, report)
        waiting = [host for host in here if not host.notes["up_to_date"]]
        start_probes(waiting)
        if not waiting:
            report.finish(f"nothing to change: {count_hosts(here)} already on {name_releases(here)}")
        else:
            hooks.values["release"] = choose_release(waiting, here)
            preflight(waiting, report)
            if diff or must_ask(waiting):
                compare(waiting, report, diff=diff)
                show(waiting, report)
            ask(waiting, report)
            hooks.run("before_stage")
            stage(waiting, report)
            hooks.run("after_stage")
            verb = f"deploy {scope.selection}".rstrip()
            _switch(waiting, report, hooks, verb=verb, missing=len(hosts) - len(here))
            recap(here, report)
        if scope.brings_the_app:
            write_edge_config(scope.env, hosts, scope.project)
            show_urls(here, report)
        if as_json:
            report.json([describe_result(host) for host in here])
    except PercoreError as error:
        hooks.values["error"] = str(error)
        hooks.run("failed")
        raise
    finally:
        close_all(hosts, wait=True)


def preview(scope: Scope, report: Report, *, diff: bool, as_json: bool = False) -> None:
    """What `deploy` would do now. Builds, asks the hosts, and touches nothing there; ChangesPending when it would do anything."""
    hosts = load_fleet(scope)
    artifacts = build_apps(hosts, scope.project, report)
    try:
        connect_hosts(hosts, report)
        look(hosts, artifacts, scope.project, report, only=True)
        compare(hosts, report, diff=diff)
    finally:
        close_all(hosts)
    if as_json:
        report.json([describe_plan(host) for host in hosts])
    else:
        report.phase("plan", count_hosts(hosts))
        show(hosts, report)
    waiting = [host for host in hosts if not host.notes["up_to_date"]]
    if waiting:
        raise ChangesPending(
            f"{len(waiting)} of {count_hosts(hosts)} would change; nothing was touched",
            next=f"invoke deploy --env {scope.env}",
        )
    report.finish(f"nothing to change: {count_hosts(hosts)} already on {name_releases(hosts)}")


def rollback(scope: Scope, report: Report, *, release: str | None = None) -> None:
    """Back to the named release, or to the newest good one before the current, by the same switch as a deploy."""
    hosts = load_fleet(scope)
    require_somebody_to_ask(hosts)
    hooks = Hooks(hosts[0].settings.hooks, scope.project, report, env=scope.env, hosts=" ".join(h.name for h in hosts))
    try:
        connect_hosts(hosts, report)
        find_release(hosts, release, report)
        compare_release(hosts, report)
        show(hosts, report)
        ask(hosts, report)
        start_probes(hosts)
        hooks.values["release"] = hosts[0].notes["release"]
        _switch(hosts, report, hooks, verb="rollback")
        recap(hosts, report)
    finally:
        close_all(hosts, wait=True)


def converge(scope: Scope, report: Report) -> None:
    """Bring hosts that were away, or were taken back alone, to the release that the rest of the environment runs.

    A switch that nobody confirmed is taken back first. Nothing is built, and the other hosts are only asked.
    """
    everyone = load_fleet(dataclasses.replace(scope, limit="all"))
    wanted = {host.name for host in load_fleet(scope)}
    try:
        faults = connect_all(everyone)
        stop_at({name: fault for name, fault in faults.items() if name in wanted}, report)
        hosts = [host for host in everyone if host.name not in faults]
        release = find_common_release(hosts, report)
        # A host that died in its switch has the former release still linked, and perhaps runs the other one.
        behind = [
            host
            for host in hosts
            if host.name in wanted and (host.notes["current"] != release or host.notes["is_unfinished"])
        ]
        if not behind:
            report.finish(f"nothing to change: {count_hosts(list(wanted))} on {release}")
            return
        require_release(behind, release, report)
        start_probes(behind)
        hooks = Hooks(behind[0].settings.hooks, scope.project, report, env=scope.env, release=release)
        _switch(behind, report, hooks, verb="converge")
        recap(behind, report)
    finally:
        close_all(everyone, wait=True)


def _switch(hosts: list[Host], report: Report, hooks: Hooks, *, verb: str = "deploy", missing: int = 0) -> None:
    """Activate everywhere and confirm: a hook that fails in between takes every host back."""
    hooks.run("before_activate")
    mark_probes(hosts)
    faults = activate(hosts, report, verb=verb, missing=missing)
    well = [host for host in hosts if host.name not in faults]
    for host in hosts:
        if host.name in faults:
            host.notes["result"] = "failed, on its former release"
            host.notes["release"] = host.notes.get("seen", host.notes)["current"]
    try:
        hooks.run("after_activate")
        hooks.run("before_confirm")
    except PercoreError as error:
        raise take_back(hosts, well, {"hook": error}, report) from None
    probes = check_all(well, report)
    if probes:
        report.step(f"probed all the while: {describe(probes)}")
    confirm(well, report, verb=verb, notes=probes)
    hooks.run("after_confirm")


def build_apps(hosts: Iterable[Host], project: Path, report: Report) -> dict[str, Artifact]:
    """One artifact per app; by the app's name. Hosts of one app share it. None where the run is not about the app."""
    artifacts: dict[str, Artifact] = {}
    for host in hosts:
        if not host.scope.brings_the_app:
            continue
        settings = host.settings
        if settings.name in artifacts:
            continue
        report.phase("build", settings.name)
        artifact = build(settings, project, report.step)
        artifacts[settings.name] = artifact
        if not artifact.was_built:
            report.step(f"unchanged, {artifact.size_text} from the cache")
    return artifacts


def describe_result(host: Host) -> dict[str, Any]:
    """What runs on a host after the run; JSON-ready, and its names stay."""
    return {
        "host": host.name,
        "release": host.notes["release"],
        "apps": describe_apps(host.notes.get("status", {})),
        "result": host.notes.get("result") or ("unchanged" if host.notes.get("up_to_date") else "healthy"),
    }


def recap(hosts: list[Host], report: Report) -> None:
    rows = [list(describe_result(host).values()) for host in hosts]
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
