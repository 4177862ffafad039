"""Bringing a release to every host and having it verified there; nothing that runs is touched."""

from __future__ import annotations

import contextlib
import json
import mmap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from percore.deploy.build import host_package
from percore.deploy.build.artifact import Artifact
from percore.deploy.connection.agent import Part
from percore.deploy.report import Report
from percore.deploy.rollout.hosts import Host, count_hosts, on_all, stop_at
from percore.deploy.rollout.inspect import PLACE


def stage(hosts: list[Host], report: Report) -> None:
    """Bring the release to every host and have it verified there; a fault on one host stops all."""
    brings_the_app = hosts[0].scope.brings_the_app
    what = hosts[0].notes["artifact"].size_text if brings_the_app else str(hosts[0].scope.selection)
    report.phase("stage", f"{what} for each of {count_hosts(hosts)}")
    with contextlib.ExitStack() as opened:
        paths = {path for host in hosts for path in _large_files(host)} if brings_the_app else set()
        contents = _map_files(paths, opened)
        faults = on_all(
            hosts, lambda host: _stage_one(host, contents, report) if brings_the_app else _amend(host, report)
        )
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
        host.ask("prepare", report, resources=list(host.selected.prepare), handlers=list(host.state.handlers))
        report.host(host.name, "staged before")
        return
    artifact: Artifact = host.notes["artifact"]
    package: host_package.Package = host.notes["package"]
    selected = host.selected
    parts: dict[str, Part] = {
        **selected.files,
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
        selection=host.scope.selection._asdict(),
        prepare=list(selected.prepare),
        files={sha256: len(content) for sha256, content in selected.files.items()},
        artifact={"sha256": artifact.sha256, "bytes": artifact.bytes, "unpacked_bytes": artifact.unpacked_bytes},
        package={
            "path": f"{host.settings.package_path}/{package.id}",
            "sha256": package.sha256,
            "bytes": package.bytes,
            "unpacked_bytes": package.unpacked_bytes,
        },
    )
    report.host(host.name, "staged and verified")


def _amend(host: Host, report: Report) -> None:
    """Bring other files and units for the release that runs there."""
    assert host.state is not None
    selected = host.selected
    host.ask(
        "amend",
        report,
        parts=dict(selected.files),
        activation=host.state.activation(),
        selection=host.scope.selection._asdict(),
        prepare=list(selected.prepare),
        files={sha256: len(content) for sha256, content in selected.files.items()},
    )
    report.host(host.name, "staged and verified")


def _fill(record: Mapping[str, Any], release: str) -> dict[str, Any]:
    """The record with the release's id in all its places."""
    filled: dict[str, Any] = json.loads(json.dumps(record).replace(PLACE, release))
    return filled
