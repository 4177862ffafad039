"""What a supervisor leaves to the next one, and how that one takes it up: the state on disk, the sockets in the store."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterable, Mapping, Sequence

from percore.errors import PercoreError
from percore.hints import Any, Callable, NamedTuple
from percore.supervisor import snapshot
from percore.supervisor.address import Address
from percore.supervisor.app import App
from percore.supervisor.config import AppConfig, resolve_instances
from percore.supervisor.cores import usable_cores
from percore.supervisor.process import Process, adopt
from percore.supervisor.rescue import rescue_channel, rescue_listening
from percore.supervisor.restarts import ends_for_good
from percore.supervisor.sharing import Mode
from percore.supervisor.slot import Slot
from percore.supervisor.sockets import Listener
from percore.supervisor.states import State
from percore.supervisor.survivors import carries, kill_strays
from percore.supervisor.worker import Role, Runtime, Worker

Shelves = dict[str, list[int]]

_UNSEEN_END = {"state": State.EXITED.value, "failure": "ended while no supervisor ran"}


def record_of(apps: Iterable[App], release: str) -> dict[str, Any]:
    """What the state file says."""
    return {
        "release": release,
        "apps": [
            {
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
    workers = [worker.to_snapshot() for worker in slot.workers if worker.process]
    record = {"number": slot.number, "id": slot.id, "wanted": slot.wanted, "workers": workers}
    end = slot.worker.end_for_good()
    return {**record, "end": end} if end else record


def check(saved: Mapping[str, Any]) -> None:
    """Raises ValueError for a state that cannot be restored."""
    try:
        names = [_check_app(record).name for record in saved["apps"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is not the state of a supervisor: {error!r}") from None
    except PercoreError as error:
        raise ValueError(str(error)) from None
    if len(names) > len(set(names)):
        raise ValueError("it names an app twice")


def _check_app(record: Mapping[str, Any]) -> AppConfig:
    _check_kinds(record, base_env=dict, wanted=bool, slots=list, leaving=list)
    for place in (*record["slots"], *record["leaving"]):
        _check_kinds(place, number=int, id=int, wanted=bool, workers=list)
        if end := place.get("end"):
            _check_kinds(end, exit_code=int, failure=str, last_end=str, restarts=int, started_time=float)
            State(end["state"])
        for saved in place["workers"]:
            _check_kinds(saved, pid=int, start_time=int, token=str, generation=int, restarts=int, started_time=float,
                         addresses=list, log_starts=list)  # fmt: skip
            for address in saved["addresses"]:
                Address(*address)
            Role(saved["role"])
            State(saved["state"])
            AppConfig.from_record(saved["config"])
    return AppConfig.from_record(record["config"])


def _check_kinds(record: Mapping[str, Any], **kinds: type) -> None:
    for name, kind in kinds.items():
        if not isinstance(record[name], kind):
            raise TypeError(f"{name} is {record[name]!r}")


def _lives_on(saved: Mapping[str, Any]) -> bool:
    """In a container a unit with ProtectKernelTunables sees another boot id than one without; a living worker knows better."""
    places = (place for record in saved["apps"] for place in (*record["slots"], *record["leaving"]))
    return any(carries(worker["pid"], worker["token"]) for place in places for worker in place["workers"])


def shelves_of(apps: Iterable[App]) -> Shelves:
    """What the store holds: by app and address its listening sockets, by token a worker's channel."""
    shelves: Shelves = {}
    for app in apps:
        for address, listener in app.listeners.items():
            shelves[json.dumps([app.name, *address, listener.order])] = [sock.fileno() for sock in listener.sockets]
        for worker in app.workers:
            # Node's end of a channel whose other end closes makes the next process.send() throw.
            if worker.process and worker.process.channel:
                shelves[json.dumps([worker.token])] = [worker.process.channel.fileno()]
    return shelves


class Recovered(NamedTuple):
    """What was found in the store, opened again."""

    listeners: Mapping[str, Mapping[Address, Listener]]  # by app
    channels: Mapping[str, socket.socket]  # by token


def open_shelves(shelves: Mapping[str, Sequence[int]], *, mode: Mode) -> Recovered:
    listeners: dict[str, dict[Address, Listener]] = {}
    channels: dict[str, socket.socket] = {}
    for name, descriptors in shelves.items():
        owner, *fields = json.loads(name)
        if not fields:
            channels[owner] = socket.socket(fileno=descriptors[0])
            continue
        *fields, order = fields
        address = Address(*fields)
        opened = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        listeners.setdefault(owner, {})[address] = Listener.recovered(address, opened, order, mode)
    return Recovered(listeners, channels)


class Restorer:
    """Adopts what still runs, and starts what should run."""

    def __init__(self, runtime: Runtime, apps: dict[str, App], take_id: Callable[[], int],
                 start: Callable[[App, Sequence[Slot]], None], log: Callable[[str], None]) -> None:  # fmt: skip
        """`apps` is filled; `start` is called with what should run and does not."""
        self._runtime = runtime
        self._apps = apps
        self._take_id = take_id
        self._start = start
        self._log = log
        self._where = runtime.site.home.state

    def restore(self, saved: Mapping[str, Any], shelves: Mapping[str, Sequence[int]]) -> None:
        """`saved` is the state file, `shelves` what was in the store."""
        is_same_boot = saved.get("boot") == snapshot.boot_id() or _lives_on(saved)
        recovered = open_shelves(shelves, mode=self._runtime.sharing.mode)
        adopted: list[str] = []
        for record in saved["apps"]:
            adopted += self._restore_app(record, recovered, is_same_boot=is_same_boot)
        kill_strays(self._runtime.site.home.path, adopted)
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

    def _restore_app(self, record: Mapping[str, Any], recovered: Recovered, *, is_same_boot: bool) -> list[str]:
        """Returns the tokens of the adopted workers."""
        config = AppConfig.from_record(record["config"], where=self._where)
        places = record["slots"]
        app = App(self._runtime, config, record["base_env"], self._take_saved_id(place["id"] for place in places))
        app.wanted = record["wanted"]
        self._apps[config.name] = app
        app.set_slots(len(places))
        app.leaving = [app.make_slot(place["number"], place["id"]) for place in record["leaving"]]
        listeners = dict(recovered.listeners.get(config.name, {}))
        if is_same_boot:
            listeners.update(self._rescue(record, listeners))
        # Not before it is known which of a slot's sockets has a worker: a connection steered elsewhere would wait for ever.
        app.listeners.update(listeners)
        adopted: list[str] = []
        for slot, place in zip((*app.slots, *app.leaving), (*places, *record["leaving"])):
            slot.wanted = place["wanted"]
            workers = place["workers"] if is_same_boot else ()
            adopted += [saved["token"] for saved in workers if self._adopt(slot, saved, recovered.channels)]
            if is_same_boot and place.get("end"):
                slot.worker.adopt_end(place["end"])
        if not is_same_boot and not (isinstance(config.instances, int) and config.instances > 0):
            # The machine may have another number of cores than before.
            app.set_slots(resolve_instances(config.instances, usable_cores()))
            for slot in app.slots[len(places) :]:
                slot.wanted = app.wanted
        app.set_slots(len(app.slots))
        return adopted

    def _rescue(self, record: Mapping[str, Any], known: Mapping[Address, Listener]) -> dict[Address, Listener]:
        """Listeners that the store did not keep, put together again from what living workers hold."""
        mode, places = self._runtime.sharing.mode, (*record["slots"], *record["leaving"])
        holders: dict[Address, list[tuple[int, int, int]]] = {}
        for place in places:
            for saved in place["workers"]:
                index = Listener.place_index(mode, place["number"], saved["generation"])
                for address in (Address(*fields) for fields in saved["addresses"]):
                    holders.setdefault(address, []).append((saved["pid"], saved["start_time"], index))
        rescued: dict[Address, Listener] = {}
        for address, workers in holders.items():
            if address not in known and (found := rescue_listening(address, workers)):
                with contextlib.suppress(OSError):
                    rescued[address] = Listener.rescued(address, found, len(record["slots"]), mode)
        return rescued

    def _take_saved_id(self, saved: Iterable[int]) -> Callable[[], int]:
        """The ids that people know, as far as nobody else has them."""
        ids = iter(saved)

        def take() -> int:
            taken = {slot.id for app in self._apps.values() for slot in app.slots}
            for number in ids:
                if number not in taken:
                    return number
            return self._take_id()

        return take

    def _adopt(self, slot: Slot, saved: Mapping[str, Any], channels: Mapping[str, socket.socket]) -> bool:
        config = AppConfig.from_record(saved["config"], where=self._where)
        listeners = self._apps[config.name].listeners
        if any(Address(*fields) not in listeners for fields in saved["addresses"]):
            self._log(
                f"{config.name} {slot.number}: its sockets were lost with the last supervisor, so it starts again"
            )
            return False
        process = adopt(
            saved["pid"], saved["start_time"], channel=channels.get(saved["token"]) or rescue_channel(saved)
        )
        if process is None:
            if saved["role"] == Role.CURRENT.value and ends_for_good(config, None):
                slot.worker.adopt_end(
                    {**_UNSEEN_END, "restarts": saved["restarts"], "started_time": saved["started_time"]}
                )
                self._log(f"{config.name} {slot.number}: {_UNSEEN_END['failure']}; it is not to be run again")
            return False
        worker = slot.adopt(process, config, saved)
        if not process.is_child:
            self._runtime.loop.watch(process.pidfd, lambda: self._adopted_ended(worker, process))
        self._log(f"{config.name} {slot.number}: adopted (pid {process.pid})")
        return True

    def _adopted_ended(self, worker: Worker, process: Process) -> None:
        self._runtime.loop.unwatch(process.pidfd)
        if worker.process is process:
            worker.main_process_died()
            worker.ended(None)

    def add(self, record: Mapping[str, Any]) -> App:
        """An app that is not known, with its wishes; nothing is started."""
        self._restore_app(record, Recovered({}, {}), is_same_boot=False)
        return self._apps[record["config"]["name"]]
