"""What a supervisor leaves to the next one, and how that one takes it up: the state on disk, the sockets in the store."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence

from percore.common.cpus import usable_cores
from percore.common.typing import Any, Callable, NamedTuple
from percore.supervisor.config.address import Address
from percore.supervisor.config.app import resolve_instances
from percore.supervisor.core.app import App
from percore.supervisor.core.backoff import ends_for_good
from percore.supervisor.core.set_aside import SetAside, Shelves
from percore.supervisor.core.slot import Slot
from percore.supervisor.core.worker import Runtime, Worker
from percore.supervisor.core.worker_record import record_of_end, record_of_process
from percore.supervisor.process.process import Process, adopt, has_token
from percore.supervisor.sockets.bind_rights import rights_of
from percore.supervisor.sockets.listener import Listener
from percore.supervisor.sockets.sharing import Mode
from percore.supervisor.state import state_file
from percore.supervisor.state.fd_store import StoreEntry, name_of, open_sockets, read_entry
from percore.supervisor.state.rescue import is_channel, is_listener_of, rescue_channel, rescue_listening
from percore.supervisor.state.saved import Saved, SavedApp, SavedEnd, SavedWorker
from percore.supervisor.states import Role, State

_UNSEEN_END = "ended while no supervisor ran"


def record_of(apps: Iterable[App], release: str) -> dict[str, Any]:
    """What the state file says."""
    return {
        "release": release,
        "apps": [
            {
                **app.unknown,
                "config": app.config.to_record(),
                "base_env": app.base_env,
                "wanted": app.wanted,
                "slots": [_record_of_slot(slot) for slot in app.slots],
                "leaving": [_record_of_slot(slot) for slot in app.leaving if not slot.is_down],
            }
            for app in apps
        ],
    }


def wish_of(apps: Iterable[App], release: str) -> dict[str, Any]:
    """What should run, without what runs: it can be taken up at any time."""
    content = record_of(apps, release)
    for app in content["apps"]:
        app["slots"] = [{**slot, "workers": [], "end": None} for slot in app["slots"]]
        app["leaving"] = []
    return content


def _record_of_slot(slot: Slot) -> dict[str, Any]:
    workers = [record_of_process(worker) for worker in slot.workers if worker.child.process]
    record = {**slot.unknown, "number": slot.number, "id": slot.id, "wanted": slot.wanted, "workers": workers}
    end = record_of_end(slot.worker)
    return {**record, "end": end} if end else record


def _lives_on(saved: Saved) -> bool:
    """In a container a unit with ProtectKernelTunables sees another boot id than one without; a living worker knows better."""
    return any(has_token(worker.pid, worker.token) for worker in saved.workers)


def shelves_of(apps: Iterable[App]) -> Shelves:
    """What the store holds: by app and address its listening sockets, by token a worker's channel."""
    shelves: Shelves = {}
    for app in apps:
        for address, listener in app.listeners.items():
            name = name_of(StoreEntry(app.name, address, tuple(listener.order)))
            shelves[name] = [sock.fileno() for sock in listener.sockets]
        for worker in app.workers:
            # Node's end of a channel whose other end closes makes the next process.send() throw.
            process = worker.child.process
            if process and process.channel:
                shelves[name_of(StoreEntry(worker.child.token))] = [process.channel.fileno()]
    return shelves


class Recovered(NamedTuple):
    """What was found in the store, opened again."""

    listeners: Mapping[str, Mapping[Address, Listener]]  # by app
    channels: Mapping[str, socket.socket]  # by token


def open_shelves(shelves: Mapping[str, Sequence[int]], *, mode: Mode, log: Callable[[str], None]) -> Recovered:
    """What is not what its name says is closed, with a line in the log."""
    listeners: dict[str, dict[Address, Listener]] = {}
    channels: dict[str, socket.socket] = {}
    for name, descriptors in shelves.items():
        opened = open_sockets(descriptors)
        try:
            _open_shelf(name, opened, listeners, channels, mode)
        except ValueError as error:
            log(f"{name} in the store of sockets makes no sense and is passed over: {error}")
            for sock in opened:
                sock.close()
    return Recovered(listeners, channels)


def _open_shelf(name: str, opened: Sequence[socket.socket], listeners: dict[str, dict[Address, Listener]],
                channels: dict[str, socket.socket], mode: Mode) -> None:  # fmt: skip
    """Raises ValueError."""
    entry = read_entry(name)
    if entry.address is None:
        if len(opened) != 1 or not is_channel(opened[0]):
            raise ValueError("it is not the channel of a worker")
        channels[entry.owner] = opened[0]
        return
    if not opened or not all(is_listener_of(entry.address, sock) for sock in opened):
        raise ValueError("its sockets are not bound there")
    if mode is Mode.STEERED and entry.address.can_steer and len(entry.order) != len(opened):
        raise ValueError("it holds another number of sockets than it says")
    listeners.setdefault(entry.owner, {})[entry.address] = Listener.recovered(entry.address, opened, entry.order, mode)


class Restorer:
    """Adopts what still runs, and starts what should run."""

    def __init__(self, runtime: Runtime, apps: dict[str, App], take_ids: Callable[[int], list[int]],
                 start: Callable[[App, Sequence[Slot]], None], aside: SetAside, log: Callable[[str], None]) -> None:  # fmt: skip
        """`apps` is filled; `start` is called with what should run and does not."""
        self._runtime = runtime
        self._apps = apps
        self._take_ids = take_ids
        self._start = start
        self._aside = aside
        self._log = log

    def restore(self, saved: Saved, shelves: Mapping[str, Sequence[int]]) -> None:
        """`saved` is the state file, `shelves` what was in the store."""
        is_same_boot = state_file.is_this_boot(saved.boot, saved.init) or _lives_on(saved)
        owners = {app.config.name for app in saved.apps}, {worker.token for worker in saved.workers}
        ours = {name: numbers for name, numbers in shelves.items() if _is_of(name, *owners)}
        recovered = open_shelves(ours, mode=self._runtime.sharing.mode, log=self._log)
        adopted: list[str] = []
        for wish in saved.apps:
            adopted += self._restore_app(wish, recovered, is_same_boot=is_same_boot)
        self._aside.take(saved.aside)
        self._aside.find(adopted, self._apps, {name: shelves[name] for name in shelves.keys() - ours.keys()})
        held = {}
        for app in self._apps.values():
            # What depends on others waits for them.
            held[app.name] = [slot for slot in app.slots if app.config.depends_on and slot.is_only_wanted]
            for slot in (*app.slots, *app.leaving):
                if slot not in held[app.name]:
                    slot.go_on()
        for name, slots in held.items():
            if slots:
                self._start(self._apps[name], slots)

    def _restore_app(self, saved: SavedApp, recovered: Recovered, *, is_same_boot: bool) -> list[str]:
        """Returns the tokens of the adopted workers."""
        config = saved.config
        app = App(self._runtime, config, saved.base_env, self._take_saved_ids(place.id for place in saved.slots))
        app.wanted, app.unknown = saved.wanted, saved.unknown
        self._apps[config.name] = app
        app.set_slots(len(saved.slots))
        app.leaving = [app.make_slot(place.number, place.id) for place in saved.leaving]
        listeners = dict(recovered.listeners.get(config.name, {}))
        if is_same_boot:
            listeners.update(self._rescue(saved, listeners))
        for address, listener in listeners.items():
            if address.family == socket.AF_UNIX:
                listener.rights = rights_of(address, config, saved.base_env)
        # Not before it is known which of a slot's sockets has a worker: a connection steered elsewhere would wait for ever.
        app.listeners.update(listeners)
        adopted: list[str] = []
        for slot, place in zip((*app.slots, *app.leaving), saved.places):
            slot.wanted, slot.unknown = place.wanted, place.unknown
            workers = place.workers if is_same_boot else ()
            adopted += [worker.token for worker in workers if self._adopt(app, slot, worker, recovered.channels)]
            if is_same_boot and place.end:
                slot.adopt_end(place.end)
        if not is_same_boot and not (isinstance(config.instances, int) and config.instances > 0):
            # The machine may have another number of cores than before.
            app.set_slots(resolve_instances(config.instances, usable_cores()))
            for slot in app.slots[len(saved.slots) :]:
                slot.wanted = app.wanted
        app.set_slots(len(app.slots))
        return adopted

    def _rescue(self, saved: SavedApp, known: Mapping[Address, Listener]) -> dict[Address, Listener]:
        """Listeners that the store did not keep, put together again from what living workers hold."""
        mode = self._runtime.sharing.mode
        holders: dict[Address, list[tuple[int, int, int]]] = {}
        for place in saved.places:
            for worker in place.workers:
                index = Listener.index_of(mode, place.number, worker.generation)
                for address in worker.addresses:
                    holders.setdefault(address, []).append((worker.pid, worker.start_time, index))
        rescued: dict[Address, Listener] = {}
        for address, workers in holders.items():
            if address not in known and (found := rescue_listening(address, workers)):
                with contextlib.suppress(OSError):
                    rescued[address] = Listener.rescued(address, found, len(saved.slots), mode)
        return rescued

    def _take_saved_ids(self, saved: Iterable[int]) -> Callable[[int], list[int]]:
        """The ids that people know, as far as nobody else has them."""
        ids = iter(saved)

        def take(count: int) -> list[int]:
            taken = {slot.id for app in self._apps.values() for slot in app.slots}
            found: list[int] = []
            while len(found) < count and (number := next(ids, None)) is not None:
                if number not in taken and number not in found:
                    found.append(number)
            missing = count - len(found)
            return [*found, *[id for id in self._take_ids(count) if id not in found][:missing]]

        return take

    def _adopt(self, app: App, slot: Slot, saved: SavedWorker, channels: Mapping[str, socket.socket]) -> bool:
        if any(address not in app.listeners for address in saved.addresses):
            self._log(f"{app.name} {slot.number}: its sockets were lost with the last supervisor, so it starts again")
            return False
        channel = channels.get(saved.token) or rescue_channel(saved.pid, saved.start_time)
        process = adopt(saved.pid, saved.start_time, channel=channel)
        if process is None:
            if saved.role is Role.CURRENT and ends_for_good(saved.config, None):
                end = SavedEnd(State.EXITED, 0, _UNSEEN_END, "", saved.restarts, saved.started_time)
                slot.adopt_end(end)
                self._log(f"{app.name} {slot.number}: {_UNSEEN_END}; it is not to be run again")
            return False
        worker = slot.adopt(process, saved)
        if not process.is_child:
            self._runtime.loop.watch(process.pidfd, lambda: self._adopted_ended(worker, process))
        self._log(f"{app.name} {slot.number}: adopted (pid {process.pid})")
        return True

    def _adopted_ended(self, worker: Worker, process: Process) -> None:
        self._runtime.loop.unwatch(process.pidfd)
        if worker.child.process is process:
            worker.child.main_process_died()
            worker.child.has_ended(None)

    def add(self, saved: SavedApp) -> App:
        """An app that is not known, with its wishes; nothing is started."""
        self._aside.make_way(saved.config.name)
        self._restore_app(saved, Recovered({}, {}), is_same_boot=False)
        return self._apps[saved.config.name]


def _is_of(name: str, apps: Collection[str], tokens: Collection[str]) -> bool:
    """Whether what has this name in the store belongs to one of these apps or workers."""
    try:
        entry = read_entry(name)
    except ValueError:
        return True  # it belongs to nobody; when it is opened, that is said
    return entry.owner in (apps if entry.address else tokens)
