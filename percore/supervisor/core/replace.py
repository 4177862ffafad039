"""Jobs that give an app new workers: a restart, or a reload that loses no request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from percore.common.typing import Any, NamedTuple, Optional
from percore.errors import PartialError, PercoreError
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Job
from percore.supervisor.base.states import State
from percore.supervisor.config.app import AppConfig
from percore.supervisor.core.app import App
from percore.supervisor.core.jobs import Jobs, Outcome
from percore.supervisor.core.lifecycle import bring_up, halt, scale
from percore.supervisor.core.slot import Slot
from percore.supervisor.core.worker.figures import MEMORY, RELOAD_FAILED, RELOADED, REQUEST, STRANDED, UNHEALTHY
from percore.supervisor.core.worker.worker import Worker, WorkerFailed


def restart(app: App, config: AppConfig, slots: Optional[Iterable[Slot]] = None, *, until_stable: bool = True) -> Job:
    """Stops, then starts again with `config`; `until_stable` as in `lifecycle.start`.

    Workers with ports of their own: one after the other.
    """
    if config.is_job:
        yield from _settle_job(app, config)
        return
    chosen = list(slots) if slots is not None else app.slots
    if app.config.port_per_worker and config.port_per_worker and len(chosen) > 1:
        for slot in list(chosen):
            yield from restart(app, config, [slot], until_stable=until_stable)
        app.config = config if len(chosen) == len(app.slots) else app.config
        return
    yield from halt(chosen)
    for slot in chosen:
        slot.replace_config(config)
    if len(chosen) == len(app.slots):
        app.config = config
    app.wanted = True
    yield from bring_up(chosen, until_stable=until_stable)


def _settle_job(app: App, config: AppConfig) -> Job:
    """What runs of a job goes on as it is; the next run has the new config."""
    if not app.config.is_job:
        for slot in app.slots:
            slot.stop()
        while not all(slot.is_down for slot in app.slots):
            yield
    app.config, app.wanted, app.is_retired = config, True, False
    for slot in app.slots:
        if slot.is_down:
            slot.replace_config(config)


def replace(app: App, slots: Optional[Iterable[Slot]] = None, *, until_stable: bool = True) -> Job:
    """A reload where the port is shared; a restart for the rest, of which two must never run at once."""
    if app.config.shares_port:
        yield from reload(app, app.config, slots)
    else:
        yield from restart(app, app.config, slots, until_stable=until_stable)


def reload(app: App, config: AppConfig, slots: Optional[Iterable[Slot]] = None) -> Job:
    """Slot by slot, or `reload_workers` of them at once: the new worker is ready before the old one drains and stops. No
    request is lost.

    The first failure ends it: the slots already moved go back to the former config, and WorkerFailed tells why;
    PartialError when they could not go back.
    """
    chosen = list(slots) if slots is not None else app.slots
    former = app.config
    moved: list[Slot] = []
    try:
        for slots_at_once in _groups(chosen, config.reload_workers):
            yield from _move_all(app, slots_at_once, config, moved)
    except PercoreError as cause:
        app.reload_failure = str(cause)
        app.runtime.counts.add(app.name, RELOAD_FAILED)
        try:
            for slot in moved if config != former else ():
                yield from _move(app, slot, former, until_stable=False)
        except PercoreError as worse:
            raise not_rolled_back(cause, [str(worse)]) from cause
        yield from _until_drained(chosen)
        raise
    app.config = config
    app.reload_failure = ""
    app.runtime.counts.add(app.name, RELOADED)
    yield from _until_drained(chosen)


def _groups(slots: Sequence[Slot], size: int) -> Iterator[Sequence[Slot]]:
    """The first one by itself: it shows whether the rest should follow."""
    yield slots[:1]
    for start in range(1, len(slots), max(1, size)):
        yield slots[start : start + max(1, size)]


def _move_all(app: App, slots: Sequence[Slot], config: AppConfig, moved: list[Slot]) -> Job:
    """Those that were moved are in `moved`, also when another one fails."""
    left = [slot for slot in slots if slot.wanted and slot.worker.is_ready]
    if len(left) < 2:
        for slot in slots:
            yield from _move(app, slot, config, until_stable=not moved)
            moved.append(slot)
        return
    yield from _until_drained(left)
    for slot in left:
        slot.begin_reload(config)
    try:
        while left := [slot for slot in left if not _has_moved(app, slot, moved)]:
            yield
    except BaseException:
        for slot in left:
            if slot not in moved:
                slot.abandon()
        raise
    for slot in slots:
        if slot not in moved:
            yield from _move(app, slot, config, until_stable=False)
            moved.append(slot)


def _has_moved(app: App, slot: Slot, moved: list[Slot]) -> bool:
    incoming = slot.incoming
    if incoming and incoming.state is State.STARTING:
        return False
    if incoming is None or not incoming.is_ready:
        raise WorkerFailed(incoming or slot.worker)
    slot.promote()
    app.steer()
    moved.append(slot)
    return True


def _move(app: App, slot: Slot, config: AppConfig, *, until_stable: bool) -> Job:
    if not slot.wanted or not slot.worker.is_ready:
        # There is nothing to keep alive: the slot simply starts with the new config.
        yield from halt([slot])
        slot.replace_config(config)
        yield from bring_up([slot], until_stable=True)
        return
    yield from _until_drained([slot])
    incoming = slot.begin_reload(config)
    try:
        # The first new worker must also live for min_uptime: a release that dies right after it was ready stops here.
        while incoming.state is State.STARTING or (until_stable and incoming.is_ready and not incoming.is_stable):
            yield
        if not incoming.is_ready:
            raise WorkerFailed(incoming)
    except BaseException:
        slot.abandon()
        raise
    slot.promote()
    app.steer()


def _until_drained(slots: Iterable[Slot]) -> Job:
    while any(slot.outgoing for slot in slots):
        yield


def not_rolled_back(cause: PercoreError, problems: Iterable[str]) -> PartialError:
    """What failed first, and why the way back failed as well."""
    error = PartialError(f"{cause}; going back failed: {'; '.join(problems)}", detail=cause.detail)
    error.app = cause.app
    return error


# -- on request, where each restart counts -----------------------------------------------------------------------------


class Desired(NamedTuple):
    """What an app should be from now on."""

    config: AppConfig
    workers: int
    base_env: Mapping[str, str]


def update(app: App, wanted: Desired, how: str) -> Job:
    """As a process file says: `how` is "restart", or "start" or "reload", which lose no request where they can.

    What is to go gets no new worker: a singleton that ran twice would do so once more.
    """
    if how != "restart" and app.wanted and app.config.shares_port and wanted.config.shares_port:
        yield from reload_counted(app, app.slots[: wanted.workers], wanted.config, wanted.base_env)
    else:
        if wanted.workers < len(app.slots):
            yield from scale(app, wanted.workers)
        app.set_env(wanted.base_env)
        up = that_are_up(app.slots)
        yield from restart(app, wanted.config, until_stable=how == "reload")
        count(app, up)
    if wanted.workers != len(app.slots):
        yield from scale(app, wanted.workers)


def reload_counted(app: App, slots: Sequence[Slot], config: AppConfig, base_env: Optional[Mapping[str, str]]) -> Job:
    """A restart where no port is shared: two such workers must never run at once."""
    former = app.set_env(base_env) if base_env is not None else None
    up = that_are_up(slots)
    try:
        if app.config.shares_port and config.shares_port:
            yield from reload(app, config, slots)
        else:
            yield from restart(app, config, slots)
    except PercoreError:
        if former is not None and app.config.shares_port:
            app.set_env(former)  # the old workers stay, and so does the environment of their respawns
        raise
    count(app, up)


def that_are_up(slots: Iterable[Slot]) -> list[Slot]:
    """The start of a slot that was stopped is no restart."""
    return [slot for slot in slots if not slot.is_down]


def count(app: App, slots: Iterable[Slot], cause: str = REQUEST) -> None:
    """A restart on request is one more, as PM2 counts; so is one by time, or because files changed."""
    for slot in slots:
        slot.worker.history.restarts += 1
        app.runtime.counts.add(app.name, cause)


def with_changes(
    chosen: Iterable[tuple[App, list[Slot]]], changes: Mapping[str, Any]
) -> list[tuple[App, list[Slot], AppConfig]]:
    """Each app with its config after the changes, which concern the whole app. Raises UsageError for an unknown field."""
    if not changes:
        return [(app, slots, app.config) for app, slots in chosen]
    return [(app, app.slots, app.config.changed(changes)) for app, _ in chosen]


# -- without a request -------------------------------------------------------------------------------------------------


class Replacements:
    """Without a request: of an unhealthy worker, of one over its memory limit, for clients that wait in vain."""

    def __init__(self, apps: Mapping[str, App], jobs: Jobs) -> None:
        self._apps = apps
        self._jobs = jobs
        self._under_way: set[Slot] = set()

    def ask_over_limit(self, worker: Worker, reason: str) -> None:
        self.ask(worker, reason, MEMORY)

    def ask(self, worker: Worker, reason: str, cause: str = UNHEALTHY) -> None:
        """Nothing happens when the worker is being replaced already, or is not its slot's worker any more, or unwanted."""
        app = self._apps.get(worker.config.name)
        for slot in app.slots if app else ():
            if app and slot.worker is worker and slot.wanted and slot not in self._under_way:
                self._replace(app, slot, f"{app.name} {slot.number}: {reason}", cause)

    def is_under_way(self, worker: Worker) -> bool:
        return any(slot.worker is worker for slot in self._under_way)

    def serve_stranded(self) -> None:
        for app in self._apps.values():
            for slot in app.slots:
                if slot.stranded():
                    self.ask(slot.worker, "clients wait in the queue of a worker that is gone", STRANDED)

    def _replace(self, app: App, slot: Slot, reason: str, cause: str) -> None:
        log(reason)
        self._under_way.add(slot)
        worker = slot.worker

        def steps() -> Outcome:
            # It may have been stopped, deleted, scaled away or replaced while this waited in the queue.
            if self._apps.get(app.name) is app and slot in app.slots and slot.wanted and slot.worker is worker:
                yield from replace(app, [slot])
                count(app, [slot], cause)
            return {}

        def reply(message: Mapping[str, Any]) -> None:
            if message["event"] == "result":  # also of one that was cancelled before it began
                self._under_way.discard(slot)

        self._jobs.submit(reason, steps(), reply, apps=[app.name])
