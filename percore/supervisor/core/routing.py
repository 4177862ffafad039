"""Where an app's new connections go: its listeners, steered to the workers that are ready, and kept that way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from percore.supervisor.config.address import Address
from percore.supervisor.core.slot import Slot
from percore.supervisor.core.worker import Runtime
from percore.supervisor.sockets import port_owner
from percore.supervisor.sockets.balancer import Feedback
from percore.supervisor.sockets.bind_rights import Rights
from percore.supervisor.sockets.listener import Listener, Place
from percore.supervisor.sockets.reuseport_bpf import Source
from percore.supervisor.sockets.sharing import Mode
from percore.supervisor.sockets.tamper_watch import Guard

# While connections come, the program is attached again so often: a worker may have put its own in its place.
_REATTACH_SECONDS = 1.0


class Traffic:
    def __init__(
        self, runtime: Runtime, name: str, slots: Sequence[Slot], leaving: Callable[[], Sequence[Slot]]
    ) -> None:
        """`slots` are the app's own list; `leaving` gives those that were scaled away and are not down yet."""
        self.listeners: dict[Address, Listener] = {}
        self.thieves: dict[Address, str] = {}  # who gets a part of an address's connections
        self._runtime = runtime
        self._name = name
        self._slots = slots
        self._leaving = leaving
        self._feedback = Feedback(runtime.loop, self._balance)
        self._guard = Guard(runtime.loop, self._put_right)
        self._directed: dict[Source, Place] = {}
        self._attached_at = 0.0

    def open(self, address: Address, rights: Rights) -> Listener:
        """Raises AddressInUse or OSError."""
        opened = Listener(address, len(self._slots), self._runtime.sharing.mode, rights)
        self.listeners[address] = opened
        self.steer()
        return opened

    def drop(self, address: Address) -> None:
        """Nobody listens there any more, not even a worker that was handed its socket and never used it."""
        dropped = self.listeners.pop(address)
        self.steer()
        dropped.close(for_everybody=True)

    def resize(self) -> None:
        """The app has another number of slots."""
        for listener in self.listeners.values():
            listener.grow(len(self._slots))
        self.steer()

    def shrink(self) -> None:
        """The slots that were scaled away are down."""
        for listener in self.listeners.values():
            listener.shrink(len(self._slots))

    def steer(self) -> None:
        """New connections go to the ready slots; when there is none, to those that will be ready next, and wait there."""
        self._directed = {}
        for slot in self._slots:
            self._directed[Source(slot.number, incoming=False)] = place_of(slot)
            self._directed[Source(slot.number, incoming=True)] = (slot.number, 1 - slot.worker.generation)
        serving = self._serving()
        places = [place_of(slot) for slot in serving or self._slots]
        for listener in self.listeners.values():
            listener.steer(places, self._directed)
        steered = [listener for listener in self.listeners.values() if listener.steered]
        self._feedback.watch(
            [listener.socket_for(*place_of(slot)).fileno() for listener in steered for slot in serving]
        )
        self._watch_over(steered)

    def _watch_over(self, steered: Sequence[Listener]) -> None:
        places = set(self._used_places())
        used = {listener.socket_for(*place).fileno() for listener in steered for place in places}
        idle = {
            sock.fileno(): sock for listener in steered for sock in listener.sockets if sock.fileno() not in used
        }  # fmt: skip
        used.update(
            sock.fileno() for listener in self.listeners.values()
            if listener.mode is Mode.SINGLE and listener.address.can_steer
            for sock in listener.sockets
        )  # fmt: skip
        self._guard.watch(idle, used)

    def _used_places(self) -> Iterator[Place]:
        for slot in self._slots:
            yield place_of(slot)
        for slot in (*self._slots, *self._leaving()):
            for worker in slot.workers:
                if worker.process or worker is slot.incoming:
                    yield slot.number, worker.generation

    def _serving(self) -> list[Slot]:
        """Slots that new connections may go to: the ready ones, without the unwell as long as there is another."""
        return [slot for slot in self._ready if not slot.worker.unwell] or self._ready

    @property
    def _ready(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.worker.is_ready]

    def _balance(self) -> tuple[int, ...]:
        """Reads the accept queues, and steers new connections to the shortest; returns the length of each."""
        now = time.monotonic()
        ready = self._ready
        steered = [listener for listener in self.listeners.values() if listener.steered]
        lengths = [{slot: listener.queue_length(*place_of(slot)) for slot in ready} for listener in steered]
        for slot in ready:
            slot.worker.liveness.note_queue(sum(by_slot[slot] for by_slot in lengths), now)
        serving = self._serving()
        again = now - self._attached_at > _REATTACH_SECONDS
        for listener, by_slot in zip(steered, lengths):
            shortest = min((by_slot[slot] for slot in serving), default=0)
            places = [place_of(slot) for slot in serving if by_slot[slot] == shortest]
            listener.steer(places, self._directed, again=again)
        if again:
            self._attached_at = now
        return tuple(length for by_slot in lengths for length in by_slot.values())

    def _put_right(self, astray: Collection[int]) -> None:
        """Connections arrived at these sockets though no worker accepts there, or a worker shut the socket down."""
        self._runtime.log(
            f"{self._name}: a worker changed how the port is shared (its sockets' program, or shutdown); put right"
        )
        for listener in self.listeners.values():
            try:
                listener.repair()
            except OSError as error:
                self._runtime.log(f"{self._name}: {listener.address} cannot be put right: {error.strerror}")
        self.steer()
        for slot in self._slots:
            place = slot.number, 1 - slot.worker.generation
            if any(
                listener.steered and listener.socket_for(*place).fileno() in astray
                for listener in self.listeners.values()
            ):
                slot.note_stranded()

    def look_for_thieves(self) -> None:
        """Finds programs that listen on a part of an address, and says so once."""
        own = {os.fstat(sock.fileno()).st_ino for listener in self.listeners.values() for sock in listener.sockets}
        found = {address: thief for address in self.listeners if (thief := port_owner.find_thief(address, own))}
        for address, thief in found.items():
            if self.thieves.get(address) != thief:
                self._runtime.log(f"{self._name}: {thief} takes connections that are meant for {address}")
        self.thieves = found

    def close(self) -> None:
        self._feedback.close()
        self._guard.close()
        for listener in self.listeners.values():
            listener.close()
        self.listeners.clear()


def place_of(slot: Slot) -> Place:
    """Which of a listener's sockets the slot's current worker accepts from."""
    return slot.number, slot.worker.generation
