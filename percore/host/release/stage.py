"""Bringing what a release needs to the host, and checking it there; nothing that runs is touched."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from typing import Any, BinaryIO, Callable, Optional

from percore.common import typed
from percore.common.record_diff import without_apps
from percore.errors import PercoreError, UsageError
from percore.host.files import read_file, write_file
from percore.host.messages import AmendRequest, PackageArchive, Plan, Spec, StageRequest, TagChoice
from percore.host.paths import remove_tree
from percore.host.release.manifest import write_manifest
from percore.host.release.marks import STAGED
from percore.host.release.placement import encode
from percore.host.release.plan import kept_contents, load_plan
from percore.host.release.releases import Releases
from percore.host.release.target import Target
from percore.host.release.transfer.parts import PartReader, check_room, unpack
from percore.host.release.transfer.shared import link_shared
from percore.host.resources.registry import make
from percore.host.tags import Selection

SMALL_BYTES = 4 * 1024 * 1024
"""Files of roles are held in memory while they are staged; archives are not."""

PIECE_BYTES = 256 * 1024


class Staging:
    """`source` is where what we ask for with `emit` arrives."""

    def __init__(self, target: Target, source: BinaryIO, emit: Callable[[dict[str, Any]], None]) -> None:
        self.target = target
        self.source = source
        self.emit = emit

    def stage(self, request: StageRequest) -> list[str]:
        """Bring everything of a release to the host and check it there. Returns what `prepare` changed."""
        releases, release = self.target.releases, request.release
        changed = self.prepare(request.prepare, request.activation.handlers)
        received = self._receive(request)
        try:
            for text in link_shared(releases.staging.path(release), releases.shared, request.shared):
                self.emit({"event": "progress", "text": text})
            _write_release_files(releases, request, received, user=self.target.supervisor.user)
            write_manifest(releases.staging.path(release))
            releases.publish(releases.staging.path(release), release)
            self.verify(release)
            releases.marks.set(release, STAGED, **_note(request))
        except BaseException:
            releases.remove(release)
            raise
        return changed

    def amend(self, request: AmendRequest) -> list[str]:
        """Bring other files and units for the release that runs; `activate` with `amended` then puts them in place."""
        releases = self.target.releases
        release = releases.current()
        if release is None:
            raise UsageError("nothing is deployed here yet", next="deploy without --tags and --skip-tags first")
        changed = self.prepare(request.prepare, request.activation.handlers)
        kept = _kept_files(releases)
        wanted = {sha256: size for sha256, size in request.files.items() if sha256 not in kept}
        received = self.receive_contents(wanted, list(wanted))
        _write_contents(releases.files_path(release), request.files, received, kept)
        plan = _merged(releases, request.activation, request.selection)
        _write_json(releases.plan_path(release, amended=True), typed.as_json(plan))
        try:
            self.verify(release, amended=True)
        except BaseException:
            releases.end_amendment(release, keeps=False)
            raise
        return changed

    def prepare(self, specs: Sequence[Spec], handlers: Sequence[Spec]) -> list[str]:
        """Make what a host needs before it is given a release. None of it is rolled back; the switch runs what it notifies."""
        changed = []
        for spec in specs:
            resource = make(spec)
            difference = resource.change()
            if difference:
                self.emit({"event": "progress", "text": difference})
                self.target.handlers.notify(spec, handlers, difference)
                resource.apply()
                changed.append(difference)
        return changed

    def verify(self, release: str, *, amended: bool = False) -> None:
        """Is everything that would be put elsewhere valid? RolloutError says what is not."""
        releases = self.target.releases
        plan = load_plan(releases, release, amended=amended)
        contents = kept_contents(releases, release)
        specs = plan.before + plan.after
        coming = [spec["path"] for spec in specs if spec["kind"] == "file" and not os.path.exists(spec["path"])]
        for spec in specs:
            resource = make(spec, contents)
            if resource.difference() is not None:
                resource.verify(coming)

    def receive_contents(self, sizes: dict[str, int], wanted: list[str]) -> dict[str, bytes]:
        """These contents, all in one answer."""
        self.emit({"event": "need", "parts": wanted})
        received = {}
        for sha256 in wanted:
            reader = PartReader(self.source, sizes[sha256])
            received[sha256] = reader.read(sizes[sha256])
            reader.check(sha256)
        return received

    def _receive(self, request: StageRequest) -> dict[str, bytes]:
        """Ask for the parts that are missing here, and take each where it belongs."""
        releases, artifact, package = self.target.releases, request.artifact, request.package
        kept = _kept_files(releases)
        archives = releases.archives
        archives.keep_only({artifact.sha256})
        offset = archives.bytes_here(artifact.sha256)
        is_package_missing = not os.path.isdir(package.path)
        needed_bytes = max(0, artifact.bytes - offset) + artifact.unpacked_bytes
        os.makedirs(releases.directory, exist_ok=True)
        check_room(releases.directory, needed_bytes + (package.unpacked_bytes if is_package_missing else 0))
        order = [sha256 for sha256 in request.files if sha256 not in kept]
        order += [package.sha256] if is_package_missing else []
        order += [] if archives.has(artifact.sha256) else [artifact.sha256]
        self.emit({"event": "need", "parts": order, "offsets": {artifact.sha256: offset}})
        sizes = {**request.files, package.sha256: package.bytes, artifact.sha256: artifact.bytes - offset}
        received = {sha256: read_file(path) for sha256, path in kept.items() if sha256 in request.files}
        fault: Optional[Exception] = None
        for sha256 in order:
            reader = PartReader(self.source, sizes[sha256])
            try:
                if fault is None:
                    received[sha256] = self._take(request, sha256, reader)
            except (PercoreError, OSError) as error:
                fault = error
            reader.drain()  # also after a failure: the next message begins where the parts end
        if fault is not None:
            raise fault
        releases.staging.fill(request.release, artifact.sha256, unpacked_bytes=artifact.unpacked_bytes)
        return received

    def _take(self, request: StageRequest, sha256: str, reader: PartReader) -> bytes:
        if sha256 == request.artifact.sha256:
            self.target.releases.archives.receive(sha256, iter(lambda: reader.read(PIECE_BYTES), b""))
            return b""
        if sha256 == request.package.sha256:
            _install_package(request.package, reader)
            return b""
        content = reader.read(SMALL_BYTES)
        reader.check(sha256)
        return content


def _merged(releases: Releases, plan: Plan, tags: TagChoice) -> Plan:
    """The wanted plan; what the run is not about stays as the release that runs has it."""
    current = releases.current()
    selection = Selection(*tags)
    if selection.is_everything:
        return plan
    present = load_plan(releases, current) if current else Plan([], [])
    names = {handler["name"] for handler in plan.handlers}
    return plan._replace(
        before=selection.merge(plan.before, present.before),
        after=selection.merge(plan.after, present.after),
        handlers=[*(handler for handler in present.handlers if handler["name"] not in names), *plan.handlers],
    )


def _note(request: StageRequest) -> dict[str, Any]:
    """What the marks keep of where a release comes from."""
    sha256 = request.artifact.sha256
    return {
        "fingerprint": request.fingerprint,
        "artifact": sha256,
        "digest": request.digest or sha256,
        "commit": request.commit._asdict() if request.commit else None,
        **({"irreversible": True} if request.irreversible else {}),
    }


def _write_release_files(
    releases: Releases, request: StageRequest, received: dict[str, bytes], *, user: Optional[str]
) -> None:
    """Put the records beside the app's own files: for the supervisor one, for activation the other."""
    staging = releases.staging.path(request.release)
    directory = os.path.join(staging, ".percore")
    os.makedirs(os.path.join(directory, "files"), mode=0o700)
    os.chmod(directory, 0o700)
    plan = _merged(releases, request.activation, request.selection)
    wanted = {*request.files, *(spec["sha256"] for spec in plan.before + plan.after if "sha256" in spec)}
    _write_contents(os.path.join(directory, "files"), wanted, received, _kept_files(releases))
    _write_json(os.path.join(directory, "activation.json"), typed.as_json(plan))
    _write_json(os.path.join(directory, "record.json"), request.record)
    _write_json(os.path.join(staging, ".percore.json"), without_apps(request.record, request.absent), owner=user)


def _write_contents(directory: str, wanted: Collection[str], received: dict[str, bytes], kept: dict[str, str]) -> None:
    for sha256 in wanted:
        content = received[sha256] if sha256 in received else read_file(kept[sha256])
        write_file(os.path.join(directory, sha256), content, mode=0o600)


def _write_json(path: str, content: dict[str, Any], *, owner: Optional[str] = None) -> None:
    write_file(path, encode(content), mode=0o600, owner=owner)


def _kept_files(releases: Releases) -> dict[str, str]:
    """Contents of earlier releases that are here already: by hash, where."""
    found: dict[str, str] = {}
    for release in releases.names():
        directory = releases.files_path(release)
        if os.path.isdir(directory):
            found.update({name: os.path.join(directory, name) for name in os.listdir(directory)})
    return found


def _install_package(package: PackageArchive, reader: PartReader) -> None:
    """Unpack percore's own on-host package beside the others and compile it, since its user may not write there."""
    import compileall

    staging = f"{package.path}.staging"
    check_room(os.path.dirname(package.path), package.unpacked_bytes)
    unpack(reader, package.sha256, staging, needed_bytes=package.unpacked_bytes)
    compileall.compile_dir(staging, quiet=2, stripdir=staging, prependdir=package.path)
    os.rename(staging, package.path)


def prune_packages(target: Target) -> None:
    """Remove the on-host packages that no release here leads to any more."""
    directory, link = target.supervisor.package, os.path.join(target.supervisor.package, "current")
    needed = {os.path.basename(os.path.realpath(link)), os.path.basename(sys.path[0])}  # the last: this program's own
    for release in target.releases.marks.read():
        if target.releases.exists(release):
            plan = load_plan(target.releases, release)
            needed |= {spec["to"] for spec in plan.before if spec["kind"] == "link" and spec["path"] == link}
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False) and entry.name not in needed:
            remove_tree(entry.path)
