"""The sockets at which workers reach their supervisor."""

from __future__ import annotations

from collections.abc import Mapping

from percore.common.procfs import environment_of
from percore.common.typing import Any, Optional, Union
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Loop
from percore.supervisor.base.user import uid_of
from percore.supervisor.core.app import App
from percore.supervisor.core.endpoints.client import WorkerClient
from percore.supervisor.core.worker.worker import Worker
from percore.supervisor.health.sd_notify import NotifySocket
from percore.supervisor.sockets.broker import Broker
from percore.supervisor.sockets.preload import (
    Preload,
    UserEndpoints,
    former_addresses,
    make_user_endpoints,
    place_preload,
    remove_user_endpoints,
)
from percore.supervisor.sockets.unix import UnixServer


class WorkerEndpoints:
    def __init__(self, loop: Loop, home: Home, apps: Mapping[str, App]) -> None:
        self._loop = loop
        self._home = home
        self._apps = apps
        self._preload = place_preload(home.run)
        self._user_endpoints: dict[int, UserEndpoints] = {}  # by user
        self._sockets: list[Union[UnixServer, NotifySocket]] = []

    def open(self) -> None:
        """Raises OSError."""
        self._open_broker(self._home.worker_socket)
        self._open_notify_socket(self._home.notify_address)

    def _open_broker(self, path: str, **who: Any) -> None:
        self._sockets.append(Broker(self._loop, path, self, **who).server)

    def _open_notify_socket(self, address: str, **who: Any) -> None:
        self._sockets.append(NotifySocket(self._loop, address, self, **who))

    def _open_former(self) -> None:
        """A worker that an earlier version started goes on with what that one put into its environment."""
        for address in former_addresses(self._home):
            variables = (variable for worker in self._living for variable in environment_of(worker.pid))
            if any(variable.endswith(f"={address}".encode()) for variable in variables):
                open_socket = self._open_broker if address.endswith("worker.sock") else self._open_notify_socket
                try:
                    open_socket(address, all_users=True)
                except OSError as error:
                    log(
                        f"{address}, where workers of an earlier version look for us, cannot be opened: {error.strerror}"
                    )

    def open_for_users(self) -> None:
        """Adopted workers of other users, and those of an earlier version, look for their sockets."""
        for app in self._apps.values():
            for worker in app.living if app.config.user or app.config.group else ():
                self.find_user_endpoints(uid_of(worker.config.user, worker.config.group))
        self._open_former()

    def find_preload(self) -> Preload:
        if not self._preload.is_there:
            self._preload = place_preload(self._home.run)
        return self._preload

    def find_user_endpoints(self, uid: int) -> UserEndpoints:
        """Opened when the first worker of this user needs it. Raises PercoreError or OSError."""
        known = self._user_endpoints.get(uid)
        if known is None or not known.preload.is_there:
            endpoints = make_user_endpoints(self._home, uid)
            if known is None:
                self._open_broker(endpoints.worker_socket, user=uid)
                self._open_notify_socket(endpoints.notify_address, user=uid)
            self._user_endpoints[uid] = endpoints
        return self._user_endpoints[uid]

    def reopen(self) -> None:
        """Where the file of a socket was deleted."""
        for opened in self._sockets:
            opened.reopen()

    def close(self, *, removes_files: bool) -> None:
        for opened in self._sockets:
            opened.close()
        if removes_files and len(self._sockets) > 2:
            remove_user_endpoints(self._home)

    # -- which worker ------------------------------------------------------------------------------------------------

    @property
    def _living(self) -> list[Worker]:
        return [worker for app in self._apps.values() for worker in app.living]

    def find_worker(self, token: str) -> Optional[WorkerClient]:
        found = ((app, worker) for app in self._apps.values() for worker in app.living if worker.child.token == token)
        return next((WorkerClient(worker, app) for app, worker in found), None)

    def has_worker_of(self, uid: int) -> bool:
        return any(uid_of(worker.config.user, worker.config.group) == uid for worker in self._living)

    def worker_is_ready(self, pid: int) -> bool:
        """A process said READY=1; False when it is not a worker's main process."""
        worker = next((worker for worker in self._living if worker.pid == pid), None)
        if worker:
            worker.readiness.said_ready()
        return worker is not None
