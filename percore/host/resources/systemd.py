"""Units of systemd, and the files that it reads."""

from __future__ import annotations

import subprocess
from typing import Optional

from percore.errors import RolloutError
from percore.host.messages import Spec
from percore.host.resources.command import run, succeeds
from percore.host.resources.files import Absent, File
from percore.host.resources.resource import Resource


def is_active(unit: str) -> bool:
    return succeeds(["systemctl", "is-active", "--quiet", unit])


def journal_of(unit: str) -> str:
    """Its last words, for an error."""
    argv = ["journalctl", "-u", unit, "-n", "20", "--no-pager", "-o", "cat"]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()


class SystemdReload(Resource):
    """Only in an undo list: systemd reads its files again."""

    def difference(self) -> Optional[str]:
        return "reload systemd"

    def apply(self) -> None:
        run(["systemctl", "daemon-reload"])


class UnitFile(File):
    """A file that systemd reads: it is told of every change."""

    def former(self) -> list[Spec]:
        return [*super().former(), {"kind": "systemd-reload"}]

    def apply(self) -> None:
        super().apply()
        SystemdReload({}, self.contents).apply()


class AbsentUnitFile(Absent):
    """A file that systemd read: it is told that it is gone."""

    def former(self) -> list[Spec]:
        return [*super().former(), {"kind": "systemd-reload"}]

    def apply(self) -> None:
        super().apply()
        SystemdReload({}, self.contents).apply()


class Unit(Resource):
    """`name` of a systemd unit with `active` and `enabled`, each true, false, or left out (then not touched)."""

    def is_active(self) -> bool:
        return is_active(self.spec["name"])

    def is_enabled(self) -> bool:
        return succeeds(["systemctl", "is-enabled", "--quiet", self.spec["name"]])

    def difference(self) -> Optional[str]:
        parts = []
        active, enabled = self.spec.get("active"), self.spec.get("enabled")
        if active is not None and active != self.is_active():
            parts.append("start" if active else "stop")
        if enabled is not None and enabled != self.is_enabled():
            parts.append("enable" if enabled else "disable")
        return f"{' and '.join(parts)} {self.spec['name']}" if parts else None

    def deviation(self) -> Optional[str]:
        """How it is, where that is not as it should be."""
        parts = []
        active, enabled = self.spec.get("active"), self.spec.get("enabled")
        if active is not None and active != self.is_active():
            parts.append("does not run" if active else "runs")
        if enabled is not None and enabled != self.is_enabled():
            parts.append("does not start at boot" if enabled else "starts at boot")
        return f"{self.spec['name']} {' and '.join(parts)}" if parts else None

    def former(self) -> list[Spec]:
        spec = dict(self.spec)
        if "active" in spec:
            spec["active"] = self.is_active()
        if "enabled" in spec:
            spec["enabled"] = self.is_enabled()
        return [spec]

    def apply(self) -> None:
        name = self.spec["name"]
        if self.spec.get("active") is False and self.is_active():
            run(["systemctl", "stop", name])
        enabled = self.spec.get("enabled")
        if enabled is not None and enabled != self.is_enabled():
            run(["systemctl", "enable" if enabled else "disable", "--quiet", name])
        if self.spec.get("active") is True and not self.is_active():
            self._start(name)

    def _start(self, name: str) -> None:
        try:
            run(["systemctl", "start", name])
        except RolloutError as error:
            raise RolloutError(error.what, detail=journal_of(name)) from None
