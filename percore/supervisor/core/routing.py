"""Where an app's new connections go: its listeners, steered to the workers that are ready, and kept that way."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection, Iterable, Sequence

from percore.common.typing import TYPE_CHECKING, NamedTuple, Optional
from percore.errors import PercoreError
from percore.supervisor.base.logger import log
from percore.supervisor.config.address import Address
from percore.supervisor.core.worker.worker import Runtime
from percore.supervisor.sockets.balancer import Balancer
from percore.supervisor.sockets.bind_rights import Rights
from percore.supervisor.sockets.listener import Listener, SocketKey
from percore.supervisor.sockets.port_owner import find_conflict
from percore.supervisor.sockets.reuseport_bpf import ProbeSource
from percore.supervisor.sockets.sharing import Mode
from percore.supervisor.sockets.tamper_watch import TamperWatch

# While connections come, the program is attached again so often: a worker may have put its own in its place.
_REATTACH_SECONDS = 1.0


class SlotRoute(NamedTuple):
    """A slot, as connections are sent to it: its worker accepts from the sockets of `generation`."""

    slot: int
    generation: int
    is_ready: bool
    is_healthy: bool
    used: frozenset[int]  # the generations that have a worker
    addresses: frozenset[Address] = frozenset()  # that its worker listens on

    @property
    def key(self) -> SocketKey:
        return self.slot, self.generation


class SlotsAt:
    """Which slots have workers that listen on an address: the others would never accept a connection to it."""

    def __init__(self) -> None:
        self._last: dict[Address, frozenset[int]] = {}

    def note(self, address: Address, routes: Sequence[SlotRoute]) -> None:
        if there := frozenset(route.slot for route in routes if address in route.addresses):
            self._last[address] = there

    def forget(self, address: Address) -> None:
        self._last.pop(address, None)

    def keys(self, address: Address, routes: Sequence[SlotRoute], everyone: Sequence[SlotRoute]) -> list[SocketKey]:
        """Of `routes`. While none of them is there, of `everyone` where one was, and will be again."""
        if not routes:
            return []
        there = [route for route in routes if address in route.addresses]
        last = self._last.get(address, ())
        return [route.key for route in there or [route for route in everyone if route.slot in last] or routes]


if TYPE_CHECKING:
    from typing import Protocol

    from percore.supervisor.sockets.path_watch import PathWatch

    class RouterOwner(Protocol):
        """The app whose connections they are."""

        def note_queue(self, slot: int, length: int, now: float) -> None:
            """So many clients waited then for the worker of this slot."""

        def note_stranded(self, slot: int) -> None:
            """Clients wait in sockets of this slot from which its worker does not accept."""


class Router:
    def __init__(self, name: str, runtime: Runtime, owner: RouterOwner) -> None:
        self.listeners: dict[Address, Listener] = {}
        self.conflicts: dict[Address, str] = {}  # which other process gets a part of an address's connections
        self._name = name
        self._mode = runtime.sharing.mode
        self._owner = owner
        self._loop = runtime.loop
        self._path_watch: Optional[PathWatch] = None
        self._balancer = Balancer(runtime.loop, self._balance)
        self._tamper_watch = TamperWatch(runtime.loop, self._repair)
        self._routes: Sequence[SlotRoute] = ()
        self._leaving: Sequence[SlotRoute] = ()
        self._directed: dict[ProbeSource, SocketKey] = {}
        self._slots_at = SlotsAt()
        self._attached_at = 0.0

    def open(self, address: Address, slots: int, rights: Rights) -> Listener:
        """Raises AddressInUse or OSError. To be followed by `steer`."""
        opened = self.listeners[address] = Listener(address, slots, self._mode, rights)
        self._watch_paths()
        return opened

    def drop(self, address: Address) -> None:
        """No worker listens there any more, not even one that was given its socket and never used it."""
        dropped = self.listeners.pop(address)
        self._slots_at.forget(address)
        self.steer(self._routes, self._leaving)
        dropped.close(with_workers=True)

    def grow(self, slots: int) -> None:
        """To be followed by `steer`."""
        for listener in self.listeners.values():
            listener.grow(slots)
        self._watch_paths()
        self.restore_paths()  # of an earlier supervisor

    def shrink(self, slots: int) -> None:
        """The slots that were scaled away are down."""
        for listener in self.listeners.values():
            listener.shrink(slots)

    def steer(self, routes: Sequence[SlotRoute], leaving: Sequence[SlotRoute]) -> None:
        """New connections go to the ready slots; when there is none, to those that will be ready next, and wait there.

        `routes` are the app's slots; `leaving` those that were scaled away and are not down yet.
        """
        self._routes, self._leaving = routes, leaving
        if not self.listeners and not self._directed:
            return
        self._directed = {}
        for slot, generation, *_ in routes if self.listeners else ():
            self._directed[ProbeSource(slot, incoming=False)] = slot, generation
            self._directed[ProbeSource(slot, incoming=True)] = slot, 1 - generation
        for route in leaving if self.listeners else ():
            for used in route.used:  # its place may have a new worker already
                self._directed.setdefault(ProbeSource(route.slot, incoming=True), (route.slot, used))
        serving = self._serving()
        for address in self.listeners:
            self._slots_at.note(address, routes)
        for listener in self.listeners.values():
            listener.steer(self._slots_at.keys(listener.address, serving or routes, self._routes), self._directed)
        steered = [listener for listener in self.listeners.values() if listener.steered]
        self._balancer.watch(
            [
                listener.socket_for(*key).fileno()
                for listener in steered
                for key in self._slots_at.keys(listener.address, serving, self._routes)
            ]
        )
        self._watch_over(steered)

    def _watch_over(self, steered: Sequence[Listener]) -> None:
        keys = {route.key for route in self._routes}
        keys.update((route.slot, used) for route in (*self._routes, *self._leaving) for used in route.used)
        in_use = {listener.socket_for(*key).fileno() for listener in steered for key in keys}
        idle = {sock.fileno(): sock for listener in steered for sock in listener.sockets if sock.fileno() not in in_use}
        in_use.update(
            sock.fileno()
            for listener in self.listeners.values()
            if listener.mode is Mode.SINGLE and listener.address.can_steer
            for sock in listener.sockets
        )
        self._tamper_watch.watch(idle, in_use)

    def _serving(self) -> list[SlotRoute]:
        """Slots that new connections may go to: the ready ones, without the unhealthy as long as there is another."""
        ready = [route for route in self._routes if route.is_ready]
        return [route for route in ready if route.is_healthy] or ready

    def _balance(self) -> tuple[int, ...]:
        """Reads the accept queues, and steers new connections to the shortest; returns the length of each."""
        now = time.monotonic()
        ready = [route for route in self._routes if route.is_ready]
        steered = [listener for listener in self.listeners.values() if listener.steered]
        lengths = [
            {key: listener.queue_length(*key) for key in self._slots_at.keys(listener.address, ready, self._routes)}
            for listener in steered
        ]
        for slot, generation in (route.key for route in ready):
            length = sum(by_key.get((slot, generation), 0) for by_key in lengths)
            self._owner.note_queue(slot, length, now)  # which may make one unhealthy
        again = now - self._attached_at > _REATTACH_SECONDS
        serving = self._serving()
        for listener, by_key in zip(steered, lengths):
            keys = self._slots_at.keys(listener.address, serving, self._routes)
            shortest = min((by_key.get(key, 0) for key in keys), default=0)
            listener.steer([key for key in keys if by_key.get(key, 0) == shortest], self._directed, again=again)
        if again:
            self._attached_at = now
        return tuple(length for by_key in lengths for length in by_key.values())

    def _repair(self, found: Collection[int]) -> None:
        """Connections arrived at these sockets though no worker accepts there, or a worker shut the socket down."""
        log(f"{self._name}: a worker changed how the port is shared (its sockets' program, or shutdown); put right")
        for listener in self.listeners.values():
            try:
                listener.repair()
            except OSError as error:
                log(f"{self._name}: {listener.address} cannot be put right: {error.strerror}")
        self.steer(self._routes, self._leaving)
        for route in self._routes:
            if any(number in found for number in self._descriptors_of((route.slot, 1 - route.generation))):
                self._owner.note_stranded(route.slot)

    def _watch_paths(self) -> None:
        paths = [address.host for address in self.listeners if address.family == socket.AF_UNIX]
        if not paths:
            return
        try:
            if self._path_watch is None:
                from percore.supervisor.sockets.path_watch import PathWatch

                self._path_watch = PathWatch(self._loop, self)
            self._path_watch.follow(paths)
        except OSError as error:
            log(f"{self._name}: whether {paths[0]} is removed cannot be watched: {error.strerror}")

    def restore_paths(self) -> None:
        """Somebody may have removed the path of a socket."""
        for address, listener in self.listeners.items():
            try:
                listener.restore_path()
            except (PercoreError, OSError) as error:
                log(f"{self._name}: clients do not reach it at {address} any more: {error}")

    def _descriptors_of(self, key: SocketKey) -> Iterable[int]:
        return (listener.socket_for(*key).fileno() for listener in self.listeners.values() if listener.steered)

    def find_conflicts(self) -> None:
        """Finds other programs that listen on a part of an address, and says so once."""
        own = {os.fstat(sock.fileno()).st_ino for listener in self.listeners.values() for sock in listener.sockets}
        found = {address: owner for address in self.listeners if (owner := find_conflict(address, own))}
        for address, owner in found.items():
            if self.conflicts.get(address) != owner:
                log(f"{self._name}: {owner} takes connections that are meant for {address}")
        self.conflicts = found

    def close(self) -> None:
        self._balancer.close()
        self._tamper_watch.close()
        if self._path_watch:
            self._path_watch.close()
        for listener in self.listeners.values():
            listener.close()
        self.listeners.clear()
