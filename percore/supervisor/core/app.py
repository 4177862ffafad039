"""One app: its slots, and the sockets they share. The jobs that change them are in `lifecycle` and `replace`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from percore.common.typing import Any
from percore.supervisor.config.address import Address
from percore.supervisor.config.app import AppConfig, Place
from percore.supervisor.core.addresses import AppAddresses
from percore.supervisor.core.routing import Router
from percore.supervisor.core.slot import Slot
from percore.supervisor.core.worker.worker import Runtime, Worker, is_finished
from percore.supervisor.sockets.listener import Listener


class App:
    def __init__(
        self, runtime: Runtime, config: AppConfig, base_env: Mapping[str, str], apps: Mapping[str, App]
    ) -> None:
        """`base_env` is what the worker's environment begins with; `apps` are all, among which ids are unique."""
        self.runtime = runtime
        self.config = config
        self.base_env = dict(base_env)
        self.slots: list[Slot] = []
        self.leaving: list[Slot] = []  # scaled away, and not down yet
        self.router = Router(config.name, runtime, self)
        self.wanted = False
        self.is_retired = False  # a job that runs to its end, and is forgotten then
        self.reload_failure = ""  # of the last reload
        self.unknown: Mapping[str, Any] = {}  # what another version wrote of it
        self.addresses = AppAddresses(self)
        self._apps = apps

    @property
    def name(self) -> str:
        return self.config.name

    def set_env(self, base_env: Mapping[str, str]) -> dict[str, str]:
        """What the next workers' environments begin with, in every slot; returns what it was."""
        former = dict(self.base_env)
        self.base_env.clear()
        self.base_env.update(base_env)
        return former

    @property
    def workers(self) -> Iterator[Worker]:
        return (worker for slot in self.slots for worker in slot.workers)

    @property
    def living(self) -> Iterator[Worker]:
        """Every worker that has a process, also those of slots that were given up."""
        return (worker for slot in (*self.slots, *self.leaving) for worker in slot.workers if worker.child.process)

    @property
    def is_up(self) -> bool:
        """True when others can count on it: all its workers are ready, or have done their work."""
        workers = [slot.worker for slot in self.slots if slot.wanted]
        return bool(workers) and all(worker.is_ready or is_finished(worker) for worker in workers)

    def runs_like(self, config: AppConfig) -> bool:
        """No worker would have to be replaced for `config`. After a reload that was cut off they are not all alike."""
        if self.config.is_job:
            return self.config.runs_like(config)  # what runs goes on as it is
        return all(known.runs_like(config) for known in (self.config, *(slot.worker.config for slot in self.slots)))

    def settle(self, config: AppConfig) -> None:
        """Adopts the config of workers that need no replacement for it."""
        self.config = config
        for worker in self.workers:
            worker.config = worker.config.settled_like(config)

    # -- slots -------------------------------------------------------------------------------------------------------

    def set_slots(self, count: int, ids: Sequence[int] = ()) -> list[Slot]:
        """Adds what is missing, or removes the highest; returns the slots that are to be stopped.

        `ids` are those to prefer for new slots.
        """
        surplus = self.slots[count:]
        del self.slots[count:]
        for id in free_ids(self._apps.values(), max(0, count - len(self.slots)), ids):
            self.slots.append(self.make_slot(len(self.slots), id))
        self.router.grow(len(self.slots))
        self.steer()
        return surplus

    def make_slot(self, number: int, id: int) -> Slot:
        return Slot(self.runtime, self.config, Place(number, id, self.base_env), self.listeners)

    # -- what the router asks and is told -----------------------------------------------------------------------------

    def steer(self) -> None:
        """To be called when a worker changed."""
        self.router.steer([slot.route() for slot in self.slots], [slot.route() for slot in self.leaving])

    def note_queue(self, slot: int, length: int, now: float) -> None:
        self.slots[slot].worker.liveness.note_queue(length, now)

    def note_stranded(self, slot: int) -> None:
        self.slots[slot].note_stranded()

    # -- sockets -----------------------------------------------------------------------------------------------------

    @property
    def listeners(self) -> dict[Address, Listener]:
        return self.router.listeners


def free_ids(apps: Iterable[App], count: int, preferred: Sequence[int] = ()) -> list[int]:
    """Of the preferred ids those that no slot has, then the lowest."""
    taken = {slot.id for app in apps for slot in app.slots}
    candidates = dict.fromkeys((*preferred, *range(len(taken) + len(preferred) + count)))
    return [id for id in candidates if id not in taken][:count]
