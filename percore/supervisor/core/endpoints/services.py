"""What workers need of their supervisor."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping

from percore.common.typing import TYPE_CHECKING, Optional
from percore.supervisor.base.loop import Loop
from percore.supervisor.config.address import Address, AddressInUse
from percore.supervisor.config.app import AppConfig, Place
from percore.supervisor.core.app import App
from percore.supervisor.core.endpoints.endpoints import WorkerEndpoints
from percore.supervisor.core.persistence import Persistence
from percore.supervisor.core.worker.figures import Counts, Farewells
from percore.supervisor.core.worker.worker import Runtime
from percore.supervisor.logs.files import LogOpener
from percore.supervisor.process.child import Children
from percore.supervisor.process.command import WorkerEnvironment
from percore.supervisor.sockets.bind_rights import rights_of
from percore.supervisor.sockets.listener import Listener, refuse_held, reserve
from percore.supervisor.sockets.sharing import Mode, find_sharing

if TYPE_CHECKING:
    from percore.supervisor.core.worker.worker import WorkerManager


class WorkerServices:
    def __init__(self, loop: Loop, persistence: Persistence) -> None:
        self._loop = loop
        self._apps = persistence.apps
        self._persistence = persistence
        self.endpoints = WorkerEndpoints(loop, persistence.home, self._apps)

    def make_runtime(self, manager: WorkerManager, open_logs: LogOpener) -> Runtime:
        """What all workers share."""
        persistence = self._persistence
        environment = WorkerEnvironment(persistence.home, self.endpoints, persistence.store.fds, open_logs)
        counts, farewells = Counts(), Farewells(self._loop)
        return Runtime(self._loop, environment, Children(), find_sharing(), manager, self, counts, farewells)

    def open(self, config: AppConfig, place: Place, address: Address) -> Listener:
        """What the worker's app shares at this address, unless another app shares it already. Raises PercoreError or OSError."""
        app = self._apps[config.name]
        refuse_shared(address, app, self._apps)
        is_new = address not in app.listeners
        listener = app.addresses.open(address, rights_of(address, config, place.base_env))
        if is_new:
            self._persistence.fill_store()  # before any worker can serve from it
        return listener

    def reserve(self, config: AppConfig, place: Place, address: Address) -> Optional[socket.socket]:
        """A socket that is bound there and listens to nobody; None where the app's own socket must do.

        Raises PercoreError or OSError.
        """
        app = self._apps[config.name]
        refuse_shared(address, app, self._apps)
        rights = rights_of(address, config, place.base_env)
        if address.family == socket.AF_UNIX:
            app.addresses.open(address, rights)
            return None
        is_ours = app.addresses.find(address, rights) or any(address.overlaps(other) for other in app.listeners)
        if not is_ours:
            refuse_held(address, rights)
        elif app.runtime.sharing.mode is Mode.SINGLE or rights.user:
            return None  # nothing can be bound beside it; and nothing that other groups let in is given to another user
        return reserve(address, rights, Mode.HASHED if is_ours else Mode.SINGLE)

    def open_on_request(self, config: AppConfig, place: Place, address: Address) -> Listener:
        """As `open`, for what a worker asks by itself. Raises BlockingIOError when it is to ask again later."""
        app = self._apps[config.name]
        if address not in app.listeners and not app.addresses.new_ones.take():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return self.open(config, place, address)


def refuse_shared(address: Address, app: App, apps: Mapping[str, App]) -> None:
    """Raises AddressInUse where another app shares it."""
    for other in apps.values():
        for shared in other.listeners if other is not app else ():
            if address.overlaps(shared):
                place = f"{address}" if address == shared else f"{address} overlaps with {shared}, which"
                raise AddressInUse(
                    f"{place} is already shared by the app '{other.name}'", next=f"give '{app.name}' another port"
                )
