"""Releases of one app on one host: stage, switch `current` in one step, mark good or bad, prune.

Layout below `deploy_to`: `releases/<id>/` (the built tree, plus `.percore.json` for the supervisor and `.percore/` with
what activation puts elsewhere on the host), `shared/`, `current` (a relative link), `releases.json` (the marks),
`artifacts/` (what was sent last, packed), `history.jsonl`, `owed.json` (pending handlers), `placement.json` (which host
runs what the fleet has once), `.pending` (the journal of an unconfirmed switch), `.lock`. The set-up of a host has the same,
without releases, and `placed.json`.
"""

from __future__ import annotations

import contextlib
import os
from typing import Optional

from percore.common.names import is_release_id, require_release_id
from percore.errors import UsageError
from percore.host.files import replace_link
from percore.host.paths import remove_tree
from percore.host.release.history import History
from percore.host.release.marks import GOOD, Marks
from percore.host.release.transfer.artifacts import Archives
from percore.host.release.transfer.staging_area import StagingArea


class Releases:
    def __init__(self, deploy_to: str) -> None:
        self.deploy_to = deploy_to
        self.directory = os.path.join(deploy_to, "releases")
        self.shared = os.path.join(deploy_to, "shared")
        self.link = os.path.join(deploy_to, "current")
        self.archives = Archives(os.path.join(deploy_to, "artifacts"))
        self.marks = Marks(os.path.join(deploy_to, "releases.json"), self.exists)
        self.staging = StagingArea(self.directory, self.archives)
        self.journal_path = os.path.join(deploy_to, ".pending")
        self.pending_handlers_path = os.path.join(deploy_to, "owed.json")
        self.placed_path = os.path.join(deploy_to, "placed.json")
        self.placement_path = os.path.join(deploy_to, "placement.json")
        self.lock_path = os.path.join(deploy_to, ".lock")
        self.history = History(os.path.join(deploy_to, "history.jsonl"))

    def path(self, release: str) -> str:
        """UsageError for what is no release's id: it would lead elsewhere."""
        return os.path.join(self.directory, require_release_id(release))

    def names(self) -> list[str]:
        """The releases that lie here, also those that are not whole; what is called otherwise is none of ours."""
        return sorted(filter(is_release_id, os.listdir(self.directory))) if os.path.isdir(self.directory) else []

    def record_path(self, release: str) -> str:
        """What the supervisor is given for this release."""
        return os.path.join(self.path(release), ".percore.json")

    def plan_path(self, release: str, *, amended: bool = False) -> str:
        """What activation does around the apps; what an unconfirmed change of it would make of it lies beside."""
        name = "activation.next.json" if amended else "activation.json"
        return os.path.join(self.path(release), ".percore", name)

    def files_path(self, release: str) -> str:
        """The directory of what its plan puts elsewhere, each file named by its SHA-256."""
        return os.path.join(self.path(release), ".percore", "files")

    def end_amendment(self, release: str, *, keeps: bool) -> None:
        """`keeps`: what was tried is the release's plan from now on; no deploy made that, so it has no fingerprint."""
        amended = self.plan_path(release, amended=True)
        if keeps:
            os.rename(amended, self.plan_path(release))
            self.marks.set(release, GOOD, fingerprint="")
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(amended)

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

    def previous_good(self) -> str:
        """The good release that was deployed last before the current one.

        A rollback is no deploy: rolling back twice goes back two releases, and a release that was deployed again counts
        from then.
        """
        earlier = self.marks.good_before(self.current())
        if not earlier:
            raise UsageError("there is no earlier good release to go back to", next="deploy a good one")
        return earlier[-1]

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
        current = self.current()
        good = self.marks.good_before(None)
        stay = {*good[-max(1, keep) :], *self.marks.good_before(current)[-1:], current}
        gone = []
        for name in self.names():
            if name not in stay:
                remove_tree(self.path(name))
                gone.append(name)
        if gone:
            self.marks.forget(gone)
        return gone

    def publish(self, staging: str, release: str) -> None:
        """A release with this id appears at once and whole, or not at all."""
        path = self.path(release)
        remove_tree(path)
        os.rename(staging, path)

    def remove(self, release: str) -> None:
        for path in (self.staging.path(release), self.path(release)):
            remove_tree(path)
