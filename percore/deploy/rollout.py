"""The story of a deploy: build, look, stage everywhere, verify everywhere, switch everywhere, or take back everywhere.

Until `activate` nothing that runs is touched. From then on each host can bring back its former release by itself, and
does so when we fail, when we say so because another host failed, and when we are gone before having confirmed.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from percore.deploy import bundle
from percore.deploy.build import PYTHON_PACKAGES, Artifact, build, told_of_the_apps_own_file
from percore.deploy.fleet import (
    Host,
    close_all,
    connect_all,
    load_fleet,
    on_all,
    render_state,
    require_all,
    show_event,
    stop_at,
    who_am_i,
)
from percore.deploy.plan import AppSettings
from percore.deploy.remote import Part
from percore.deploy.render import render_text
from percore.deploy.report import WORKER_HEADS, Report, describe_apps, worker_rows
from percore.errors import PartialError, PercoreError, PreflightError, RolloutError, UnreachableError, UsageError
from percore.host.release import SPARE_BYTES
from percore.supervisor.ecosystem import resolve_for_release

PLACE = "@release@"
"""Stands for a release's id in a record until the id is known."""

OLDEST_PYTHON = (3, 9)


def deploy(env: str, project: Path, report: Report) -> None:
    hosts = load_fleet(env, project)
    artifacts = build_apps(hosts, project, report)
    try:
        connect_hosts(hosts, project, report)
        look(hosts, artifacts, project, report)
        waiting = [host for host in hosts if not host.notes["up_to_date"]]
        if not waiting:
            report.finish(f"nothing to change: {len(hosts)} {_hosts(hosts)} already on {_releases(hosts)}")
        else:
            choose_release(waiting, hosts)
            preflight(waiting, report)
            stage(waiting, report)
            activate(waiting, report)
            confirm(waiting, report)
            recap(hosts, report)
        write_edge_config(env, hosts, project)
        show_urls(hosts, report)
    finally:
        close_all(hosts, wait=True)


def rollback(env: str, project: Path, report: Report, *, release: str | None = None) -> None:
    """Back to the named release, or to the newest good one before the current, by the same switch as a deploy."""
    hosts = load_fleet(env, project)
    try:
        connect_hosts(hosts, project, report)
        find_release(hosts, release, report)
        activate(hosts, report)
        confirm(hosts, report, deployed=False)
        recap(hosts, report)
    finally:
        close_all(hosts, wait=True)


# -- before anything changes -----------------------------------------------------------------------------------------


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


def connect_hosts(hosts: list[Host], project: Path, report: Report) -> None:
    report.phase("connect", f"{len(hosts)} {_hosts(hosts)}")
    require_all(hosts, project, report)
    require_fit(hosts, report)


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


def look(hosts: list[Host], artifacts: Mapping[str, Artifact], project: Path, report: Report) -> None:
    """Lock each host and compare what it is with what it should be. Leaves the answers in the hosts' notes."""
    packages = _make_packages(hosts, project)
    records = _Records(report)
    for host in hosts:
        facts = host.agent.facts
        host.notes["artifact"] = artifacts[host.settings.name]
        host.notes["package"] = packages[facts["system"], facts["machine"]]
        host.state = render_state(host, host.notes["package"].id)
        host.notes["record"] = records.of(host)
        fingerprint = host.state.fingerprint(host.notes["artifact"].sha256, host.notes["record"])
        host.notes["fingerprint"] = fingerprint
    stop_at(on_all(hosts, _inspect), report)


def _inspect(host: Host) -> None:
    assert host.state is not None
    programs = ["node"] if host.notes["artifact"].is_node else []
    seen = host.ask("inspect", owner=who_am_i(), resources=_comparable(host), programs=programs)
    host.notes["seen"] = seen
    host.notes["known_release"] = _release_with(seen["marks"], host.notes["fingerprint"], seen["current"])
    host.notes["release"] = seen["current"]
    host.notes["status"] = seen["status"]
    host.notes["up_to_date"] = (
        host.notes["known_release"] is not None
        and host.notes["known_release"] == seen["current"]
        and seen["marks"][seen["current"]]["mark"] == "good"
        and not seen["changes"]
        and _runs_fully(seen["status"], seen["current"])
    )


def _comparable(host: Host) -> list[dict[str, Any]]:
    """The resources that can be compared before the release is there; commands only run as part of it."""
    assert host.state is not None
    return [spec for spec in host.state.resources() if spec["kind"] != "command"]


def _release_with(marks: Mapping[str, Any], fingerprint: str, current: str | None) -> str | None:
    """The release that already is what we want: the current one first, else the newest that is not bad."""
    same = [name for name, note in marks.items() if note.get("fingerprint") == fingerprint and note["mark"] != "bad"]
    return current if current in same else max(same, default=None)


def _runs_fully(status: Mapping[str, Any], release: str) -> bool:
    workers = [worker for app in status["apps"] for worker in app["workers"]]
    full = all(sum(w["state"] == "running" for w in app["workers"]) >= app["wanted"] for app in status["apps"])
    return bool(workers) and full and all(worker["release"] == release for worker in workers)


def _make_packages(hosts: Iterable[Host], project: Path) -> dict[tuple[str, str], bundle.Package]:
    kinds = {(host.agent.facts["system"], host.agent.facts["machine"]) for host in hosts}
    return {kind: bundle.make_package(project, system=kind[0], machine=kind[1]) for kind in kinds}


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
        return self._made[key]

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
        return record


def _python_env(artifact: Artifact, path: str) -> dict[str, str]:
    """Where a Python app finds the packages that were installed into its release."""
    return {"PYTHONPATH": f"{path}/{PYTHON_PACKAGES}"} if artifact.has_python_packages else {}


def choose_release(waiting: list[Host], hosts: list[Host]) -> None:
    """Give the hosts that differ a release: one they have already, the one the others run, or a new one."""
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


def make_release_id(artifact: str, taken: set[str]) -> str:
    """UTC time and the beginning of the artifact's hash; a second later when that one is taken."""
    moment = datetime.now(timezone.utc)
    while True:
        release = f"{moment:%Y%m%d%H%M%S}-{artifact[:8]}"
        if release not in taken:
            return release
        moment += timedelta(seconds=1)


def preflight(hosts: list[Host], report: Report) -> None:
    """Refuse what cannot go well, with the arithmetic; nothing has been touched."""
    report.phase("check", f"release {hosts[0].notes['release']}")
    faults = {host.name: fault for host in hosts if (fault := _refusal(host)) is not None}
    stop_at(faults, report)


def _refusal(host: Host) -> PercoreError | None:
    facts, seen = host.agent.facts, host.notes["seen"]
    artifact: Artifact = host.notes["artifact"]
    if artifact.is_node and not seen["versions"].get("node"):
        return PreflightError("Node.js is missing there", where=host.name, next="apt-get install -y nodejs on the host")
    needed = 0 if host.notes["is_staged"] else artifact.bytes + artifact.unpacked_bytes + SPARE_BYTES
    if seen["disk_free_bytes"] < needed:
        return PreflightError(
            f"not enough disk space below {host.settings.deploy_to}: {needed / 1e6:.0f} MB needed "
            f"({(needed - SPARE_BYTES) / 1e6:.0f} for the release and its archive, {SPARE_BYTES / 1e6:.0f} to spare), "
            f"{seen['disk_free_bytes'] / 1e6:.0f} MB free",
            where=host.name,
            next="make room there, or lower keep_releases, then deploy again",
        )
    if (facts["system"], facts["machine"]) != (platform.system(), platform.machine()) and _has_native_modules(artifact):
        return PreflightError(
            f"the host is {facts['machine']}, and the app has native modules built for {platform.machine()}",
            where=host.name,
            next="deploy from a machine of that kind",
        )
    return None


def _has_native_modules(artifact: Artifact) -> bool:
    import tarfile

    with tarfile.open(artifact.path) as tar:
        return any(name.endswith((".node", ".so")) for name in tar.getnames())


# -- staging, nothing that runs is touched ---------------------------------------------------------------------------


def stage(hosts: list[Host], report: Report) -> None:
    """Bring the release to every host and have it verified there; a fault on one host stops all."""
    report.phase("stage", f"{hosts[0].notes['artifact'].size_text} for each of {len(hosts)} {_hosts(hosts)}")
    with contextlib.ExitStack() as opened:
        contents = _map_files({path for host in hosts for path in _large_files(host)}, opened)
        faults = on_all(hosts, lambda host: _stage_one(host, contents, report))
    if faults:
        report.host("all", "nothing was switched: what ran before still runs")
    stop_at(faults, report)


def _large_files(host: Host) -> tuple[Path, Path]:
    return host.notes["package"].path, host.notes["artifact"].path


def _map_files(paths: Iterable[Path], opened: contextlib.ExitStack) -> dict[Path, mmap.mmap]:
    """Their contents, once in memory for however many hosts."""
    contents = {}
    for path in paths:
        file = opened.enter_context(path.open("rb"))
        contents[path] = opened.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return contents


def _stage_one(host: Host, contents: Mapping[Path, mmap.mmap], report: Report) -> None:
    assert host.state is not None
    if host.notes["is_staged"]:
        host.ask("prepare", report, resources=list(host.state.prepare))
        report.host(host.name, "staged before")
        return
    artifact: Artifact = host.notes["artifact"]
    package: bundle.Package = host.notes["package"]
    parts: dict[str, Part] = {
        **host.state.files,
        package.sha256: contents[package.path],
        artifact.sha256: contents[artifact.path],
    }
    release = host.notes["release"]
    host.ask(
        "stage",
        report,
        parts=parts,
        release=release,
        fingerprint=host.notes["fingerprint"],
        record=_fill(host.notes["record"], release),
        activation=host.state.activation(),
        prepare=list(host.state.prepare),
        files={sha256: len(content) for sha256, content in host.state.files.items()},
        artifact={"sha256": artifact.sha256, "bytes": artifact.bytes, "unpacked_bytes": artifact.unpacked_bytes},
        package={
            "path": f"{host.settings.package_path}/{package.id}",
            "sha256": package.sha256,
            "bytes": package.bytes,
            "unpacked_bytes": package.unpacked_bytes,
        },
    )
    report.host(host.name, "staged and verified")


def _fill(record: Mapping[str, Any], release: str) -> dict[str, Any]:
    """The record with the release's id in all its places."""
    filled: dict[str, Any] = json.loads(json.dumps(record).replace(PLACE, release))
    return filled


def find_release(hosts: list[Host], release: str | None, report: Report) -> None:
    """Settle on the release that all hosts can go back to; takes the lock."""
    report.phase("find", release or "the good release before the current one")

    def find(host: Host) -> None:
        host.ask("inspect", owner=who_am_i())
        found = host.ask("find", release=release)
        host.notes.update(release=found["release"], current=found["current"])

    stop_at(on_all(hosts, find), report)
    found = {host.name: host.notes["release"] for host in hosts}
    if len(set(found.values())) > 1:
        choice = ", ".join(f"{name} to {target}" for name, target in found.items())
        raise UsageError(f"the hosts would go back to different releases: {choice}", next="name one: --release ID")
    report.step(f"{hosts[0].notes['current']} -> {hosts[0].notes['release']}")


# -- switching, all or none ------------------------------------------------------------------------------------------


def activate(hosts: list[Host], report: Report) -> None:
    """Switch every host; when one fails, every host that was switched goes back, and the error says what happened."""
    report.phase("activate", hosts[0].notes["release"])
    faults = on_all(hosts, lambda host: _activate_one(host, report))
    if faults:
        raise _take_back(hosts, faults, report)


def _activate_one(host: Host, report: Report) -> None:
    reply = host.ask("activate", report, release=host.notes["release"])
    host.notes["status"] = reply["status"]


def _take_back(hosts: list[Host], faults: dict[str, PercoreError], report: Report) -> PercoreError:
    """Bring back the former release wherever the new one runs; returns the error to end with."""
    switched = [host for host in hosts if host.name not in faults]
    report.phase("revert", f"{len(faults)} failed; {len(switched)} more to take back")
    partial = on_all(switched, lambda host: host.ask("revert", report))
    for name, error in faults.items():
        report.host(name, str(error).removeprefix(f"{name}: "))
    # A host that is out of reach takes itself back as soon as it misses us; nobody has seen it yet, though.
    lost = [
        name for name, error in {**faults, **partial}.items() if isinstance(error, (PartialError, UnreachableError))
    ]
    _recap_after_failure(hosts, lost, report)
    first = next(iter(faults.values()))
    if lost:
        return PartialError(
            f"{first.what}; not certain to be back on the former release: {', '.join(lost)}",
            where=first.where,
            next="invoke status, then deploy again",
            detail=first.detail,
        )
    return RolloutError(
        f"{first.what}; every host is back on its former release",
        where=first.where,
        next=first.next or "mend it and deploy again",
        detail=first.detail,
    )


def _recap_after_failure(hosts: list[Host], lost: Sequence[str], report: Report) -> None:
    """What runs where now, as each host says itself."""

    def ask(host: Host) -> None:
        host.notes["now"] = host.ask("status")

    on_all([host for host in hosts if host.name not in lost], ask)
    rows = [
        [host.name, now["current"] or "-", describe_apps(now["status"])]
        if (now := host.notes.get("now"))
        else [host.name, "?", "unknown"]
        for host in hosts
    ]
    report.line("what runs now:")
    report.table(["host", "release", "apps"], rows)


def confirm(hosts: list[Host], report: Report, *, deployed: bool = True) -> None:
    """All are healthy: mark the release good everywhere and drop old ones. From here on nothing is taken back."""

    def confirm_one(host: Host) -> None:
        host.ask("confirm", release=host.notes["release"], deployed=deployed, keep=host.settings.keep_releases)

    stop_at(on_all(hosts, confirm_one), report)


# -- afterwards ------------------------------------------------------------------------------------------------------


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
    report.finish(f"done: {len(hosts)} {_hosts(hosts)} on {_releases(hosts)}")


def show_urls(hosts: list[Host], report: Report) -> None:
    for host in hosts[:5]:
        port = host.settings.shown_port
        if port is not None:
            report.line(f"  http://{host.url_host}{'' if port == 80 else f':{port}'}/")


def write_edge_config(env: str, hosts: list[Host], project: Path) -> None:
    """`build/nginx/<env>/<app>.conf`: what a load balancer in front of the hosts needs."""
    by_app: dict[str, list[Host]] = {}
    for host in hosts:
        by_app.setdefault(host.settings.name, []).append(host)
    for name, members in by_app.items():
        servers = [
            {"host": host.name, "address": "127.0.0.1" if host.address.local else host.address.address, "port": port}
            for host in members
            if (port := host.settings.shown_port) is not None
        ]
        if not servers:
            continue
        values = {"app_name": name, "env_name": env, "servers": servers, "server_name": members[0].settings.server_name}
        path = project / "build" / "nginx" / env / f"{name}.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render_text("nginx-edge.conf.j2", values, project / "templates"))


def _hosts(hosts: Sequence[Host]) -> str:
    return "host" if len(hosts) == 1 else "hosts"


def _releases(hosts: Iterable[Host]) -> str:
    return ", ".join(sorted({str(host.notes["release"]) for host in hosts}))


# -- the other verbs -------------------------------------------------------------------------------------------------


def status(env: str, project: Path, report: Report, *, as_json: bool) -> None:
    """What runs on every host; hosts that do not answer are named, and make the exit code 7."""
    hosts = load_fleet(env, project)
    try:
        faults = connect_all(hosts, project)

        def ask(host: Host) -> None:
            host.notes["reply"] = host.ask("status")

        faults.update(on_all([host for host in hosts if host.name not in faults], ask))
    finally:
        close_all(hosts)
    entries = [_status_entry(host, host.notes.get("reply")) for host in hosts]
    if as_json:
        report.json(entries)
    else:
        _print_status(entries, report)
    stop_at(faults, report)


def _status_entry(host: Host, reply: Mapping[str, Any] | None) -> dict[str, Any]:
    """The shape that scripts rely on; its names stay."""
    if reply is None:
        return {"host": host.name, "reachable": False, "release": None, "apps": []}
    names = ("name", "mode", "wanted", "workers")
    worker_names = (
        "slot",
        "pid",
        "state",
        "release",
        "port",
        "memory_bytes",
        "cpu_percent",
        "uptime_seconds",
        "restarts",
    )
    apps = [
        {
            **{name: app[name] for name in names if name != "workers"},
            "workers": [{name: worker[name] for name in worker_names} for worker in app["workers"]],
        }
        for app in reply["status"]["apps"]
    ]
    return {"host": host.name, "reachable": True, "release": reply["current"], "apps": apps}


def _print_status(entries: Sequence[Mapping[str, Any]], report: Report) -> None:
    rows: list[list[object]] = []
    for entry in entries:
        found = worker_rows(entry["host"], entry)
        rows += found or [[entry["host"], "nothing runs" if entry["reachable"] else "unreachable", *[""] * 10]]
    report.table(WORKER_HEADS, rows)


def stop(env: str, project: Path, report: Report) -> None:
    """End everything that a deploy started; the releases stay, and `deploy` starts them again."""
    hosts = load_fleet(env, project)
    try:
        connect_hosts(hosts, project, report)

        def stop_one(host: Host) -> None:
            reply = host.ask("stop", report, unit="percore.service" if host.settings.has_systemd else None)
            report.host(host.name, "; ".join(reply["changed"]) or "nothing ran")

        stop_at(on_all(hosts, stop_one), report)
    finally:
        close_all(hosts)
    report.finish("stopped")


def set_boot(env: str, project: Path, report: Report, *, enabled: bool) -> None:
    """Start at boot, or no longer."""
    hosts = load_fleet(env, project)
    for host in hosts:
        if not host.settings.has_systemd:
            raise PreflightError(
                "there is no service manager to start anything at boot (service_manager: process)",
                where=host.name,
                next="use an environment whose hosts have systemd",
            )
    try:
        connect_hosts(hosts, project, report)
        stop_at(on_all(hosts, lambda host: _set_boot_one(host, enabled, report)), report)
    finally:
        close_all(hosts)
    report.finish("starts at boot" if enabled else "no longer starts at boot")


def _set_boot_one(host: Host, enabled: bool, report: Report) -> None:
    names = ["percore.service", *(["nginx.service"] if host.settings.nginx else [])]
    units = [{"kind": "unit", "name": name, "enabled": enabled} for name in names]
    reply = host.ask("prepare", resources=units)
    report.host(host.name, "; ".join(reply["changed"]) or "so already")


def logs(env: str, project: Path, report: Report, *, app: str | None, lines: int, follow: bool) -> None:
    """The apps' own lines from all hosts, each behind its host's name."""
    hosts = load_fleet(env, project)
    words = [*([app] if app else []), "--lines", str(lines), "--follow" if follow else "--nostream"]
    try:
        require_all(hosts, project, report)
        stop_at(on_all(hosts, lambda host: _stream(host, words, report)), report)
    finally:
        close_all(hosts)


def _stream(host: Host, words: list[str], report: Report) -> None:
    host.agent.ask(
        "stream", target=host.target(), words=words, on_event=lambda event: show_event(report, host.name, event)
    )


def build_only(env: str, project: Path, report: Report) -> None:
    """Build what a deploy of this environment would send, and the load balancer's configuration."""
    hosts = load_fleet(env, project)
    artifacts = build_apps(hosts, project, report)
    write_edge_config(env, hosts, project)
    for name, artifact in artifacts.items():
        report.finish(f"{name}: {artifact.path.relative_to(project)}")
