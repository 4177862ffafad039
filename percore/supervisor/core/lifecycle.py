"""Jobs that start, stop and scale the workers of one app.

A job is a generator. It takes one step, then yields until something in the supervisor changed; `jobs` drives it. So it reads
as the story it is, and the loop never waits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from percore.common.typing import Optional
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Job
from percore.supervisor.base.states import State
from percore.supervisor.core.app import App
from percore.supervisor.core.slot import Slot
from percore.supervisor.core.worker.worker import Worker, WorkerFailed
from percore.supervisor.process.process import DONE

_ENDED = (State.BACKOFF, State.FATAL, State.STOPPED, State.STOPPING)


def start(app: App, slots: Optional[Iterable[Slot]] = None, *, until_stable: bool = True) -> Job:
    """Starts the slots (default: all) and waits until each worker is ready; raises WorkerFailed on the first that is not.

    With `until_stable`, a worker whose readiness proves little must also live for `min_uptime`, and may not end with success.
    """
    chosen = list(slots) if slots is not None else app.slots
    app.wanted = True
    app.is_retired = False
    if app.config.is_job:
        return  # its time starts it
    for slot in chosen:
        if slot.is_down:
            slot.replace_config(app.config)  # a job that was cancelled may have left it another one
    yield from bring_up(chosen, until_stable=until_stable)


def wait_until_stable(app: App) -> Job:
    """Waits as `start` does with `until_stable`; raises WorkerFailed for a worker that ended earlier."""
    for worker in (slot.worker for slot in (app.slots if not app.config.is_job else ())):
        if worker.history.failures.unstable:
            raise WorkerFailed(worker)
        if worker.child.process or not worker.history.was_stable:  # what lived long enough may have ended since
            yield from _wait_for(worker, until_stable=True)


def wait_while_starting(app: App) -> Job:
    """A supervisor that has just come starts what it had; raises WorkerFailed on the first that is not ready."""
    for worker in (slot.worker for slot in app.slots):
        if worker.state is State.STARTING:
            yield from _wait_for(worker, until_stable=False)


def bring_up(slots: Collection[Slot], *, until_stable: bool) -> Job:
    for slot in slots:
        slot.start()
    for slot in slots:
        yield from _wait_for(slot.worker, until_stable=until_stable)


def _wait_for(worker: Worker, *, until_stable: bool) -> Job:
    ends = worker.history.restarts
    has_proof = not until_stable or worker.config.shares_port or worker.config.wait_ready
    while not (worker.is_ready and (has_proof or worker.is_stable)):
        has_ended = worker.history.restarts > ends or worker.state in _ENDED
        if has_ended or worker.history.is_overdue:
            if not until_stable and worker.history.last_end.startswith(DONE):
                return  # PM2's users start programs that do their work and end
            raise WorkerFailed(worker)
        if worker.state is State.EXITED:
            if worker.history.has_failed(worker.config):
                raise WorkerFailed(worker)
            return
        yield


def stop(app: App, slots: Optional[Iterable[Slot]] = None) -> Job:
    """All of it (default), also what is about to leave, or these slots."""
    chosen = list(slots) if slots is not None else [*app.slots, *app.leaving]
    if slots is None:
        app.wanted = False
    for slot in chosen:
        slot.stop()
    while not all(slot.is_down for slot in chosen):
        yield


def halt(slots: Collection[Slot]) -> Job:
    """Their workers end; the slots stay wanted."""
    for slot in slots:
        slot.halt()
    while not all(slot.is_down for slot in slots):
        yield


def note_blocked(app: App, reason: str) -> None:
    """Why it was not started, as shown in its status."""
    for slot in app.slots:
        if slot.is_down:
            slot.worker.failure = reason


def close_gap(app: App) -> None:
    """A job that was cancelled between stop and start leaves slots that are wanted and down."""
    for slot in app.slots:
        if slot.wanted and slot.worker.state is State.STOPPED and not slot.outgoing:
            slot.replace_config(app.config)
            slot.start()


def scale(app: App, count: int) -> Job:
    """More slots start; fewer means the highest numbers are steered away from, drained and stopped."""
    before = len(app.slots)
    surplus = app.set_slots(count)
    app.leaving = [*(slot for slot in app.leaving if not slot.is_down), *surplus]
    for slot in surplus:
        slot.leave()
    app.steer()  # those that leave are reached alone, as long as they are there
    if count > before and app.wanted:
        yield from start(app, app.slots[before:])
    while not all(slot.is_down for slot in surplus):
        yield
    app.leaving = [slot for slot in app.leaving if not slot.is_down]
    if not app.leaving:
        app.router.shrink(len(app.slots))


class PendingStarts:
    """Apps that start as soon as those they depend on are up: after a boot, when no command waits for them."""

    def __init__(self, apps: Mapping[str, App]) -> None:
        self._apps = apps
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
        """Called when something changed. A slot that an operator stops or starts meanwhile is pending no more."""
        for name in list(self._slots):
            app = self._apps.get(name)
            slots = [slot for slot in self._slots[name] if slot.wanted and slot.is_down] if app else []
            missing = self._missing(app) if app else ""
            if not slots or not missing:
                del self._slots[name]
                for slot in slots:
                    slot.start()
            elif app and slots[0].worker.failure != (reason := f"it waits for '{missing}', which it depends on"):
                note_blocked(app, reason)
                log(f"{name}: {reason}")

    def _missing(self, app: App) -> str:
        needs = (name for name in app.config.depends_on if name not in self._apps or not self._apps[name].is_up)
        return next(needs, "")
