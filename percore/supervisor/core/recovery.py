"""How a supervisor goes on where an earlier one ended: it adopts the workers and sockets, and starts what should run."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from percore.common.cpus import usable_cores
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Loop
from percore.supervisor.base.states import State, WorkerRole
from percore.supervisor.config.app import resolve_instances
from percore.supervisor.core.app import App
from percore.supervisor.core.apps import Apps
from percore.supervisor.core.lifecycle import PendingStarts
from percore.supervisor.core.slot import Slot
from percore.supervisor.core.worker.history import ends_for_good
from percore.supervisor.core.worker.worker import Worker
from percore.supervisor.process.process import Process, adopt
from percore.supervisor.state.recovered import Recovered, belongs_to, is_of_this_boot, open_entries
from percore.supervisor.state.rescue import rescue_channel
from percore.supervisor.state.saved import Saved, SavedApp, SavedEnd, SavedWorker

_UNSEEN_END = "ended while no supervisor ran"


def restore(apps: Apps, pending: PendingStarts, saved: Saved, entries: Mapping[str, Sequence[int]]) -> None:
    """Adopts what still runs, and starts what should run; an app waits in `pending` for those it depends on.

    `saved` is the state file, `entries` what was in the store.
    """
    apps.release, apps.unknown = saved.release, saved.unknown
    is_same_boot = is_of_this_boot(saved)
    owners = {app.config.name for app in saved.apps}, {worker.token for worker in saved.workers}
    ours = {name: numbers for name, numbers in entries.items() if belongs_to(name, *owners)}
    recovered = open_entries(ours, mode=apps.runtime.sharing.mode)
    adopted: list[str] = []
    for app in saved.apps:
        adopted += _restore_app(apps, app, recovered, is_same_boot=is_same_boot)
    apps.aside.take(saved.aside)
    apps.aside.find(adopted, apps, {name: entries[name] for name in entries.keys() - ours.keys()})
    _go_on(apps, pending)


def add(apps: Apps, saved: SavedApp) -> App:
    """An app that is not known, as it was wanted; nothing is started."""
    apps.aside.make_way(saved.config.name)
    _restore_app(apps, saved, Recovered({}, {}), is_same_boot=False)
    return apps[saved.config.name]


def _go_on(apps: Apps, pending: PendingStarts) -> None:
    """What depends on others waits for them."""
    held = {}
    for app in apps.values():
        held[app.name] = [slot for slot in app.slots if app.config.depends_on and slot.is_only_wanted]
        for slot in (*app.slots, *app.leaving):
            if slot not in held[app.name]:
                slot.go_on()
    for name, slots in held.items():
        if slots:
            pending.start(apps[name], slots)


def _restore_app(apps: Apps, saved: SavedApp, recovered: Recovered, *, is_same_boot: bool) -> list[str]:
    """Returns the tokens of the adopted workers."""
    config = saved.config
    app = App(apps.runtime, config, saved.base_env, apps)
    app.wanted, app.unknown = saved.wanted, saved.unknown
    apps[config.name] = app
    apps.runtime.counts.restore(app.name, saved.counts)
    app.set_slots(len(saved.slots), [place.id for place in saved.slots])
    app.leaving = [app.make_slot(place.number, place.id) for place in saved.leaving]
    # Not before it is known which of a slot's sockets has a worker: a connection steered elsewhere would wait for ever.
    app.listeners.update(recovered.listeners_of(saved, app.runtime.sharing.mode, is_same_boot=is_same_boot))
    adopted: list[str] = []
    for slot, place in zip((*app.slots, *app.leaving), saved.places):
        # A run of a job that ended with the machine is over.
        is_over = not is_same_boot and (config.is_job or config.waits_for_its_time)
        slot.wanted, slot.unknown = place.wanted and not is_over, place.unknown
        workers = place.workers if is_same_boot else ()
        adopted += [worker.token for worker in workers if _adopt(app, slot, worker, recovered.channels)]
        if is_same_boot and place.end:
            slot.adopt_end(place.end)
    if not is_same_boot and not (isinstance(config.instances, int) and config.instances > 0):
        # The machine may have another number of cores than before.
        app.set_slots(resolve_instances(config.instances, usable_cores()))
        for slot in app.slots[len(saved.slots) :]:
            slot.wanted = app.wanted and not config.waits_for_its_time
    app.set_slots(len(app.slots))
    return adopted


def _adopt(app: App, slot: Slot, saved: SavedWorker, channels: Mapping[str, socket.socket]) -> bool:
    if any(address not in app.listeners for address in saved.addresses):
        log(f"{app.name} {slot.number}: its sockets were lost with the last supervisor, so it starts again")
        return False
    channel = channels.get(saved.token) or rescue_channel(saved.pid, saved.start_time)
    process = adopt(saved.pid, saved.start_time, channel=channel)
    if process is None:
        if saved.role is WorkerRole.CURRENT and ends_for_good(saved.config, None):
            end = SavedEnd(State.EXITED, 0, _UNSEEN_END, "", saved.restarts, saved.started_time)
            slot.adopt_end(end)
            log(f"{app.name} {slot.number}: {_UNSEEN_END}; it is not to be run again")
        return False
    worker = slot.adopt(process, saved)
    if not process.is_child:
        _watch_end(app.runtime.loop, worker, process)
    log(f"{app.name} {slot.number}: adopted (pid {process.pid})")
    return True


def _watch_end(loop: Loop, worker: Worker, process: Process) -> None:
    """It is no child of ours, so no SIGCHLD tells when it ends."""

    def has_ended() -> None:
        loop.unwatch(process.pidfd)
        if worker.child.process is process:
            worker.child.main_process_died()
            worker.child.has_ended(None)

    loop.watch(process.pidfd, has_ended)
