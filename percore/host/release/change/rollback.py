"""Rolling a switch back exactly: the notes of what was here before are replayed backwards."""

from __future__ import annotations

import contextlib

from percore.errors import PartialError, PercoreError, describe_os_error
from percore.host.messages import Spec
from percore.host.release.change.handlers import HANDOVER, PendingHandlers, describe, run_handler
from percore.host.release.change.record import SwitchRecord
from percore.host.release.releases import Releases
from percore.host.resources.registry import make
from percore.host.supervisor.supervisor import Emit, Supervisor


class Rollback:
    """Brings back the release, the files and the units of before a switch."""

    def __init__(self, releases: Releases, supervisor: Supervisor, record: SwitchRecord, emit: Emit) -> None:
        self._releases = releases
        self._supervisor = supervisor
        self._record = record
        self._emit = emit
        self._handlers = PendingHandlers(releases.pending_handlers_path)

    def run(self, mark: str) -> None:
        """The release is marked with `mark`. Raises PartialError for what did not come back; everything else did."""
        record = self._record
        record.journal.give_room()
        with contextlib.suppress(OSError):  # on the fullest disk there is still a way back
            record.journal.note("undoing")
        again = [handler for handler in record.handled if self._is_needed_again(handler)]
        faults = []
        for step in (
            self._undo_after_apps,
            self._undo_apps,
            self._undo_before_apps,
            lambda: self._run_again(again),
            lambda: self._releases.switch(record.former),
            lambda: self._mark(mark),
        ):
            try:
                step()
            except PercoreError as error:
                faults.append(str(error))
            except OSError as error:
                faults.append(describe_os_error(error))
        record.journal.end()
        if faults:
            raise PartialError(
                f"could not roll back everything: {'; '.join(faults)}", next="look at the host, then deploy again"
            )

    def _undo_after_apps(self) -> None:
        self._replay(self._record.boundary)

    def _undo_apps(self) -> None:
        record = self._record
        if not record.apps_switched:
            if record.former is None and not record.was_running:
                self._end_supervisor()
            return
        if record.former is not None:
            self._supervisor.apply(self._releases.record_path(record.former), record.former, self._emit)
        else:
            self._supervisor.delete(self._releases.record_path(record.release))
            self._end_supervisor()
        record.apps_switched = False

    def _end_supervisor(self) -> None:
        # Under systemd the unit's own entry ends the daemon; a daemon of an ordinary user is ended here.
        if not self._record.was_running and self._supervisor.user is None:
            self._supervisor.kill()

    def _undo_before_apps(self) -> None:
        self._replay(0)
        if self._record.former is not None:
            is_handed_over = any(handler["kind"] == HANDOVER for handler in self._record.handled)
            self._supervisor.replace(self._emit, always=is_handed_over)

    def _replay(self, first: int) -> None:
        restore = self._record.restore
        while len(restore) > first:
            resource = make(restore[-1])
            if resource.difference() is not None:
                resource.apply()
            restore.pop()

    def _run_again(self, again: list[Spec]) -> None:
        """What a handler started may have read what was rolled back: it starts again. Other notified handlers are dropped."""
        self._handlers.replace(self._record.pending_before)
        for handler in again:
            self._handlers.add(handler, "the release was rolled back")
        for handler in again:
            self._emit({"event": "progress", "text": f"{describe(handler)} again"})
            run_handler(handler)
            self._handlers.remove(handler["name"])

    def _is_needed_again(self, handler: Spec) -> bool:
        if handler["kind"] in ("run", HANDOVER):
            return handler["kind"] == "run" and self._record.former is not None
        restore = self._record.restore
        ends = {spec["name"] for spec in restore if spec["kind"] == "unit" and spec.get("active") is False}
        return handler["was_active"] and handler["unit"] not in ends

    def _mark(self, mark: str) -> None:
        if self._record.amended:
            self._releases.end_amendment(self._record.release, keeps=False)
        elif not self._record.was_good:
            self._releases.marks.set(self._record.release, mark)
