"""Changing a host so that it can be rolled back: every step first notes, on the disk, what brings back the present state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Callable, TypeVar

from percore.errors import PartialError, PercoreError, RolloutError, describe_os_error
from percore.host.messages import Spec
from percore.host.release.change.handlers import PendingHandlers, describe, in_order, run_handler
from percore.host.release.change.record import SwitchRecord
from percore.host.release.change.rollback import Rollback
from percore.host.release.marks import BAD
from percore.host.release.releases import Releases
from percore.host.resources.registry import make
from percore.host.resources.resource import Contents, Resource
from percore.host.resources.systemd import is_active, journal_of
from percore.host.supervisor.supervisor import Emit, Supervisor

T = TypeVar("T")


class Change:
    """What a switch of a release and the set-up of a host have in common. `record` says what was done so far."""

    def __init__(self, releases: Releases, supervisor: Supervisor, record: SwitchRecord, emit: Emit) -> None:
        self.releases = releases
        self.supervisor = supervisor
        self.record = record
        self._emit = emit
        self._handlers = PendingHandlers(releases.pending_handlers_path)

    def roll_back(self, mark: str = BAD) -> None:
        """Raises PartialError for what did not come back."""
        Rollback(self.releases, self.supervisor, self.record, self._emit).run(mark)

    def _or_give_up(self, work: Callable[[], T]) -> T:
        """Raises after having rolled everything back."""
        try:
            return work()
        except PercoreError as error:
            self._give_up(error)
            raise
        except Exception as error:
            what = describe_os_error(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            fault = RolloutError(what)
            self._give_up(fault)
            raise fault from error

    def _give_up(self, error: PercoreError) -> None:
        self._say(f"roll back: {error.what}")
        try:
            self.roll_back()
        except PartialError as partial:
            raise PartialError(f"{error.what}; {partial.what}", next=partial.next, detail=error.detail) from error

    def _install(self, specs: Iterable[Spec], handlers: Sequence[Spec], contents: Contents) -> None:
        for spec in specs:
            resource = make(spec, contents, self._say)
            difference = resource.change()
            if difference is None:
                continue
            self._say(difference)
            self._handlers.notify(spec, handlers, difference)
            self._apply(resource)
            if spec["kind"] == "unit":
                self._handlers.units_changed()

    def _apply(self, resource: Resource) -> None:
        for former in reversed(resource.former()):
            self.record.note_former(former)
        resource.apply()

    def _run_handlers(self, handlers: Sequence[Spec]) -> None:
        """Those that are pending, also from earlier runs."""
        outstanding = self._handlers.outstanding()
        for pending in in_order(self._handlers.read(), handlers):
            handler = pending["handler"]
            if handler["name"] in outstanding:
                self._say(f"{describe(handler)}, because: {pending['because']}")
                self._begin(handler)
                run_handler(handler)
            self._handlers.remove(handler["name"])

    def _begin(self, handler: Spec) -> None:
        unit = handler.get("unit")
        self.record.note_handler(handler, was_active=unit is not None and is_active(unit))

    def _say(self, text: str) -> None:
        self._emit({"event": "progress", "text": text})


def check_units(specs: Iterable[Spec]) -> None:
    """What should run still does, some time after it was started; RolloutError with a unit's last words."""
    for name in dict.fromkeys(spec["name"] for spec in specs if spec["kind"] == "unit" and spec.get("active")):
        if not is_active(name):
            raise RolloutError(f"{name} does not stay up", detail=journal_of(name))
