"""Bringing what a release needs to the host, and checking it there; nothing that runs is touched."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, BinaryIO, Callable, Optional

from percore.errors import PercoreError, UsageError
from percore.host.files import read_file, write_file
from percore.host.paths import remove_tree
from percore.host.release.releases import STAGED, PartReader, Releases, check_room, unpack
from percore.host.release.switch import Plan, kept_contents
from percore.host.release.target import Target
from percore.host.resources.registry import make
from percore.host.resources.resource import Spec
from percore.host.tags import Selection

Message = dict[str, Any]

SMALL_BYTES = 4 * 1024 * 1024
"""Files of roles are held in memory while they are staged; archives are not."""

PIECE_BYTES = 256 * 1024


class Staging:
    """`source` is where what we ask for with `emit` arrives."""

    def __init__(self, target: Target, source: BinaryIO, emit: Callable[[Message], None]) -> None:
        self.target = target
        self.source = source
        self.emit = emit

    def stage(self, message: Message) -> Message:
        """Bring everything of a release to the host and check it there; nothing that runs is touched."""
        target = self.target
        release = message["release"]
        changed = self.prepare(message["prepare"], message["activation"]["handlers"])
        received = self._receive(message)
        staging = target.releases.staging_path(release)
        try:
            _write_release_files(target.releases, staging, message, received, user=target.supervisor.user)
            target.releases.publish(staging, release)
            self.verify(release)
            target.releases.mark(
                release, STAGED, fingerprint=message["fingerprint"], artifact=message["artifact"]["sha256"]
            )
        except BaseException:
            target.releases.remove(release)
            raise
        return {"changed": changed}

    def amend(self, message: Message) -> Message:
        """Bring other files and units for the release that runs; `activate` with `amended` then puts them in place."""
        target = self.target
        release = target.releases.current()
        if release is None:
            raise UsageError("nothing is deployed here yet", next="deploy without --tags and --skip-tags first")
        changed = self.prepare(message["prepare"], message["activation"]["handlers"])
        kept = _kept_files(target.releases)
        wanted = {sha256: size for sha256, size in message["files"].items() if sha256 not in kept}
        received = self.receive_contents(wanted, list(wanted))
        folder = os.path.join(target.releases.path(release), ".percore", "files")
        for sha256 in message["files"]:
            content = received[sha256] if sha256 in received else read_file(kept[sha256])
            write_file(os.path.join(folder, sha256), content, mode=0o600)
        plan = _merged(target.releases, message)
        write_file(target.releases.plan_path(release, amended=True), json.dumps(plan, indent=1).encode(), mode=0o600)
        try:
            self.verify(release, amended=True)
        except BaseException:
            target.releases.drop_amendment(release)
            raise
        return {"changed": changed}

    def prepare(self, specs: list[Spec], handlers: list[Spec]) -> list[str]:
        """Make what a host needs before it is given a release. None of it is taken back; what it owes is paid by the switch."""
        changed = []
        for spec in specs:
            resource = make(spec)
            difference = resource.change()
            if difference:
                self.emit({"event": "progress", "text": difference})
                self.target.debts.notify(spec, handlers, difference)
                resource.apply()
                changed.append(difference)
        return changed

    def verify(self, release: str, *, amended: bool = False) -> None:
        """Is everything that would be put elsewhere valid? RolloutError says what is not."""
        releases = self.target.releases
        plan = Plan.load(releases, release, amended=amended)
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

    def _receive(self, message: Message) -> dict[str, bytes]:
        """Ask for the parts that are missing here, and take each where it belongs."""
        target = self.target
        artifact, package = message["artifact"], message["package"]
        kept = _kept_files(target.releases)
        files: dict[str, int] = message["files"]
        wanted = [sha256 for sha256 in files if sha256 not in kept]
        package_needed = not os.path.isdir(package["path"])
        archives = target.releases.archives
        archives.keep_only({artifact["sha256"]})
        missing_bytes = max(0, artifact["bytes"] - archives.bytes_here(artifact["sha256"]))
        needed_bytes = missing_bytes + artifact["unpacked_bytes"] + (package["unpacked_bytes"] if package_needed else 0)
        os.makedirs(target.releases.folder, exist_ok=True)
        check_room(target.releases.folder, needed_bytes)
        order = [*wanted, *([package["sha256"]] if package_needed else [])]
        order += [] if archives.has(artifact["sha256"]) else [artifact["sha256"]]
        offset = archives.bytes_here(artifact["sha256"])
        self.emit({"event": "need", "parts": order, "offsets": {artifact["sha256"]: offset}})
        sizes = {**files, package["sha256"]: package["bytes"], artifact["sha256"]: artifact["bytes"] - offset}
        received = {sha256: read_file(path) for sha256, path in kept.items() if sha256 in files}
        fault: Optional[Exception] = None
        for sha256 in order:
            reader = PartReader(self.source, sizes[sha256])
            try:
                if fault is None:
                    received[sha256] = self._take(message, sha256, reader)
            except (PercoreError, OSError) as error:
                fault = error
            reader.drain()  # also after a failure: the next message begins where the parts end
        if fault is not None:
            raise fault
        target.releases.stage(message["release"], artifact["sha256"], unpacked_bytes=artifact["unpacked_bytes"])
        return received

    def _take(self, message: Message, sha256: str, reader: PartReader) -> bytes:
        package = message["package"]
        if sha256 == message["artifact"]["sha256"]:
            self.target.releases.archives.receive(sha256, iter(lambda: reader.read(PIECE_BYTES), b""))
            return b""
        if sha256 == package["sha256"]:
            _install_package(package, reader)
            return b""
        content = reader.read(SMALL_BYTES)
        reader.check(sha256)
        return content


def _merged(releases: Releases, message: Message) -> Message:
    """The wanted plan; what the run is not about stays as the release that runs has it."""
    plan: Message = message["activation"]
    current = releases.current()
    selection = Selection(**message["selection"])
    if selection.is_everything:
        return plan
    present = Plan.load(releases, current) if current else Plan([], [], [], {})
    names = {handler["name"] for handler in plan["handlers"]}
    return {
        **plan,
        "before": selection.merge(plan["before"], present.before),
        "after": selection.merge(plan["after"], present.after),
        "handlers": [h for h in present.handlers if h["name"] not in names] + plan["handlers"],
    }


def _write_release_files(
    releases: Releases, staging: str, message: Message, received: dict[str, bytes], *, user: Optional[str]
) -> None:
    """Put the records beside the app's own files: for the supervisor one, for activation the other."""
    folder = os.path.join(staging, ".percore")
    os.makedirs(os.path.join(folder, "files"), mode=0o700)
    os.chmod(folder, 0o700)
    plan, kept = _merged(releases, message), _kept_files(releases)
    for sha256 in {*message["files"], *(spec["sha256"] for spec in plan["before"] + plan["after"] if "sha256" in spec)}:
        content = received[sha256] if sha256 in received else read_file(kept[sha256])
        write_file(os.path.join(folder, "files", sha256), content, mode=0o600)
    activation = json.dumps(plan, indent=1).encode()
    write_file(os.path.join(folder, "activation.json"), activation, mode=0o600)
    record = json.dumps(message["record"], indent=1).encode()
    write_file(os.path.join(staging, ".percore.json"), record, mode=0o600, owner=user)


def _kept_files(releases: Releases) -> dict[str, str]:
    """Contents of earlier releases that are here already: by hash, where."""
    found: dict[str, str] = {}
    for release in releases.names():
        folder = os.path.join(releases.path(release), ".percore", "files")
        if os.path.isdir(folder):
            found.update({name: os.path.join(folder, name) for name in os.listdir(folder)})
    return found


def _install_package(package: Message, reader: PartReader) -> None:
    """Unpack percore's own on-host package beside the others and compile it, since its user may not write there."""
    import compileall

    path = package["path"]
    staging = f"{path}.staging"
    check_room(os.path.dirname(path), package["unpacked_bytes"])
    unpack(reader, package["sha256"], staging, needed_bytes=package["unpacked_bytes"])
    compileall.compile_dir(staging, quiet=2, stripdir=staging, prependdir=path)
    os.rename(staging, path)


def prune_packages(target: Target) -> None:
    """Remove the on-host packages that no release here leads to any more."""
    folder, link = target.supervisor.package, os.path.join(target.supervisor.package, "current")
    needed = {os.path.basename(os.path.realpath(link)), os.path.basename(sys.path[0])}  # the last: this program's own
    for release in target.releases.marks():
        if target.releases.exists(release):
            plan = Plan.load(target.releases, release)
            needed |= {spec["to"] for spec in plan.before if spec["kind"] == "link" and spec["path"] == link}
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False) and entry.name not in needed:
            remove_tree(entry.path)
