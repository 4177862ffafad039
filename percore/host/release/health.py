"""Does what runs answer? Each worker is asked by itself through the shared port, then the way through NGINX."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any, Callable, Optional

from percore.common.probe_source import source_host
from percore.common.worker_status import PASSING, shortage_of
from percore.errors import RolloutError
from percore.host.ports import ports_of

TRY_SECONDS = 3.0
WHOLE_SECONDS = 10.0
"""A program that sends a byte now and then is not healthy, however long it goes on."""
PAUSE_SECONDS = 0.1


def wait_settled(status: Callable[[], dict[str, Any]], *, seconds: float) -> dict[str, Any]:
    """The status once no app lacks workers that are just being replaced, as by `cron_restart`; at the latest after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = status()
        lacking = [app for app in found["apps"] if shortage_of(app)]
        passing = any(worker["state"] in PASSING for app in lacking for worker in app["workers"])
        if not passing or time.monotonic() >= deadline:
            return found
        time.sleep(PAUSE_SECONDS)


def check_workers(status: dict[str, Any], *, path: Optional[str], seconds: float) -> int:
    """Ask every worker that shares a port; returns how many answered. HealthError for the first that does not.

    One that is meant to end and did so with success is healthy.
    """
    deadline = time.monotonic() + seconds
    asked = 0
    for app in status["apps"]:
        running = [worker for worker in app["workers"] if worker["state"] == "running"]
        if shortage := shortage_of(app):
            raise HealthError(shortage, app["name"])
        if app["mode"] != "cluster" or not app.get("port"):
            continue
        for worker in running:
            port = worker.get("port") or app["port"]
            fault = wait_healthy("127.0.0.1", port, path=path, source=source_host(worker["slot"]), deadline=deadline)
            if fault:
                name = f"{app['name']} worker {worker['slot']} (pid {worker['pid']})"
                raise HealthError(f"{name} on port {port}: {fault}", app["name"])
            asked += 1
    return asked


def check_port(status: Mapping[str, Any], apps: Collection[str], *, port: int, seconds: float) -> None:
    """`apps` were told to listen on the port. HealthError where they listen, and none of them there."""
    deadline = time.monotonic() + seconds
    while True:
        ports = {app["name"]: ports_of(_pids_of(app)) for app in status["apps"] if app["name"] in apps}
        found = {name: sorted(numbers) for name, numbers in ports.items() if numbers}
        if not found or any(port in numbers for numbers in found.values()):
            return
        if time.monotonic() >= deadline:
            listens = "; ".join(f"{name} listens on port {', '.join(map(str, found[name]))}" for name in found)
            advice = "set 'port' to what the app listens on, or let the app listen on the variable PORT"
            raise HealthError(f"no app listens on port {port}: {listens}", next(iter(found)), next=advice)
        time.sleep(PAUSE_SECONDS)


def _pids_of(app: Mapping[str, Any]) -> list[int]:
    return [worker["pid"] for worker in app["workers"] if worker["pid"]]


def check_site(port: int, *, path: Optional[str], host: str, seconds: float) -> None:
    fault = wait_healthy("127.0.0.1", port, path=path or "/", host=host, deadline=time.monotonic() + seconds)
    if fault:
        raise HealthError(f"through NGINX on port {port}: {fault}", "")


class HealthError(RolloutError):
    """Not healthy; `app` is the app whose log tells more, empty when none does."""

    def __init__(self, what: str, app: str, *, next: str = "") -> None:
        super().__init__(what, next=next)
        self.app = app


def wait_healthy(
    address: str, port: int, *, path: Optional[str], deadline: float, source: Optional[str] = None, host: str = ""
) -> Optional[str]:
    """None once it is healthy; else what it last answered when the deadline had passed."""
    while True:
        fault = ask(address, port, path=path, source=source, host=host)
        if fault is None or time.monotonic() >= deadline:
            return fault
        time.sleep(PAUSE_SECONDS)


def ask(address: str, port: int, *, path: Optional[str], source: Optional[str] = None, host: str = "") -> Optional[str]:
    """One try: a GET of `path` that ends in 2xx or 3xx, or without a path a connection. Returns what was wrong."""
    if path is not None:
        return try_once(address, port, path=path, source=source, host=host)[1]
    try:
        bind = (source, 0) if source else None
        socket.create_connection((address, port), timeout=TRY_SECONDS, source_address=bind).close()
    except OSError as error:
        return str(error.strerror or error)
    return None


def try_once(
    address: str, port: int, *, path: str, source: Optional[str] = None, host: str = ""
) -> tuple[int, Optional[str]]:
    """(status, what was wrong) of one GET; status 0 when nothing answered."""
    import http.client  # a third of what the agent would load, and most runs ask nothing

    try:
        bind = (source, 0) if source else None
        connection = http.client.HTTPConnection(address, port, timeout=TRY_SECONDS, source_address=bind)
        connection.connect()
        end = threading.Timer(WHOLE_SECONDS, _hang_up, (connection.sock,))
        end.start()
        try:
            headers = {"User-Agent": "percore-health", "Connection": "close", **({"Host": host} if host else {})}
            connection.request("GET", path, headers=headers)
            reply = connection.getresponse()
            body = reply.read(200).decode(errors="replace").strip()
        finally:
            end.cancel()
            connection.close()
    except OSError as error:
        return 0, f"GET {path}: {error.strerror or error}"
    except http.client.HTTPException as error:
        return 0, f"GET {path}: not an HTTP reply ({type(error).__name__})"
    if 200 <= reply.status < 400:
        return reply.status, None
    return reply.status, f"GET {path} answered {reply.status}" + (f": {body}" if body else "")


def _hang_up(connection: socket.socket) -> None:
    """The thread that waits for the rest of an answer reads its end."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
