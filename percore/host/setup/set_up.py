"""Setting up what a host has whatever release runs there: packages, servers, a firewall. One change, done or rolled back.

It has a place of its own on the host, with a lock, a journal and pending handlers. Packages, users, directories and
builds of Node.js stay also where the rest is rolled back: they do no harm.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, BinaryIO, Optional, Union

from percore.errors import PercoreError
from percore.host.messages import SetUpRequest, Spec
from percore.host.paths import remove_tree
from percore.host.release.change.change import Change, check_units
from percore.host.release.change.journal import Journal
from percore.host.release.change.record import SwitchRecord
from percore.host.release.switch import Activation
from percore.host.release.target import Target
from percore.host.release.transfer.parts import PartReader, check_room, unpack
from percore.host.resources.registry import make
from percore.host.setup.placed import placed_file
from percore.host.supervisor.supervisor import Emit

STAYS = ("packages", "user", "directory", "node")
"""Kinds that come first, and are not rolled back."""

SET_UP = "set-up"
"""Stands in a record for the release: there is none, so that nothing is marked, and no supervisor is ended."""

PIECE_BYTES = 256 * 1024


class SetUp(Change):
    def __init__(self, target: Target, emit: Emit) -> None:
        record = SwitchRecord(Journal(target.releases.journal_path), SET_UP, None)
        record.was_good = record.was_running = True
        super().__init__(target.releases, target.supervisor, record, emit)

    def run(self, request: SetUpRequest, source: BinaryIO, agent: dict[str, int]) -> list[str]:
        """Returns what is different now; raises after having rolled everything back."""
        self.record.pending_before = self._handlers.read()
        self.record.begin(request.owner, request.run, agent)
        return self._or_give_up(lambda: self._change(request, source))

    def recheck(self) -> dict[str, Any]:
        """What runs does not depend on it."""
        return {"apps": []}

    def _change(self, request: SetUpRequest, source: BinaryIO) -> list[str]:
        specs, handlers = request.resources, request.handlers
        wanted = [spec for spec in specs if make(spec).difference() is not None]
        texts = [text for spec in wanted if (text := make(spec).change())]
        received = self._receive(wanted, request.sizes, source)
        rest = [spec for spec in specs if spec["kind"] not in STAYS]
        try:
            for spec in wanted:
                if spec["kind"] in STAYS:
                    with self._unpacked(spec, request.sizes) as whole:
                        self._install([whole], handlers, received.__getitem__)
        finally:
            self.releases.archives.keep_only(())
        late = self._verify(rest, received)
        for spec in rest:
            if spec["kind"] == "command":
                self._run_handlers(handlers)  # it may ask a server that has to read its file first
            if spec in late:
                make(spec, received.__getitem__).verify()
            self._install([spec], handlers, received.__getitem__)
        self._run_handlers(handlers)
        check_units(rest)
        self._apply(make(placed_file(self.releases, rest)))
        self.record.journal.note("switched")
        return texts

    def _verify(self, specs: list[Spec], contents: Mapping[str, bytes]) -> list[Spec]:
        """Before the first file changes; what the packages bring is there already.

        Returns those that name a file which is still to be made, such as a certificate: they are verified when it is there.
        """
        coming = [path for spec in specs if (path := _makes(spec)) and not os.path.exists(path)]
        late = []
        for spec in specs:
            resource = make(spec, contents.__getitem__)
            if resource.difference() is None:
                continue
            if any(path.encode() in contents.get(spec.get("sha256", ""), b"") for path in coming):
                late.append(spec)
            else:
                resource.verify()
        return late

    def _receive(self, wanted: list[Spec], sizes: Mapping[str, int], source: BinaryIO) -> dict[str, bytes]:
        """The contents of files; builds of Node.js go to the disk, a cut one is completed."""
        archives = self.releases.archives
        builds = {spec["sha256"] for spec in wanted if spec["kind"] == "node"}
        archives.keep_only(builds)
        files = dict.fromkeys(spec["sha256"] for spec in wanted if "sha256" in spec and spec["sha256"] not in builds)
        missing = [sha256 for sha256 in builds if not archives.has(sha256)]
        check_room(self.releases.deploy_to, sum(sizes[sha256] for sha256 in missing))
        offsets = {sha256: archives.bytes_here(sha256) for sha256 in missing}
        self._emit({"event": "need", "parts": [*files, *missing], "offsets": offsets})
        received: dict[str, bytes] = {}
        fault: Optional[Exception] = None
        for sha256 in (*files, *missing):
            reader = PartReader(source, sizes[sha256] - offsets.get(sha256, 0))
            try:
                if fault is None and sha256 in files:
                    received[sha256] = _read(reader, sha256)
                elif fault is None:
                    archives.receive(sha256, iter(partial(reader.read, PIECE_BYTES), b""))
            except (PercoreError, OSError) as error:
                fault = error
            reader.drain()  # also after a failure: the next message begins where the parts end
        if fault is not None:
            raise fault
        return received

    @contextlib.contextmanager
    def _unpacked(self, spec: Spec, sizes: Mapping[str, int]) -> Iterator[Spec]:
        """A build of Node.js with the directory it was unpacked to; any other spec as it is."""
        if spec["kind"] != "node":
            yield spec
            return
        place, sha256 = f"{spec['path']}/.unpacking", spec["sha256"]
        try:
            with self.releases.archives.open(sha256) as archive:
                reader = PartReader(archive, sizes[sha256])
                unpack(reader, sha256, place, needed_bytes=spec["unpacked_bytes"])
            yield {**spec, "unpacked": f"{place}/package"}
        finally:
            remove_tree(place)


def unfinished_change(target: Target, emit: Emit) -> Union[Activation, SetUp, None]:
    """What an agent that is gone did here, and was never confirmed."""
    record = SwitchRecord.read(Journal(target.releases.journal_path))
    if record is None or record.release != SET_UP:
        return Activation.resume(target.releases, target.supervisor, emit)
    found = SetUp(target, emit)
    found.record = record
    return found


def _makes(spec: Spec) -> str:
    """The path of the file that is there afterwards."""
    return str(spec["path"] if spec["kind"] == "file" else spec.get("creates", ""))


def _read(reader: PartReader, sha256: str) -> bytes:
    content = reader.read(reader.left)
    reader.check(sha256)
    return content
