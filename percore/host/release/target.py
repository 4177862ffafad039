"""The app's place on this host: its releases, what it owes, its supervisor. Made of a message's `target`."""

from __future__ import annotations

from typing import Any

from percore.errors import PercoreError
from percore.host.paths import refuse_foreign
from percore.host.release.handlers import Debts
from percore.host.release.releases import Releases
from percore.host.supervisor import Supervisor

CONFIRM_SECONDS = 30.0
"""So long without a word from the control side, and it is gone; a rollout says by itself how long (confirm_seconds)."""


class Target:
    """The app's place on this host, out of a message's `target`."""

    def __init__(self, message: dict[str, Any]) -> None:
        target = message["target"]
        for path in (target["deploy_to"], f"{target['deploy_to']}/releases", target["package"]):
            refuse_foreign(path)  # what lies there decides what root writes and runs
        self.releases = Releases(target["deploy_to"])
        self.confirm_seconds = float(target.get("confirm_seconds", CONFIRM_SECONDS))
        self.debts = Debts(self.releases.owed_path)
        self.supervisor = Supervisor(target["command"], target["home"], target.get("user"), target["package"])

    def status(self) -> dict[str, Any]:
        """What runs; nothing, where the supervisor's user is still to be made."""
        try:
            return self.supervisor.status()
        except PercoreError as error:
            return {"release": None, "apps": [], "daemon": False, "error": error.what}
