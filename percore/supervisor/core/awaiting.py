"""Apps that should run, and wait until those they depend on are up: after a boot, when nobody is there to be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from percore.common.typing import Callable
from percore.supervisor.core.app import App
from percore.supervisor.core.slot import Slot


class Awaiting:
    def __init__(self, apps: Mapping[str, App], log: Callable[[str], None]) -> None:
        self._apps = apps
        self._log = log
        self._slots: dict[str, list[Slot]] = {}  # by app

    def start(self, app: App, slots: Sequence[Slot]) -> None:
        """At once, or as soon as it can be."""
        for slot in slots:
            slot.wanted = True
        self._slots[app.name] = list(slots)
        self.follow()

    def holds(self, app: App) -> bool:
        return app.name in self._slots

    def follow(self) -> None:
        """Called when something changed. Who is stopped meanwhile waits no more; who is started by hand does not either."""
        for name in list(self._slots):
            app = self._apps.get(name)
            slots = [slot for slot in self._slots[name] if slot.wanted and slot.is_down] if app else []
            missing = self._missing(app) if app else ""
            if not slots or not missing:
                del self._slots[name]
                for slot in slots:
                    slot.start()
            elif app and slots[0].worker.failure != (reason := f"it waits for '{missing}', which it depends on"):
                app.note_blocked(reason)
                self._log(f"{name}: {reason}")

    def _missing(self, app: App) -> str:
        needs = (name for name in app.config.depends_on if name not in self._apps or not self._apps[name].is_up)
        return next(needs, "")
