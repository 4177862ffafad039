"""Which of its app's listening sockets one worker has, who waits in them, and which of its processes drain them."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping

from percore.common.typing import TYPE_CHECKING, Optional
from percore.errors import PercoreError
from percore.supervisor.config.address import Address, everywhere, parse_address
from percore.supervisor.config.app import AppConfig, Place
from percore.supervisor.sockets.broker import Drainable
from percore.supervisor.sockets.listener import Listener
from percore.supervisor.sockets.port_owner import inodes_of

# A socket that was sent may not have arrived yet.
_IN_FLIGHT_SECONDS = 1.0
# The bind shim in a worker reads it off its listening socket: the worker drains. No socket has this value by itself, and to one
# that listens it only says how often a handshake is repeated.
_DRAINS, _USUAL = 113, 5  # TCP_SYNCNT

if TYPE_CHECKING:
    from typing import Protocol

    class SharedSockets(Protocol):
        """Opens what the workers of an app share, for one of them. Raises PercoreError or OSError."""

        def open(self, config: AppConfig, place: Place, address: Address) -> Listener: ...

        def open_on_request(self, config: AppConfig, place: Place, address: Address) -> Listener:
            """The same, for what the worker asks by itself. Raises BlockingIOError when it is to ask again later."""

        def reserve(self, config: AppConfig, place: Place, address: Address) -> Optional[socket.socket]:
            """A socket that is bound there and listens to nobody; None where the app's own socket must do.

            Raises PercoreError or OSError.
            """


class WorkerSockets:
    def __init__(self, listeners: Mapping[Address, Listener], slot: int, generation: int) -> None:
        """`listeners` are those of its app, `generation` says which sockets of its slot are the worker's."""
        self.listeners = listeners
        self.slot = slot
        self.generation = generation
        self.addresses: list[Address] = []  # that it listens on
        self.has_closed = False  # one of them, as it says
        self._taken_at: dict[Address, float] = {}  # monotonic seconds
        self.preloads: list[Drainable] = []

    def open_declared(self, shared: SharedSockets, config: AppConfig, place: Place) -> Iterator[int]:
        """Opens what the file names before the program asks; gives the sockets of `listen`, which are passed to it."""
        if config.shares_port and config.port is not None and not config.listen:
            self._open_early(shared, config, place, everywhere(config.port))
        for written in config.listen:
            address = parse_address(written)
            listener = shared.open(config, place, address)
            self.addresses.append(address)
            yield self.socket_of(listener).fileno()

    def _open_early(self, shared: SharedSockets, config: AppConfig, place: Place, address: Address) -> None:
        """Only a guess: the program may ask for another host, or another program may hold what it will not ask for."""
        if not any(address.overlaps(other) for other in self.listeners):
            with contextlib.suppress(PercoreError, OSError):
                shared.open(config, place, address)

    def take(self, address: Address) -> None:
        """The worker was just given its socket."""
        self.addresses.append(address)
        self._taken_at[address] = time.monotonic()

    def has_just_taken(self, address: Address) -> bool:
        return time.monotonic() < self._taken_at.get(address, 0.0) + _IN_FLIGHT_SECONDS

    def listens_on(self, address: Address, members: Iterable[int]) -> bool:
        """As the kernel says: one of these processes, the worker's, has its socket open."""
        listener = self.listeners.get(address)
        if address not in self.addresses or listener is None:
            return False
        if self.has_just_taken(address):
            return True
        inode = os.fstat(self.socket_of(listener).fileno()).st_ino
        try:
            return any(inode in inodes_of(pid) for pid in members)
        except OSError:
            return True  # it hides what it has open

    def forget_closed(self, members: Collection[int], overlapping: Optional[Address] = None) -> bool:
        """Forgets what the worker does not listen on any more; True where there was something.

        With `overlapping`, only that: the worker itself asks for an address, so nothing is on its way to it.
        """
        asked = [known for known in self.addresses if overlapping is None or known.overlaps(overlapping)]
        for address in asked if overlapping else ():
            self._taken_at.pop(address, None)
        closed = [address for address in asked if not self.listens_on(address, members)]
        self.addresses = [address for address in self.addresses if address not in closed]
        self.has_closed = self.has_closed and any(map(self.has_just_taken, self.addresses))
        return bool(closed)

    def socket_of(self, listener: Listener) -> socket.socket:
        return listener.socket_for(self.slot, self.generation)

    def mark(self, *, drains: bool) -> None:
        """The worker's clients are to leave it, or not any more."""
        for listener in self.listeners.values():
            with contextlib.suppress(OSError, IndexError):  # a kernel without it; a slot that is gone
                mark(self.socket_of(listener), drains=drains)

    def queue_length(self) -> int:
        """Clients that were not accepted yet, on all its addresses."""
        listeners = filter(None, map(self.listeners.get, self.addresses))
        return sum(listener.queue_length(self.slot, self.generation) for listener in listeners)


def mark(sock: socket.socket, *, drains: bool) -> None:
    if sock.family == socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        return
    if drains != (sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT) == _DRAINS):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, _DRAINS if drains else _USUAL)
