"""A worker, as the broker of its sockets sees it (`broker.Client`)."""

from __future__ import annotations

import errno
import os
import socket

from percore.common.typing import Optional
from percore.supervisor.base.states import State, WorkerRole
from percore.supervisor.base.user import uid_of
from percore.supervisor.config.address import Address
from percore.supervisor.core.addresses import Overlap, members_of_worker, note_addresses
from percore.supervisor.core.app import App
from percore.supervisor.core.worker.worker import Worker
from percore.supervisor.sockets.broker import Drainable
from percore.supervisor.sockets.sharing import Mode


class WorkerClient:
    def __init__(self, worker: Worker, app: App) -> None:
        self.worker = worker
        self._app = app

    def __str__(self) -> str:
        return f"{self.worker.config.name} {self.worker.number}"

    @property
    def uid(self) -> int:
        return uid_of(self.worker.config.user, self.worker.config.group)

    @property
    def preloads(self) -> list[Drainable]:
        return self.worker.sockets.preloads

    # -- where it listens --------------------------------------------------------------------------------------------

    def socket_for(self, address: Address) -> Optional[socket.socket]:
        """None where others listen on the same port of another address: it may only look for a free port, and closes it again.

        If it does not, it never becomes ready.
        """
        worker = self.worker
        self._forget_closed(address)
        try:
            listener = worker.runtime.shared.open_on_request(worker.config, worker.place, address)
            return worker.sockets.socket_of(listener)
        except Overlap as overlap:
            if worker in overlap.holders or worker.is_ready:
                raise
            if overlap.is_brief:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
            worker.readiness.was_refused(str(overlap))
            return None

    def reserve(self, address: Address) -> Optional[socket.socket]:
        worker = self.worker
        self._forget_closed(address)
        for own in worker.sockets.addresses:
            if own != address and own.overlaps(address):  # of the same one, the process itself knows
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        return worker.runtime.shared.reserve(worker.config, worker.place, address)

    def _forget_closed(self, address: Address) -> None:
        """What it listened on may be in the way of what it asks for now."""
        sockets = self.worker.sockets
        is_asked = any(own.overlaps(address) for own in sockets.addresses)
        if is_asked and sockets.forget_closed(list(members_of_worker(self.worker)), address):
            note_addresses(self.worker)

    def listens(self, address: Address) -> None:
        worker = self.worker
        if address not in worker.sockets.addresses:
            worker.sockets.take(address)
            note_addresses(worker)

    def closed(self) -> None:
        """One that is told to end closes everything, and its successor has it."""
        worker = self.worker
        if worker.role is not WorkerRole.OUTGOING and worker.state is not State.STOPPING:
            worker.sockets.has_closed = True
            self._app.addresses.review_soon()

    def shares(self, address: Address) -> bool:
        return address in self._app.listeners

    def must_not_connect(self, address: Address) -> Optional[bool]:
        """While it starts, what answers on its app's port is a worker that it is to serve beside, or nobody."""
        if self.worker.state is not State.STARTING:
            return None
        return any(address.overlaps(known) for known in self._app.listeners)

    def listens_alone(self) -> None:
        self.worker.readiness.listens_alone()

    def refused(self, reason: str) -> bool:
        self.worker.failure = reason
        return self.worker.is_ready

    def add_preload(self, preload: Drainable) -> None:
        self.preloads.append(preload)
        if self.worker.role is WorkerRole.OUTGOING:  # it was asked by an earlier supervisor, if at all
            preload.ask(self.worker.runtime.sharing.mode is not Mode.STEERED)
