"""What each host should be: its rendered state, percore's package for it, and the app's artifact with its record."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percore.deploy.build.app import build, naming_the_source, needs_target
from percore.deploy.build.artifact import Artifact
from percore.deploy.build.host_package import Package, make_package
from percore.deploy.build.python import BuildTarget
from percore.deploy.masking import REDACTOR
from percore.deploy.plan.host_state import HostState
from percore.deploy.plan.settings import AppSettings
from percore.deploy.plan.site import upstream_fault
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host, HostValue
from percore.deploy.rollout.parallel import try_one
from percore.deploy.schema import suggest
from percore.errors import PercoreError, UsageError
from percore.supervisor.config.process_file import resolve_for_release

PLACE = "@release@"
"""Stands for a release's id in a record until the id is known."""

Record = Mapping[str, Any]
"""The resolved process file, as the supervisor reads it."""


@dataclass(frozen=True)
class WantedApp:
    """What is built and run; the record is that of the whole fleet, whichever apps a host runs of it.

    The fingerprint differs when anything of the host should differ but the placement.
    """

    artifact: Artifact
    record: Record
    fingerprint: str

    def record_of(self, release: str) -> dict[str, Any]:
        """The record with the release's id in all its places."""
        filled: dict[str, Any] = json.loads(json.dumps(self.record).replace(PLACE, release))
        return filled


@dataclass(frozen=True)
class WantedHost(HostValue):
    """What a host should be. Without `app` the run only brings files and units for the release that runs there."""

    state: HostState
    package: Package
    app: WantedApp | None

    @property
    def selected(self) -> HostState:
        """What this run is about."""
        return self.state.select(self.host.scope.selection)

    def comparable(self) -> list[dict[str, Any]]:
        """The resources that can be compared before the release is there. Packages are the set-up's, which comes first."""
        specs = [spec for spec in self.selected.resources() if spec["kind"] != "packages"]
        return [spec for spec in specs if spec["kind"] != "command" or is_guarded(spec)]


def is_guarded(spec: Mapping[str, Any]) -> bool:
    """A command with its own condition; others run with every switch."""
    return "creates" in spec or "unless" in spec


def build_apps(hosts: Sequence[Host], report: Report, *, for_hosts: bool = True) -> dict[str, Artifact]:
    """The artifact of each host, by its name; hosts of one app and kind share it. None where the run is not about the app.

    `for_hosts`: wheels are for the Python of the hosts, which are connected; otherwise for that of this machine.
    """
    made: dict[tuple[str, BuildTarget | None], Artifact] = {}
    found: dict[str, Artifact] = {}
    bringing = [host for host in hosts if host.scope.brings_the_app]
    targets = _common_targets(bringing) if for_hosts else {}
    for host in bringing:
        key = host.settings.name, targets.get(host.name)
        if key not in made:
            report.phase("build", " for ".join([key[0], *([key[1].title] if key[1] else [])]))
            made[key] = build(host.settings, host.scope.project, report.step, key[1])
            if not made[key].was_built:
                report.step(f"unchanged, {made[key].size_text} from the cache")
        found[host.name] = made[key]
    return found


def commit_of(artifacts: Mapping[str, Artifact]) -> Mapping[str, Any] | None:
    """Of the app that is deployed; hosts of several kinds have artifacts of the same one."""
    commit = next((artifact.commit for artifact in artifacts.values()), None)
    return commit._asdict() if commit else None


def _common_targets(hosts: Sequence[Host]) -> dict[str, BuildTarget]:
    """By host, the kind for which its wheels are: of hosts that differ only in their glibc the oldest counts."""
    targets = {host.name: (host.settings.name, _target(host)) for host in hosts if needs_target(host.settings)}
    oldest: dict[tuple[str, ...], BuildTarget] = {}
    for app, target in sorted(targets.values(), key=lambda pair: pair[1].libc_order):
        oldest.setdefault((app, *target.kind), target)
    return {name: oldest[(app, *target.kind)] for name, (app, target) in targets.items()}


def _target(host: Host) -> BuildTarget:
    facts = host.agent.facts
    python = host.settings.python_version or ".".join(facts["python"].split(".")[:2])
    return BuildTarget(facts["system"], facts["machine"], python, facts.get("libc", ""))


def render_hosts(hosts: Sequence[Host], artifacts: Mapping[str, Artifact], report: Report) -> list[WantedHost]:
    """What every host should be, by its facts. Asks no host."""
    maker = _WantedMaker(artifacts, hosts[0].scope.project, report)
    made = []
    for host in hosts:
        wanted = try_one(host, maker.make)
        if isinstance(wanted, PercoreError):
            raise wanted
        made.append(wanted)
    return made


class _WantedMaker:
    """Makes what hosts share once: a package per kind of machine, a record per directory and environment."""

    def __init__(self, artifacts: Mapping[str, Artifact], project: Path, report: Report) -> None:
        self._artifacts = artifacts
        self._project = project
        self._report = report
        self._packages: dict[tuple[str, str], Package] = {}
        self._records: dict[str, Record] = {}

    def make(self, host: Host) -> WantedHost:
        package = self._package(host)
        state = host.render(package.id)
        return WantedHost(host, state, package, self._app(host, state) if host.scope.brings_the_app else None)

    def _app(self, host: Host, state: HostState) -> WantedApp:
        artifact = self._artifacts[host.name]
        record = self._record(host.settings, artifact)
        _require_placed(record, host)
        site, port = host.settings.site, host.settings.port
        if site and port and (fault := upstream_fault(site, port, record, host.agent.facts["cores"])):
            self._report.warn(f"{host.name}: {fault}")
        fingerprint = state.fingerprint(artifact.sha256, record)
        return WantedApp(artifact, record, f"{fingerprint} {host.scope.selection}".rstrip())

    def _package(self, host: Host) -> Package:
        machine = host.agent.facts["system"], host.agent.facts["machine"]
        if machine not in self._packages:
            self._packages[machine] = make_package(self._project, system=machine[0], machine=machine[1])
        return self._packages[machine]

    def _record(self, settings: AppSettings, artifact: Artifact) -> Record:
        """node reads the process file for it."""
        health = settings.health_path, settings.asked_host
        own = settings.deploy_to, settings.port, settings.process_env, settings.reload_workers
        key = json.dumps([own, health, sorted(settings.env.items()), artifact.sha256])
        if key not in self._records:
            self._records[key] = _make_record(settings, artifact, self._report)
        return self._records[key]


def _make_record(settings: AppSettings, artifact: Artifact, report: Report) -> Record:
    path = f"{settings.deploy_to}/releases/{PLACE}"
    port = {"PORT": str(settings.port)} if settings.port else {}
    with naming_the_source(settings, artifact):
        record = resolve_for_release(
            str(artifact.tree / artifact.process_file),
            tree=str(artifact.tree),
            release_id=PLACE,
            release_path=path,
            env_name=settings.process_env,
            default_env=settings.env_name,
            extra_env={**port, **_python_env(artifact, path), **settings.env},
        )
    for warning in record.pop("warnings", []):
        report.warn(warning.replace(str(artifact.tree), str(settings.path)))
    for app in record["apps"]:
        _find_programs(app, artifact, path)
        if app.get("mode") == "cluster" and settings.health_path:
            app.setdefault("health", settings.health_path)
        if app.get("health") and settings.asked_host:
            app.setdefault("health_host", settings.asked_host)
        if app.get("mode") == "cluster" and settings.reload_workers > 1:
            app.setdefault("reload_workers", settings.reload_workers)
    secret = {app["name"]: fields for app in record["apps"] if (fields := REDACTOR.fields(app))}
    return {**record, "secret": secret} if secret else record


def _python_env(artifact: Artifact, path: str) -> dict[str, str]:
    """Where a Python app finds the packages that were installed into its release."""
    return {"PYTHONPATH": f"{path}/{artifact.python_packages}"} if artifact.has_python_packages else {}


def _find_programs(app: dict[str, Any], artifact: Artifact, path: str) -> None:
    """`uvicorn`, `next`...: a command that the app's dependencies bring is that of the release."""
    found = places_of_programs(artifact)
    if app.get("interpreter", "none") == "none" and "/" not in app["script"]:
        place = next((place for place in found if (artifact.tree / place / app["script"]).exists()), None)
        app["script"] = f"{path}/{place}/{app['script']}" if place else app["script"]
    elif app["script"] == "-c" and app.get("interpreter") == "/bin/sh" and found:
        line = app["args"][0]
        directories = ":".join(f"{path}/{place}" for place in found)
        app["args"] = [f'PATH={shlex.quote(directories)}:"$PATH"; {line}', *app["args"][1:]]


def places_of_programs(artifact: Artifact) -> list[str]:
    """The directories of commands that dependencies bring, from the top of the tree on."""
    inner = dict.fromkeys((artifact.inner, ""))
    places = [artifact.python_packages + "/bin", *(f"{at}/node_modules/.bin".lstrip("/") for at in inner)]
    return [place for place in places if (artifact.tree / place).is_dir()]


def _require_placed(record: Record, host: Host) -> None:
    names = [app["name"] for app in record["apps"]]
    for app in host.settings.placement:
        if app not in names:
            advice = suggest(app, names, f"its apps: {', '.join(names)}")
            raise UsageError(f"'placement' names '{app}', which is no app of {host.settings.name}", next=advice)
