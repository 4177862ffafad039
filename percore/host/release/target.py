"""The app's place on this host: its releases, its pending handlers, its supervisor."""

from __future__ import annotations

from typing import Any

from percore.errors import PercoreError
from percore.host.messages import TargetPaths
from percore.host.paths import refuse_foreign
from percore.host.release.change.handlers import PendingHandlers
from percore.host.release.manifest import find_edits
from percore.host.release.releases import Releases
from percore.host.release.running import is_foreign, own_part
from percore.host.supervisor.supervisor import Supervisor

MOST_EDITS = 20


class Target:
    """Made of what a message says of it."""

    def __init__(self, paths: TargetPaths) -> None:
        for path in (paths.deploy_to, f"{paths.deploy_to}/releases", paths.package):
            refuse_foreign(path)  # what lies there decides what root writes and runs
        self.releases = Releases(paths.deploy_to)
        self.confirm_seconds = paths.confirm_seconds
        self.handlers = PendingHandlers(self.releases.pending_handlers_path)
        self.supervisor = Supervisor(paths.command, paths.home, paths.user, paths.package)

    def edits(self, release: str) -> list[str]:
        """What was changed by hand in a release. What an app may write there itself is no edit."""
        runs_apart = self.supervisor.user not in (None, "root")
        return find_edits(self.releases.path(release), counts_new=runs_apart)

    def edits_of(self, fingerprint: str) -> dict[str, list[str]]:
        """A few edits of each release that a deploy could take as it is."""
        marks = self.releases.marks.read().items()
        alike = [name for name, note in marks if note.get("fingerprint") == fingerprint and self.releases.exists(name)]
        found = {name: self.edits(name) for name in alike}
        return {name: edits[:MOST_EDITS] for name, edits in found.items() if edits}

    def status(self) -> dict[str, Any]:
        """What runs of this project; nothing, where the supervisor's user is still to be made."""
        return own_part(self.releases, self.whole_status())

    def foreign_apps(self) -> list[dict[str, Any]]:
        """Those that other projects deployed to the same supervisor."""
        return [app for app in self.whole_status()["apps"] if is_foreign(self.releases, app)]

    def whole_status(self) -> dict[str, Any]:
        """What the supervisor has, whoever deployed it."""
        try:
            return self.supervisor.status()
        except PercoreError as error:
            return {"release": None, "apps": [], "daemon": False, "error": error.what}
