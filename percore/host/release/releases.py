"""Releases of one app on one host: stage, switch `current` in one step, mark good or bad, prune.

Layout below `deploy_to`: `releases/<id>/` (the built tree, plus `.percore.json` for the supervisor and `.percore/` with
what activation puts elsewhere on the host), `shared/`, `current` (a relative link), `releases.json` (the marks),
`artifacts/` (what was sent last, packed), `history.jsonl`, `owed.json` (restarts still to be done), `.pending` (the journal of an
unconfirmed switch), `.lock`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import time
from collections.abc import Mapping
from typing import Any, BinaryIO, Optional

from percore.common.names import is_release_id, require_release_id
from percore.errors import PreflightError, RolloutError, UsageError
from percore.host.facts import free_bytes
from percore.host.files import replace_link, write_file
from percore.host.paths import remove_tree
from percore.host.release.artifacts import Archives
from percore.host.release.history import History

GOOD = "good"
BAD = "bad"
STAGED = "staged"
SPARE_BYTES = 64 * 1024 * 1024
"""Left free on the disk after staging, for logs and for everybody else."""


class PartReader:
    """Reads exactly `size` bytes of a stream and hashes them on the way."""

    def __init__(self, source: BinaryIO, size: int) -> None:
        self.source = source
        self.left = size
        self.digest = hashlib.sha256()

    def read(self, wanted: int = -1) -> bytes:
        if wanted < 0 or wanted > self.left:
            wanted = self.left
        piece = self.source.read(wanted) if wanted else b""
        if len(piece) < wanted:
            raise RolloutError("the connection ended in the middle of a file")
        self.left -= len(piece)
        self.digest.update(piece)
        return piece

    def drain(self) -> None:
        while self.left:
            self.read(min(self.left, 1 << 20))

    def check(self, sha256: str) -> None:
        self.drain()
        if self.digest.hexdigest() != sha256:
            raise RolloutError("what arrived is not what was sent: the checksum differs", next="deploy again")


class Releases:
    def __init__(self, deploy_to: str) -> None:
        self.deploy_to = deploy_to
        self.folder = os.path.join(deploy_to, "releases")
        self.link = os.path.join(deploy_to, "current")
        self.archives = Archives(os.path.join(deploy_to, "artifacts"))
        self.marks_path = os.path.join(deploy_to, "releases.json")
        self.journal_path = os.path.join(deploy_to, ".pending")
        self.owed_path = os.path.join(deploy_to, "owed.json")
        self.lock_path = os.path.join(deploy_to, ".lock")
        self.history = History(os.path.join(deploy_to, "history.jsonl"))

    def path(self, release: str) -> str:
        """UsageError for what is no release's id: it would lead elsewhere."""
        return os.path.join(self.folder, require_release_id(release))

    def names(self) -> list[str]:
        """The releases that lie here, also those that are not whole; what is called otherwise is none of ours."""
        return sorted(filter(is_release_id, os.listdir(self.folder))) if os.path.isdir(self.folder) else []

    def record_path(self, release: str) -> str:
        """What the supervisor is given for this release."""
        return os.path.join(self.path(release), ".percore.json")

    def plan_path(self, release: str, *, amended: bool = False) -> str:
        """What activation does around the apps; what an unconfirmed change of it would make of it lies beside."""
        name = "activation.next.json" if amended else "activation.json"
        return os.path.join(self.path(release), ".percore", name)

    def keep_amendment(self, release: str) -> None:
        """What was tried is what the release has from now on; it is none that a deploy made, and has no fingerprint."""
        os.rename(self.plan_path(release, amended=True), self.plan_path(release))
        self.mark(release, GOOD, fingerprint="")

    def drop_amendment(self, release: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.plan_path(release, amended=True))

    def exists(self, release: str) -> bool:
        return is_release_id(release) and os.path.isfile(self.record_path(release))

    def current(self) -> Optional[str]:
        """The id that `current` points to; None before the first release or when its directory is gone."""
        try:
            release = os.path.basename(os.readlink(self.link))
        except OSError:
            return None
        return release if self.exists(release) else None

    def switch(self, release: Optional[str]) -> None:
        if release is None:
            if os.path.islink(self.link):
                os.unlink(self.link)
            return
        replace_link(self.link, os.path.join("releases", require_release_id(release)))

    def marks(self) -> dict[str, dict[str, Any]]:
        """By id: `mark`, `at`, `deployed_at` (seconds since the epoch), `fingerprint` of what the host should be, `artifact`."""
        try:
            with open(self.marks_path, encoding="utf-8") as source:
                marks = json.load(source)
        except FileNotFoundError:
            return {}
        except ValueError:
            raise UsageError(
                "is not valid JSON", where=self.marks_path, next="remove the file and deploy again"
            ) from None
        return {
            release: note
            for release, note in marks.items()
            if self.exists(release) or (is_release_id(release) and note.get("mark") == BAD)
        }

    def mark(self, release: str, mark: str, *, deployed: bool = False, **note: Any) -> None:
        """`deployed`: from now on it counts as the newest, whatever the clock of this host says, which may be set back."""
        marks = self.marks()
        require_release_id(release)
        if deployed:
            newest = max((_deployed_at(known) for known in marks.values()), default=0.0)
            note["deployed_at"] = max(time.time(), newest + 0.001)
        marks[release] = {**marks.get(release, {}), **note, "mark": mark, "at": time.time()}
        write_file(self.marks_path, json.dumps(marks, indent=1, sort_keys=True).encode())

    def previous_good(self) -> str:
        """The good release that was deployed last before the current one.

        A rollback is no deploy: rolling back twice goes back two releases, and a release that was deployed again counts
        from then.
        """
        earlier = self._good_before(self.current(), self.marks())
        if not earlier:
            raise UsageError("there is no earlier good release to go back to", next="deploy a good one")
        return earlier[-1]

    def _good_before(self, current: Optional[str], marks: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """The oldest first."""

        def age(release: str) -> tuple[float, str]:
            return (_deployed_at(marks.get(release, {})), release)

        return sorted(
            (
                release
                for release, note in marks.items()
                if note.get("mark") == GOOD
                and self.exists(release)
                and release != current
                and (current is None or age(release) < age(current))
            ),
            key=age,
        )

    def find(self, release: str) -> str:
        """`release` when it is here, also by an unambiguous beginning or its hash part."""
        known = [name for name in self.names() if self.exists(name)]
        matches = [
            name for name in known if name == release or name.startswith(release) or name.endswith("-" + release)
        ]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise UsageError(f"'{release}' could be {' or '.join(matches)}", next="give the whole id")
        raise UsageError(
            f"release '{release}' is not here", next=f"choose one of {', '.join(known) or 'none: deploy first'}"
        )

    def prune(self, keep: int) -> list[str]:
        """Remove all but the newest `keep` good releases; the current one and the one before always stay."""
        marks = self.marks()
        current = self.current()
        good = self._good_before(None, marks)
        stay = {*good[-max(1, keep) :], *self._good_before(current, marks)[-1:], current}
        gone = []
        for name in self.names():
            if name not in stay:
                remove_tree(self.path(name))
                gone.append(name)
        if gone:
            left = {name: note for name, note in marks.items() if name not in gone}
            write_file(self.marks_path, json.dumps(left, indent=1, sort_keys=True).encode())
        return gone

    def staging_path(self, release: str) -> str:
        return os.path.join(self.folder, f".staging-{require_release_id(release)}")

    def stage(self, release: str, sha256: str, *, unpacked_bytes: int) -> None:
        """Unpack the archive into the hidden `staging_path`; `publish` gives it its name.

        An archive that turns out damaged is thrown away, so that it is sent again.
        """
        check_room(self.folder, unpacked_bytes)
        with self.archives.open(sha256) as archive:
            reader = PartReader(archive, self.archives.bytes_here(sha256))
            try:
                unpack(reader, sha256, self.staging_path(release), needed_bytes=unpacked_bytes)
            except RolloutError:
                self.archives.remove(sha256)
                raise

    def publish(self, staging: str, release: str) -> None:
        """A release with this id appears at once and whole, or not at all."""
        path = self.path(release)
        remove_tree(path)
        os.rename(staging, path)

    def remove(self, release: str) -> None:
        for path in (self.staging_path(release), self.path(release)):
            remove_tree(path)

    def clean(self) -> None:
        """Remove what an interrupted staging left."""
        if os.path.isdir(self.folder):
            for name in os.listdir(self.folder):
                if name.startswith(".staging-"):
                    remove_tree(os.path.join(self.folder, name))


def _deployed_at(note: Mapping[str, Any]) -> float:
    return float(note.get("deployed_at", note.get("at", 0.0)))


def check_room(path: str, needed_bytes: int) -> None:
    free = free_bytes(path)
    if free < needed_bytes + SPARE_BYTES:
        raise PreflightError(
            f"not enough disk space below {path}: {_mb(needed_bytes)} needed, {_mb(SPARE_BYTES)} to spare, {_mb(free)} free",
            next="make room there, or lower keep_releases, then deploy again",
        )


def unpack(archive: PartReader, sha256: str, folder: str, *, needed_bytes: int) -> None:
    """Unpack a checked .tar.gz into a new `folder`; on any failure nothing of it stays."""
    import tarfile  # most runs unpack nothing

    from percore.host.release.unpack import Refused, extract

    remove_tree(folder)
    os.makedirs(folder)
    try:
        extract(archive, folder, announced_bytes=needed_bytes)  # type: ignore[arg-type]
        archive.check(sha256)
    except Refused as error:
        remove_tree(folder)
        raise RolloutError(
            f"the archive is refused: {error}",
            next="leave that out of the app's directory (artifact_exclude), then deploy again",
        ) from None
    except (OSError, tarfile.TarError) as error:
        remove_tree(folder)
        place = os.path.dirname(folder)
        reason = error.strerror if isinstance(error, OSError) else error
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (PreflightError if full else RolloutError)(
            f"could not unpack below {place}: {reason}; {_mb(needed_bytes)} needed, {_mb(free_bytes(place))} free; "
            "what was unpacked is removed again",
            next="make room there, then deploy again",
        ) from None
    except BaseException:
        remove_tree(folder)
        raise


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
