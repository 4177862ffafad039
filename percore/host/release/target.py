"""The app's place on this host: its releases, its pending handlers, its supervisor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from percore.errors import PercoreError
from percore.host.messages import TargetPaths
from percore.host.paths import refuse_foreign
from percore.host.projects.owner import refuse_other_project
from percore.host.release.change.handlers import PendingHandlers
from percore.host.release.manifest import find_edits
from percore.host.release.releases import Releases
from percore.host.release.running import full_name_of, is_by_hand, is_foreign, own_part, selectors
from percore.host.supervisor.supervisor import Supervisor

MOST_EDITS = 20


class Target:
    """Made of what a message says of it."""

    def __init__(self, paths: TargetPaths) -> None:
        refuse_other_project(paths)
        self.paths = paths
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

    def has_others(self) -> bool:
        """Also those that somebody started by hand."""
        return any(is_foreign(self.releases, app) or is_by_hand(app) for app in self.whole_status()["apps"])

    def taken(self) -> dict[str, dict[str, Any]]:
        """By full name, the apps that are not this project's. An older supervisor does not say whose an app is."""
        place = f"{self.releases.deploy_to}/"
        apps = [app for app in self.whole_status()["apps"] if app.get("source") is not None]
        others = [app for app in apps if is_foreign(self.releases, app) or is_by_hand(app)]
        return {full_name_of(app): app for app in others if not f"{app['source']}/".startswith(place)}

    def selectors(self, names: Iterable[str]) -> list[str]:
        return selectors(self.releases, names, self.whole_status()["apps"])

    def jobs(self, names: Sequence[str]) -> list[Any]:
        """Of this project, by their names in its release."""
        apps = self.whole_status()["apps"]
        own = own_part(self.releases, {"apps": apps})["apps"]
        raw = [app["name"] for app in apps if not is_foreign(self.releases, app)]
        here = {known: app["name"] for known, app in zip(raw, own)}
        asked = [known for known, name in here.items() if name in names]
        found = self.supervisor.jobs([*asked, *(name for name in names if name not in here.values())])
        return [{**job, "name": here[job["name"]]} for job in found if job.get("name") in here]

    def whole_status(self) -> dict[str, Any]:
        """What the supervisor has, whoever deployed it."""
        try:
            return self.supervisor.status()
        except PercoreError as error:
            return {"release": None, "apps": [], "daemon": False, "error": error.what}
