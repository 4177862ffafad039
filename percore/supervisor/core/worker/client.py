"""A worker, as the broker of its sockets sees it (`broker.Client`)."""

from __future__ import annotations

import socket

from percore.supervisor.base.states import State, WorkerRole
from percore.supervisor.base.user import uid_of
from percore.supervisor.config.address import Address
from percore.supervisor.core.worker.worker import Worker
from percore.supervisor.sockets.broker import Drainable
from percore.supervisor.sockets.listener import Listener
from percore.supervisor.sockets.sharing import Mode


class WorkerClient:
    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def __str__(self) -> str:
        return f"{self.worker.config.name} {self.worker.number}"

    @property
    def uid(self) -> int:
        return uid_of(self.worker.config.user, self.worker.config.group)

    @property
    def preloads(self) -> list[Drainable]:
        return self.worker.sockets.preloads

    def listener_for(self, address: Address) -> Listener:
        worker = self.worker
        return worker.runtime.shared.open_on_request(worker.config, worker.place, address)

    def socket_of(self, listener: Listener) -> socket.socket:
        return self.worker.sockets.socket_of(listener)

    def bound(self, address: Address) -> None:
        worker = self.worker
        if address in worker.sockets.addresses:
            return
        worker.sockets.addresses.append(address)
        if worker.state is State.RUNNING:
            worker.has_changed()  # one more to be remembered
        else:
            worker.readiness.bound(address)

    def listens_alone(self) -> None:
        self.worker.readiness.listens_alone()

    def refused(self, reason: str) -> bool:
        self.worker.failure = reason
        return self.worker.is_ready

    def add_preload(self, preload: Drainable) -> None:
        self.preloads.append(preload)
        if self.worker.role is WorkerRole.OUTGOING:  # it was asked by an earlier supervisor, if at all
            preload.ask(self.worker.runtime.sharing.mode is not Mode.STEERED)
