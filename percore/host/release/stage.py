"""Bringing what a release needs to the host, and checking it there; nothing that runs is touched."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Callable, Optional

from percore.errors import PercoreError, PreflightError, UsageError
from percore.host.files import read_file
from percore.host.messages import AmendRequest, Plan, Spec, StageRequest
from percore.host.projects.conflicts import taken_name
from percore.host.release.manifest import write_manifest
from percore.host.release.marks import STAGED
from percore.host.release.packages import install_package
from percore.host.release.plan import kept_contents, load_plan, sites_here, sites_of
from percore.host.release.records import kept_files, write_amendment, write_release_files
from percore.host.release.running import full_name_of
from percore.host.release.target import Target
from percore.host.release.transfer.parts import PartReader, check_room
from percore.host.release.transfer.reopen import reopen
from percore.host.release.transfer.shared import link_shared
from percore.host.resources.registry import make

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
        self._refuse_taken_names(request.record)
        self._reopen(request.package.path)
        changed = self.prepare(request.prepare, request.activation.handlers)
        self._refuse_closed(request.package.path)
        received = self._receive(request)
        try:
            for text in link_shared(releases.staging.path(release), releases.shared, request.shared):
                self.emit({"event": "progress", "text": text})
            write_release_files(releases, request, received, user=self.target.supervisor.user)
            write_manifest(releases.staging.path(release))
            releases.publish(releases.staging.path(release), release)
            self.verify(release)
            releases.marks.set(release, STAGED, **_note(request))
        except BaseException:
            releases.remove(release)
            raise
        return changed

    def _reopen(self, package: str) -> None:
        releases = self.target.releases
        places = [releases.path(name) for name in releases.names()]
        app = os.path.dirname(releases.directory)
        for path in reopen(app, places, package, self.target.supervisor.user):
            self.emit({"event": "progress", "text": f"open {path}, which an earlier deploy left closed to other users"})

    def _refuse_closed(self, package: str) -> None:
        """What lies above our directories is the administrator's, so it is not opened."""
        supervisor = self.target.supervisor
        if closed := supervisor.closed_way(self.target.releases.directory, package, supervisor.home):
            raise PreflightError(f"user '{supervisor.user}' may not enter {closed}", next=f"chmod o+x {closed}")

    def _refuse_taken_names(self, record: Mapping[str, Any]) -> None:
        """The supervisor would replace the workers of the app of another project by those of this one."""
        taken = self.target.taken()
        for name in map(full_name_of, record["apps"]):
            if name in taken:
                conflict = taken_name(taken[name])
                raise PreflightError(conflict.what, next=conflict.next)

    def amend(self, request: AmendRequest) -> list[str]:
        """Bring other files and units for the release that runs; `activate` with `amended` then puts them in place."""
        releases = self.target.releases
        release = releases.current()
        if release is None:
            raise UsageError("nothing is deployed here yet", next="deploy without --tags and --skip-tags first")
        changed = self.prepare(request.prepare, request.activation.handlers)
        kept = kept_files(releases)
        wanted = {sha256: size for sha256, size in request.files.items() if sha256 not in kept}
        received = self.receive_contents(wanted, list(wanted))
        write_amendment(releases, release, request, received, kept)
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
        specs = [_without_left(spec, self._left_links(plan)) for spec in plan.before + plan.after]
        coming = [spec["path"] for spec in specs if spec["kind"] == "file" and not os.path.exists(spec["path"])]
        for spec in specs:
            resource = make(spec, contents)
            if resource.difference() is not None:
                resource.verify(coming)

    def _left_links(self, plan: Plan) -> list[str]:
        """Of sites that only the release has which runs."""
        return [link for link in sites_here(self.target.releases) if link not in sites_of(plan)]

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
        kept = kept_files(releases)
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
            install_package(request.package, reader)
            return b""
        content = reader.read()  # of a role, and held in memory until all is there; archives are not
        reader.check(sha256)
        return content


def _without_left(spec: Spec, links: Sequence[str]) -> Spec:
    """NGINX is asked about a site as it will be when those are gone."""
    return {**spec, "without": [*spec.get("without", ()), *links]} if spec["kind"] == "site" else spec


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
