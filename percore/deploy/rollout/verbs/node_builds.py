"""Builds of Node.js that hosts lack: fetched once, for however many hosts."""

from __future__ import annotations

import contextlib
import itertools
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from percore.deploy.build.node_runtime import NodeArchive, fetch_node
from percore.deploy.connection.stream import Part
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.parallel import all_or_stop
from percore.deploy.rollout.pending_setup import PendingSetup, inspect_setup


@dataclass(frozen=True)
class NodeBuilds:
    """By version and machine; each is once in memory."""

    found: Mapping[tuple[str, str], NodeArchive]
    archives: Mapping[str, mmap.mmap]

    def completed(self, spec: dict[str, Any], host: Host) -> dict[str, Any]:
        build = self.found.get((spec["version"], _machine(host))) if spec["kind"] == "node" else None
        if build is None:
            return spec
        return {**spec, "exact": build.version, "sha256": build.sha256, "unpacked_bytes": build.unpacked_bytes}

    def parts_of(self, specs: Sequence[Mapping[str, Any]]) -> dict[str, Part]:
        return {spec["sha256"]: self.archives[spec["sha256"]] for spec in specs if spec.get("sha256") in self.archives}


@contextlib.contextmanager
def fetched_builds(pending: Sequence[PendingSetup], report: Report) -> Iterator[NodeBuilds]:
    missing = all_or_stop(pending, _missing_builds, report)
    found = {}
    for version, machine in sorted(set(itertools.chain(*missing))):
        report.step(f"fetch Node.js {version} for {machine}")
        found[version, machine] = fetch_node(version, machine)
        report.step(f"Node.js {found[version, machine].version}, {found[version, machine].bytes / 1e6:.0f} MB")
    with contextlib.ExitStack() as opened:
        yield NodeBuilds(found, {build.sha256: _map(build, opened) for build in found.values()})


def _missing_builds(one: PendingSetup) -> list[tuple[str, str]]:
    wanted = [spec for spec in one.specs if spec["kind"] == "node"]
    return [(spec["version"], _machine(one.host)) for spec in wanted if inspect_setup(one.host, [spec])["changes"]]


def _machine(host: Host) -> str:
    return str(host.agent.facts["machine"])


def _map(build: NodeArchive, opened: contextlib.ExitStack) -> mmap.mmap:
    file = opened.enter_context(build.path.open("rb"))
    return opened.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
