"""What workers need of their supervisor."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Mapping

from percore.common.typing import TYPE_CHECKING, Callable
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Loop
from percore.supervisor.config.address import Address, AddressInUse
from percore.supervisor.core.app import App
from percore.supervisor.core.persistence import Persistence
from percore.supervisor.core.worker.worker import Runtime, Worker
from percore.supervisor.core.worker_endpoints import WorkerEndpoints
from percore.supervisor.logs.files import LogOpener
from percore.supervisor.process.child import Children
from percore.supervisor.process.command import WorkerEnvironment
from percore.supervisor.sockets.bind_rights import rights_of
from percore.supervisor.sockets.listener import Listener
from percore.supervisor.sockets.preload import Preload, place_preload
from percore.supervisor.sockets.sharing import find_sharing

if TYPE_CHECKING:
    from percore.supervisor.process.cgroup import Groups


class WorkerServices:
    def __init__(self, loop: Loop, home: Home, persistence: Persistence) -> None:
        self._loop = loop
        self._home = home
        self._apps = persistence.apps
        self._persistence = persistence
        self._preload = place_preload(home.run)
        self.endpoints = WorkerEndpoints(loop, home, self._apps)

    def make_runtime(self, tell: Callable[[Worker], None], replace: Callable[[Worker, str], None],
                     open_logs: LogOpener) -> Runtime:  # fmt: skip
        """What all workers share."""
        store_fds = self._persistence.store.fds
        environment = WorkerEnvironment(
            self._home,
            self._find_preload,
            store_fds,
            self.endpoints.find_user_endpoints,
            lambda: self._groups,
            open_logs,
        )
        return Runtime(
            self._loop,
            environment,
            Children(),
            find_sharing(),
            tell,
            replace,
            log,
            self._open_listener,
            self._open_for_request,
        )

    def _open_listener(self, worker: Worker, address: Address) -> Listener:
        """What the worker's app shares at this address, unless another app shares it already. Raises PercoreError or OSError."""
        app = self._apps[worker.config.name]
        refuse_shared(address, app, self._apps)
        is_new = address not in app.listeners
        listener = app.listener(address, rights_of(address, worker.config, worker.place.base_env))
        if is_new:
            self._persistence.fill_store()  # before any worker can serve from it
        return listener

    def _open_for_request(self, worker: Worker, address: Address) -> Listener:
        """As `open_listener`, for what a worker asks by itself. Raises BlockingIOError when it is to ask again later."""
        app = self._apps[worker.config.name]
        if address not in app.listeners and not app.new_addresses.take():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return self._open_listener(worker, address)

    def _find_preload(self) -> Preload:
        if not self._preload.is_there:
            self._preload = place_preload(self._home.run)
        return self._preload

    @functools.cached_property
    def _groups(self) -> Groups:
        from percore.supervisor.process.cgroup import find_groups

        return find_groups(log)


def refuse_shared(address: Address, app: App, apps: Mapping[str, App]) -> None:
    """Raises AddressInUse where another app shares it."""
    for other in apps.values():
        for shared in other.listeners if other is not app else ():
            if address.overlaps(shared):
                place = f"{address}" if address == shared else f"{address} overlaps with {shared}, which"
                raise AddressInUse(
                    f"{place} is already shared by the app '{other.name}'", next=f"give '{app.name}' another port"
                )
