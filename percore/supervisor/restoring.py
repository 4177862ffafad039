"""What a supervisor leaves to the next one, and how that one takes it up: the state on disk, the sockets in the store."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, NamedTuple

from percore.supervisor import snapshot
from percore.supervisor.app import App
from percore.supervisor.config import AppConfig, resolve_instances
from percore.supervisor.cores import usable_cores
from percore.supervisor.process import Process, adopt
from percore.supervisor.slot import Slot
from percore.supervisor.sockets import Address, Listener
from percore.supervisor.survivors import kill_strays
from percore.supervisor.worker import Runtime, Worker

Shelves = dict[str, list[int]]


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
            }
            for app in apps
        ],
    }


def _record_of_slot(slot: Slot) -> dict[str, Any]:
    others = [other.to_snapshot() for other in (slot.incoming, slot.outgoing) if other and other.process]
    return {"id": slot.id, "wanted": slot.wanted, "worker": slot.worker.to_snapshot(), "others": others}


def shelves_of(apps: Iterable[App]) -> Shelves:
    """What the store holds: by app and address its listening sockets, by token a worker's channel."""
    shelves: Shelves = {}
    for app in apps:
        for address, listener in app.listeners.items():
            shelves[json.dumps([app.name, *address])] = [sock.fileno() for sock in listener.sockets]
        for worker in app.workers:
            # Node's end of a channel whose other end closes makes the next process.send() throw.
            if worker.process and worker.process.channel:
                shelves[json.dumps([worker.token])] = [worker.process.channel.fileno()]
    return shelves


class Recovered(NamedTuple):
    """What was found in the store, opened again."""

    listeners: Mapping[str, Mapping[Address, Listener]]  # by app
    channels: Mapping[str, socket.socket]  # by token


def open_shelves(shelves: Mapping[str, Sequence[int]], *, steered: bool) -> Recovered:
    listeners: dict[str, dict[Address, Listener]] = {}
    channels: dict[str, socket.socket] = {}
    for name, descriptors in shelves.items():
        owner, *fields = json.loads(name)
        if not fields:
            channels[owner] = socket.socket(fileno=descriptors[0])
            continue
        address = Address(*fields)
        opened = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        listeners.setdefault(owner, {})[address] = Listener.recovered(address, opened, steered=steered)
    return Recovered(listeners, channels)


class Restorer:
    """Adopts what still runs, and starts what should run."""

    def __init__(self, runtime: Runtime, apps: dict[str, App], take_id: Callable[[], int],
                 log: Callable[[str], None]) -> None:  # fmt: skip
        """`apps` is filled."""
        self._runtime = runtime
        self._apps = apps
        self._take_id = take_id
        self._log = log
        self._where = runtime.site.home.state

    def restore(self, saved: Mapping[str, Any], shelves: Mapping[str, Sequence[int]]) -> None:
        """`saved` is the state file, `shelves` what was in the store."""
        is_same_boot = saved.get("boot") == snapshot.boot_id()
        recovered = open_shelves(shelves, steered=self._runtime.can_steer)
        adopted: set[str] = set()
        for record in saved["apps"]:
            adopted.update(self._restore_app(record, recovered, is_same_boot=is_same_boot))
        kill_strays(self._runtime.site.home.path, adopted)
        for record in saved["apps"]:
            self._start_what_is_down(record)

    def _restore_app(self, record: Mapping[str, Any], recovered: Recovered, *, is_same_boot: bool) -> list[str]:
        """Returns the tokens of the adopted workers."""
        config = AppConfig.from_record(record["config"], where=self._where)
        count = len(record["slots"])
        if not is_same_boot and not (isinstance(config.instances, int) and config.instances > 0):
            count = resolve_instances(config.instances, usable_cores())
        app = App(self._runtime, config, record["base_env"], self._take_id)
        app.wanted = record["wanted"]
        self._apps[config.name] = app
        app.set_slots(count)
        listeners = recovered.listeners.get(config.name, {})
        adopted = []
        for slot, place in zip(app.slots, record["slots"]):
            slot.wanted = place["wanted"]
            if is_same_boot and place["worker"] and self._adopt(slot, place["worker"], listeners, recovered.channels):
                adopted.append(slot.worker.token)
        # Not before it is known which of a slot's sockets has a worker: a connection steered elsewhere would wait for ever.
        app.listeners.update(listeners)
        app.set_slots(count)
        return adopted

    def _adopt(self, slot: Slot, saved: Mapping[str, Any], listeners: Mapping[Address, Listener],
               channels: Mapping[str, socket.socket]) -> bool:  # fmt: skip
        config = AppConfig.from_record(saved["config"], where=self._where)
        if any(Address(*fields) not in listeners for fields in saved["addresses"]):
            self._log(
                f"{config.name} {slot.number}: its sockets were lost with the last supervisor, so it starts again"
            )
            return False
        process = adopt(saved["pid"], saved["start_time"], channel=channels.get(saved["token"]))
        if process is None:
            return False
        slot.adopt(process, config, saved)
        if not process.is_child:
            worker = slot.worker
            self._runtime.loop.watch(process.pidfd, lambda: self._adopted_ended(worker, process))
        self._log(f"{config.name} {slot.number}: adopted (pid {process.pid})")
        return True

    def _adopted_ended(self, worker: Worker, process: Process) -> None:
        self._runtime.loop.unwatch(process.pidfd)
        if worker.process is process:
            process.kill_group()
            worker.ended(None)

    def _start_what_is_down(self, record: Mapping[str, Any]) -> None:
        app = self._apps[record["config"]["name"]]
        for number, slot in enumerate(app.slots):
            is_known = number < len(record["slots"])
            if (record["slots"][number]["wanted"] if is_known else app.wanted) and not slot.worker.process:
                slot.start()
