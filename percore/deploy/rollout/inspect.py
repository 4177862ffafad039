"""Before anything is touched: connect, compare each host with what it should be, choose the release, refuse what cannot work."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from percore.deploy.build import host_package
from percore.deploy.build.artifact import PYTHON_PACKAGES, Artifact, told_of_the_apps_own_file
from percore.deploy.masking import REDACTOR
from percore.deploy.plan.batches import Policy
from percore.deploy.plan.host_plan import AppSettings
from percore.deploy.report import Report
from percore.deploy.rollout.hosts import (
    Host,
    connect_all,
    count_hosts,
    on_all,
    render_state,
    stop_at,
    try_one,
    who_am_i,
)
from percore.errors import PercoreError, PreflightError, UnreachableError, UsageError, nearest
from percore.supervisor.config.process_file import resolve_for_release

PLACE = "@release@"
"""Stands for a release's id in a record until the id is known."""

RELEASE_PART = re.compile(r"[0-9a-f-]{1,23}", re.ASCII)
"""An id, its beginning, or its hash."""

OLDEST_PYTHON = (3, 9)


def connect_hosts(hosts: list[Host], report: Report, *, policy: Policy | None = None) -> list[Host]:
    """Open every connection; returns the hosts that answer. Without a policy that lets some be missing, all must."""
    report.phase("connect", count_hosts(hosts))
    faults = connect_all(hosts)
    may_miss = policy is not None and not policy.is_exceeded(len(faults), len(hosts)) and len(faults) < len(hosts)
    if not may_miss or not all(isinstance(fault, UnreachableError) for fault in faults.values()):
        stop_at(faults, report)
    for name, fault in faults.items():
        again = f"invoke converge --env {hosts[0].scope.env} --limit {name}"
        report.warn(f"{fault.where}: {fault.what}; left out -> when it is back: {again}")
    here = [host for host in hosts if host.name not in faults]
    require_fit(here, report)
    return here


def require_fit(hosts: list[Host], report: Report) -> None:
    """Refuse hosts that cannot be what the plan says, by what they told of themselves."""
    faults = {host.name: fault for host in hosts if (fault := _unfit(host)) is not None}
    stop_at(faults, report)


def _unfit(host: Host) -> PercoreError | None:
    facts = host.agent.facts
    if tuple(int(part) for part in facts["python"].split(".")[:2]) < OLDEST_PYTHON:
        return PreflightError(f"Python {facts['python']} is too old, 3.9 is needed", where=host.name, next="upgrade it")
    if host.settings.has_systemd and not facts["systemd"]:
        advice = "set service_manager: process in the inventory"
        return PreflightError("systemd does not run there", where=host.name, next=advice)
    if host.settings.has_systemd and facts["uid"] != 0:
        user = host.address.ssh.user or facts["user"] or facts["uid"]
        return PreflightError(
            f"user '{user}' may not set up services", where=host.name, next="set ansible_become: true"
        )
    return None


def look(
    hosts: list[Host], artifacts: Mapping[str, Artifact], project: Path, report: Report, *, only: bool = False
) -> None:
    """Lock each host and compare what it is with what it should be. Leaves the answers in the hosts' notes.

    With `only`, nothing is locked either.
    """
    records = _Records(report)
    packages: dict[tuple[str, str], host_package.Package] = {}

    def reckon(host: Host) -> None:
        host.notes["package"] = _package_for(host, packages, project)
        host.state = render_state(host, host.notes["package"].id)
        if host.scope.brings_the_app:
            host.notes["artifact"] = artifacts[host.settings.name]
            host.notes["record"] = records.of(host)
            fingerprint = host.state.fingerprint(host.notes["artifact"].sha256, host.notes["record"])
            host.notes["fingerprint"] = f"{fingerprint} {host.scope.selection}".rstrip()

    for host in hosts:
        if fault := try_one(host, reckon):
            raise fault
    owner = None if only else who_am_i()
    stop_at(on_all(hosts, lambda host: _inspect(host, owner)), report)


def _inspect(host: Host, owner: str | None) -> None:
    artifact = host.notes.get("artifact")
    programs = ["node"] if artifact and artifact.is_node else []
    seen = host.ask("inspect", owner=owner, resources=comparable(host), programs=programs)
    host.notes["seen"] = seen
    host.notes["release"] = host.notes["current"] = seen["current"]
    host.notes["status"] = seen["status"]
    host.notes["up_to_date"] = not seen["changes"] and not seen["owed"]
    if artifact is not None:
        host.notes["known_release"] = _release_with(seen, host.notes["fingerprint"], artifact)
        host.notes["up_to_date"] &= _is_whole(seen, host.notes["known_release"])
    elif seen["current"] is None:
        raise UsageError(
            "nothing is deployed there yet", where=host.name, next="deploy without --tags and --skip-tags first"
        )


def _is_whole(seen: Mapping[str, Any], wanted: str | None) -> bool:
    """The wanted release runs, is known to be good, and all its workers run."""
    return (
        wanted is not None
        and wanted == seen["current"]
        and seen["marks"][wanted]["mark"] == "good"
        and _runs_fully(seen["status"], wanted)
    )


def comparable(host: Host) -> list[dict[str, Any]]:
    """The resources that can be compared before the release is there; a command only where something says when it is needed."""
    return [spec for spec in host.selected.resources() if spec["kind"] != "command" or is_guarded(spec)]


def is_guarded(spec: Mapping[str, Any]) -> bool:
    """A command that tells by itself whether it must run; others run with every switch."""
    return "creates" in spec or "unless" in spec


def _release_with(seen: Mapping[str, Any], fingerprint: str, artifact: Artifact) -> str | None:
    """The release that already is what we want: the current one first, else the newest that is not bad.

    Other hosts may be given its id, so it counts only where the id is one that we could have made of this artifact.
    """
    same = [
        name
        for name, note in seen["marks"].items()
        if note.get("fingerprint") == fingerprint and note["mark"] != "bad" and _is_made_of(name, artifact.sha256)
    ]
    return seen["current"] if seen["current"] in same else max(same, default=None)


def _is_made_of(release: str, sha256: str) -> bool:
    """An id that `make_release_id` gave, not later than now; clocks of several control machines may differ by a day."""
    latest = datetime.now(timezone.utc) + timedelta(days=1)
    moment, _, digest = release.partition("-")
    return digest == sha256[:8] and moment <= f"{latest:%Y%m%d%H%M%S}"


def _runs_fully(status: Mapping[str, Any], release: str) -> bool:
    workers = [worker for app in status["apps"] for worker in app["workers"]]
    full = all(sum(w["state"] == "running" for w in app["workers"]) >= app["wanted"] for app in status["apps"])
    return bool(workers) and full and all(worker["release"] == release for worker in workers)


def _package_for(host: Host, made: dict[tuple[str, str], host_package.Package], project: Path) -> host_package.Package:
    """One for each kind of machine."""
    kind = host.agent.facts["system"], host.agent.facts["machine"]
    if kind not in made:
        made[kind] = host_package.make_package(project, system=kind[0], machine=kind[1])
    return made[kind]


class _Records:
    """What the supervisor is told, made once per place and environment: node reads the process file for it."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._made: dict[str, dict[str, Any]] = {}

    def of(self, host: Host) -> dict[str, Any]:
        settings: AppSettings = host.settings
        artifact: Artifact = host.notes["artifact"]
        key = json.dumps(
            [settings.deploy_to, sorted(settings.env.items()), settings.port, settings.health_path, artifact.sha256]
        )
        if key not in self._made:
            self._made[key] = self._make(settings, artifact)
        return _placed(self._made[key], host)

    def _make(self, settings: AppSettings, artifact: Artifact) -> dict[str, Any]:
        path = f"{settings.deploy_to}/releases/{PLACE}"
        port = {"PORT": str(settings.port)} if settings.port else {}
        with told_of_the_apps_own_file(settings, artifact):
            record = resolve_for_release(
                str(artifact.tree / artifact.process_file),
                release_id=PLACE,
                release_path=path,
                env_name=settings.process_env,
                extra_env={**port, **_python_env(artifact, path), **settings.env},
            )
        for warning in record.pop("warnings", []):
            self._report.warn(warning.replace(str(artifact.tree), str(settings.path)))
        for app in record["apps"]:
            if app.get("mode") == "cluster" and settings.health_path:
                app.setdefault("health", settings.health_path)
        secret = {app["name"]: fields for app in record["apps"] if (fields := REDACTOR.fields(app))}
        return {**record, "secret": secret} if secret else record


def _placed(record: dict[str, Any], host: Host) -> dict[str, Any]:
    """Without the apps that are pinned to other hosts."""
    names = [app["name"] for app in record["apps"]]
    for app in host.settings.placement:
        if app not in names:
            guess = nearest(app, names)
            advice = f"did you mean '{guess}'?" if guess else f"its apps: {', '.join(names)}"
            raise UsageError(f"'placement' names '{app}', which is no app of {host.settings.name}", next=advice)
    return {**record, "apps": [app for app in record["apps"] if app["name"] not in host.absent_apps]}


def _python_env(artifact: Artifact, path: str) -> dict[str, str]:
    """Where a Python app finds the packages that were installed into its release."""
    return {"PYTHONPATH": f"{path}/{PYTHON_PACKAGES}"} if artifact.has_python_packages else {}


def choose_release(waiting: list[Host], hosts: list[Host]) -> str:
    """Give the hosts that differ a release: one they have already, the one the others run, or a new one."""
    if not waiting[0].scope.brings_the_app:
        return ", ".join(sorted({str(host.notes["release"]) for host in waiting}))
    running = {host.notes["release"] for host in hosts if host.notes["up_to_date"]}
    known = {host.notes["known_release"] for host in waiting}
    taken = {name for host in hosts for name in host.notes["seen"]["marks"]}
    if len(known) == 1 and None not in known and running <= known:
        chosen = known.pop()
    elif len(running) == 1 and not any(running & set(host.notes["seen"]["marks"]) for host in waiting):
        chosen = running.pop()
    else:
        chosen = make_release_id(waiting[0].notes["artifact"].sha256, taken)
    for host in waiting:
        host.notes["release"] = chosen
        host.notes["is_staged"] = host.notes["known_release"] == chosen
    return str(chosen)


def make_release_id(artifact: str, taken: set[str]) -> str:
    """UTC time and the beginning of the artifact's hash; a second later when that one is taken."""
    moment = datetime.now(timezone.utc)
    while True:
        release = f"{moment:%Y%m%d%H%M%S}-{artifact[:8]}"
        if release not in taken:
            return release
        moment += timedelta(seconds=1)


def find_release(hosts: list[Host], release: str | None, report: Report) -> None:
    """Settle on the release that all hosts can go back to; takes the lock."""
    if release is not None and not RELEASE_PART.fullmatch(release):
        raise UsageError(
            f"{release!a} is no release id, nor a part of one", where="--release",
            next="see: invoke history",
        )  # fmt: skip
    report.phase("find", release or "the good release before the current one")

    def find(host: Host) -> None:
        host.ask("inspect", owner=who_am_i())
        found = _find_on(host, release)
        host.notes.update(release=found["release"], current=found["current"], up_to_date=False)

    stop_at(on_all(hosts, find), report)
    found = {host.name: host.notes["release"] for host in hosts}
    if len(set(found.values())) > 1:
        choice = ", ".join(f"{name} to {target}" for name, target in found.items())
        raise UsageError(f"the hosts would go back to different releases: {choice}", next="name one: --release ID")
    report.step(f"{hosts[0].notes['current']} -> {hosts[0].notes['release']}")


def _find_on(host: Host, release: str | None) -> dict[str, Any]:
    """What the host has of this name; one that answers with another is not believed."""
    found = host.ask("find", release=release)
    name = found["release"]
    if release is not None and not (name.startswith(release) or name.endswith(f"-{release}")):
        raise UnreachableError(f"its agent was asked for release '{release}' and answered '{name}'", where=host.name)
    return found


def find_common_release(hosts: list[Host], report: Report) -> str:
    """The release that most of the hosts run and call good, the newest of those of which as many do.

    What one host says decides little: the hosts that are behind go there only where they have that release themselves, made of
    the same artifact (`require_release`).
    """
    report.phase("find", "the release of the environment")

    def ask(host: Host) -> None:
        seen = host.ask("inspect")
        mark = seen["marks"].get(seen["current"], {})
        host.notes.update(
            current=seen["current"],
            is_good=mark.get("mark") == "good"
            and _is_made_of(seen["current"], mark.get("artifact") or seen["current"][15:]),
            is_unfinished=seen["unfinished"] or bool(seen["owed"]),
        )

    stop_at(on_all(hosts, ask), report)
    good = [host.notes["current"] for host in hosts if host.notes["is_good"]]
    if not good:
        raise UsageError("no host runs a release that is known to be good", next="invoke deploy")
    return str(max(set(good), key=lambda release: (good.count(release), release)))


def require_release(hosts: list[Host], release: str, report: Report) -> None:
    """Lock the hosts and have each verify that it has the release."""

    def find(host: Host) -> None:
        mark = host.ask("inspect", owner=who_am_i())["marks"].get(release, {})
        if not _is_made_of(release, mark.get("artifact") or release[15:]):
            raise PreflightError(
                f"its release {release} is made of another artifact", where=host.name, next="invoke deploy"
            )
        try:
            host.notes["release"] = _find_on(host, release)["release"]
        except UsageError as error:
            raise UsageError(
                error.what, where=error.where, next=f"invoke deploy --env {host.scope.env} brings it there"
            ) from None

    stop_at(on_all(hosts, find), report)
    report.step(", ".join(f"{host.name}: {host.notes['current'] or 'nothing'} -> {release}" for host in hosts))
