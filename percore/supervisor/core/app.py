"""One app: its slots, the sockets they share, and the jobs that change them.

A job is a generator. It does one step, then yields until something in the supervisor changed; the manager drives it. So a
job reads as the story it is, and the loop never waits.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping

from percore.common.typing import Any, Callable, Optional
from percore.errors import PartialError, PercoreError
from percore.supervisor.config.address import Address, AddressInUse
from percore.supervisor.config.app import AppConfig, Place
from percore.supervisor.core.routing import Router
from percore.supervisor.core.slot import Slot
from percore.supervisor.core.worker import Runtime, Worker, WorkerFailed
from percore.supervisor.loop import Job
from percore.supervisor.rlimits import share_of_descriptors
from percore.supervisor.sockets.bind_rights import needs_rights, rights_of
from percore.supervisor.sockets.listener import Listener
from percore.supervisor.sockets.rate_limit import Allowance
from percore.supervisor.states import State

MOST_ADDRESSES = 64  # that the workers of one app may share
_NEW_ADDRESSES_PER_SECOND = 4  # each costs the loop some milliseconds


class App:
    def __init__(
        self, runtime: Runtime, config: AppConfig, base_env: Mapping[str, str], take_ids: Callable[[int], list[int]]
    ) -> None:
        """`base_env` is what the worker's environment begins with; `take_ids` gives so many free PM2 ids."""
        self.runtime = runtime
        self.config = config
        self.base_env = dict(base_env)
        self.slots: list[Slot] = []
        self.leaving: list[Slot] = []  # scaled away, and not down yet
        self.router = Router(config.name, runtime, self)
        self.wanted = False
        self.reload_failure = ""  # of the last reload
        self.unknown: Mapping[str, Any] = {}  # what another version wrote of it
        self.new_addresses = Allowance(MOST_ADDRESSES, _NEW_ADDRESSES_PER_SECOND)
        self._take_ids = take_ids

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

    # -- sockets -----------------------------------------------------------------------------------------------------

    @property
    def listeners(self) -> dict[Address, Listener]:
        return self.router.listeners

    def listener(self, address: Address, worker: Worker) -> Listener:
        """The shared sockets of `address`, opened when the first worker asks. Raises PercoreError or OSError."""
        rights = rights_of(address, worker.config, worker.place.base_env)
        known = self.listeners.get(address)
        if known is None:
            self._make_room(address)
            self._refuse_too_many()
            opened = self.router.open(address, len(self.slots), rights)
            self.steer()
            return opened
        if rights.actor and not known.rights.actor and needs_rights(address):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # it was opened for another wish
        return known

    def _refuse_too_many(self) -> None:
        most = max(1, min(MOST_ADDRESSES, share_of_descriptors(4) // (2 * len(self.slots) or 1)))
        if len(self.listeners) >= most:
            raise PercoreError(
                f"'{self.name}' listens on {most} addresses, which is the most for an app of {len(self.slots)} workers",
                next="close what is no longer used, or set share_port: false",
            )

    def _make_room(self, address: Address) -> None:
        """What the last release listened on, or the file declared, gives way to another host on the same port."""
        for other in [other for other in self.listeners if other.overlaps(address)]:
            if any(other in worker.sockets.addresses for worker in self.living):
                raise AddressInUse(
                    f"{address} overlaps with {other}, where the workers in service listen",
                    next=f"percore stop {self.name}, then start it anew",
                )
            self.router.drop(other)

    def steer(self) -> None:
        """To be called when a worker changed."""
        self.router.steer([slot.route() for slot in self.slots], [slot.route() for slot in self.leaving])

    def note_queue(self, slot: int, length: int, now: float) -> None:
        self.slots[slot].worker.liveness.note_queue(length, now)

    def note_stranded(self, slot: int) -> None:
        self.slots[slot].note_stranded()

    def close(self) -> None:
        self.router.close()

    # -- slots -------------------------------------------------------------------------------------------------------

    def set_slots(self, count: int) -> list[Slot]:
        """Adds what is missing, or takes the highest away; returns the slots that are to be stopped."""
        surplus = self.slots[count:]
        del self.slots[count:]
        for id in self._take_ids(max(0, count - len(self.slots))):
            self.slots.append(self.make_slot(len(self.slots), id))
        self.router.grow(len(self.slots))
        self.steer()
        return surplus

    def make_slot(self, number: int, id: int) -> Slot:
        return Slot(self.runtime, self.config, Place(number, id, self.base_env), self.listeners)

    def close_gap(self) -> None:
        """A job that was cancelled between stop and start leaves slots that are wanted and down."""
        for slot in self.slots:
            if slot.wanted and slot.worker.state is State.STOPPED and not slot.outgoing:
                slot.replace_config(self.config)
                slot.start()

    def runs_like(self, config: AppConfig) -> bool:
        """No worker would have to be replaced for `config`. After a reload that was cut off they are not all alike."""
        return all(known.runs_like(config) for known in (self.config, *(slot.worker.config for slot in self.slots)))

    # -- jobs --------------------------------------------------------------------------------------------------------

    def start(self, slots: Optional[Iterable[Slot]] = None, *, soak: bool = True) -> Job:
        """Starts the slots (default: all) and waits until each worker is ready; raises WorkerFailed on the first that is not.

        With `soak`, what has no better proof of life must still be there after `min_uptime`.
        """
        chosen = list(slots) if slots is not None else self.slots
        self.wanted = True
        for slot in chosen:
            if slot.is_down:
                slot.replace_config(self.config)  # a job that was cancelled may have left it another one
        yield from self._bring_up(chosen, soak=soak)

    def soak(self) -> Job:
        """Waits until every worker has lived as long as `start` asks for with `soak`; WorkerFailed for one that ended before."""
        for worker in (slot.worker for slot in self.slots):
            if worker.history.failures.unstable:
                raise WorkerFailed(worker)
            if worker.child.process or not worker.history.was_stable:  # what lived long enough may have ended since
                yield from self._until_ready(worker, soak=True)

    def _bring_up(self, slots: Iterable[Slot], *, soak: bool) -> Job:
        for slot in slots:
            slot.start()
        for slot in slots:
            yield from self._until_ready(slot.worker, soak=soak)

    def _bring_down(self, slots: Iterable[Slot]) -> Job:
        """For a moment: they are still wanted."""
        for slot in slots:
            slot.halt()
        while not all(slot.is_down for slot in slots):
            yield

    def _until_ready(self, worker: Worker, *, soak: bool) -> Job:
        ends = worker.history.restarts
        has_proof = not soak or worker.config.shares_port or worker.config.wait_ready
        while not (worker.is_ready and (has_proof or worker.is_stable)):
            if worker.history.restarts > ends or worker.state in (
                State.BACKOFF,
                State.FATAL,
                State.STOPPED,
                State.STOPPING,
            ):
                raise WorkerFailed(worker)
            if worker.state is State.EXITED:
                if worker.history.has_failed(worker.config):
                    raise WorkerFailed(worker)
                return
            yield

    def stop(self, slots: Optional[Iterable[Slot]] = None) -> Job:
        chosen = list(slots) if slots is not None else self.slots
        if slots is None:
            self.wanted = False
        for slot in chosen:
            slot.stop()
        while not all(slot.is_down for slot in chosen):
            yield

    def halt(self) -> Job:
        """All its workers end; what is wished for stays."""
        slots = [*self.slots, *self.leaving]
        for slot in slots:
            slot.halt()
        while not all(slot.is_down for slot in slots):
            yield

    def restart(self, config: AppConfig, slots: Optional[Iterable[Slot]] = None, *, soak: bool = True) -> Job:
        """Stops, then starts again with `config`; `soak` as in `start`. Workers with ports of their own: one after the other."""
        chosen = list(slots) if slots is not None else self.slots
        if self.config.port_per_worker and config.port_per_worker and len(chosen) > 1:
            for slot in list(chosen):
                yield from self.restart(config, [slot], soak=soak)
            self.config = config if len(chosen) == len(self.slots) else self.config
            return
        yield from self._bring_down(chosen)
        for slot in chosen:
            slot.replace_config(config)
        if len(chosen) == len(self.slots):
            self.config = config
        self.wanted = True
        yield from self._bring_up(chosen, soak=soak)

    def renew(self, slots: Optional[Iterable[Slot]] = None, *, soak: bool = True) -> Job:
        """New workers: without a lost request where the port is shared; a restart for the rest, of which two must never run."""
        if self.config.shares_port:
            yield from self.reload(self.config, slots)
        else:
            yield from self.restart(self.config, slots, soak=soak)

    @property
    def is_up(self) -> bool:
        """True when others can count on it: all its workers are ready, or have done their work."""
        workers = [slot.worker for slot in self.slots if slot.wanted]
        return bool(workers) and all(
            worker.is_ready or (worker.state is State.EXITED and not worker.history.has_failed(worker.config))
            for worker in workers
        )

    def note_blocked(self, reason: str) -> None:
        """Why it was not started, for those who look at it."""
        for slot in self.slots:
            if slot.is_down:
                slot.worker.failure = reason

    def settle(self, config: AppConfig) -> None:
        """Takes over the config of workers that need no replacement for it."""
        self.config = config
        for worker in self.workers:
            worker.config = worker.config.settled_like(config)

    def reload(self, config: AppConfig, slots: Optional[Iterable[Slot]] = None) -> Job:
        """Slot by slot: the new worker is ready before the old one drains and stops. No request is lost.

        The first failure ends it: the slots already moved go back to the former config, and WorkerFailed tells why;
        PartialError when they could not go back.
        """
        chosen = list(slots) if slots is not None else self.slots
        former = self.config
        moved: list[Slot] = []
        try:
            for slot in chosen:
                yield from self._move(slot, config, soak=not moved)
                moved.append(slot)
        except PercoreError as cause:
            self.reload_failure = str(cause)
            try:
                for slot in moved if config != former else ():
                    yield from self._move(slot, former, soak=False)
            except PercoreError as worse:
                raise not_taken_back(cause, [str(worse)]) from cause
            yield from self._until_drained(chosen)
            raise
        self.config = config
        self.reload_failure = ""
        yield from self._until_drained(chosen)

    def _move(self, slot: Slot, config: AppConfig, *, soak: bool) -> Job:
        if not slot.wanted or not slot.worker.is_ready:
            # There is nothing to keep alive: the slot simply starts with the new config.
            yield from self._bring_down([slot])
            slot.replace_config(config)
            yield from self._bring_up([slot], soak=True)
            return
        yield from self._until_drained([slot])
        incoming = slot.begin_reload(config)
        try:
            # The first new worker must also live for min_uptime: a release that dies right after it was ready stops here.
            while incoming.state is State.STARTING or (soak and incoming.is_ready and not incoming.is_stable):
                yield
            if not incoming.is_ready:
                raise WorkerFailed(incoming)
        except BaseException:
            slot.abandon()
            raise
        slot.promote()
        self.steer()

    def _until_drained(self, slots: Iterable[Slot]) -> Job:
        while any(slot.outgoing for slot in slots):
            yield

    def scale(self, count: int) -> Job:
        """More slots start; fewer means the highest numbers are steered away from, drained and stopped."""
        before = len(self.slots)
        surplus = self.set_slots(count)
        self.leaving = [*(slot for slot in self.leaving if not slot.is_down), *surplus]
        for slot in surplus:
            slot.leave()
        if count > before and self.wanted:
            yield from self.start(self.slots[before:])
        while not all(slot.is_down for slot in surplus):
            yield
        self.leaving = [slot for slot in self.leaving if not slot.is_down]
        if not self.leaving:
            self.router.shrink(len(self.slots))


def settled(app: App, config: AppConfig) -> Job:
    """`App.settle` as a job."""
    app.settle(config)
    yield from ()


def not_taken_back(cause: PercoreError, problems: Iterable[str]) -> PartialError:
    """What failed first, and why the way back failed as well."""
    error = PartialError(f"{cause}; going back failed: {'; '.join(problems)}", detail=cause.detail)
    error.app = cause.app
    return error
