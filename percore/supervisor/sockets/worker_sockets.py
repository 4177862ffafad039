"""Which of its app's listening sockets one worker has, who waits in them, and which of its processes drain them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping

from percore.common.typing import TYPE_CHECKING
from percore.errors import PercoreError
from percore.supervisor.config.address import Address, everywhere, parse_address
from percore.supervisor.config.app import AppConfig, Place
from percore.supervisor.sockets.broker import Drainable
from percore.supervisor.sockets.listener import Listener

if TYPE_CHECKING:
    from typing import Protocol

    class SharedSockets(Protocol):
        """Opens what the workers of an app share, for one of them. Raises PercoreError or OSError."""

        def open(self, config: AppConfig, place: Place, address: Address) -> Listener: ...

        def open_on_request(self, config: AppConfig, place: Place, address: Address) -> Listener:
            """The same, for what the worker asks by itself. Raises BlockingIOError when it is to ask again later."""


class WorkerSockets:
    def __init__(self, listeners: Mapping[Address, Listener], slot: int, generation: int) -> None:
        """`listeners` are those of its app, `generation` says which sockets of its slot are the worker's."""
        self.listeners = listeners
        self.slot = slot
        self.generation = generation
        self.addresses: list[Address] = []  # that it has its socket of
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

    def socket_of(self, listener: Listener) -> socket.socket:
        return listener.socket_for(self.slot, self.generation)

    def queue_length(self) -> int:
        """Clients that were not accepted yet, on all its addresses."""
        listeners = filter(None, map(self.listeners.get, self.addresses))
        return sum(listener.queue_length(self.slot, self.generation) for listener in listeners)
