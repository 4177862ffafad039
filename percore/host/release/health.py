"""Does what runs answer? Each worker is asked by itself through the shared port, then the way through NGINX."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any, Callable, NamedTuple, Optional

from percore.common.socket_peers import source_host
from percore.common.worker_status import PASSING, shortage_of
from percore.errors import RolloutError
from percore.host.ports import ports_of

TRY_SECONDS = 3.0
WHOLE_SECONDS = 10.0
"""A program that sends a byte now and then is not healthy, however long it goes on."""
PAUSE_SECONDS = 0.1
SITE_PATH = "/.percore/site"
CHECK_HEADER, MAINTENANCE_HEADER = "X-Percore-Check", "X-Percore-Maintenance"
"""As templates/nginx-site.conf.j2 has them."""
_NO_APP = 502, 503, 504


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


def check_workers(status: dict[str, Any], *, path: Optional[str], seconds: float, host: str = "") -> int:
    """Ask every worker that shares a port, by the site's name; returns how many answered. HealthError for one that does not.

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
            asked_from = source_host(worker["slot"])
            fault = wait_healthy("127.0.0.1", port, path=path, source=asked_from, host=host, deadline=deadline)
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


class SiteCheck(NamedTuple):
    """How to ask through NGINX. `token` is what the site answers to us alone: another one is an earlier configuration's."""

    port: int
    host: str = ""
    path: Optional[str] = None
    token: str = ""
    tls_port: Optional[int] = None


def check_site(site: SiteCheck, *, seconds: float) -> None:
    """HealthError unless this very configuration answers, and the app through it."""
    deadline = time.monotonic() + seconds
    if site.token and (fault := _wait(lambda: _token_fault(site), deadline)):
        advice = "look for another site of that name and port, or a 'return' of your own in this one: nginx -T"
        raise HealthError(f"NGINX does not serve this site on port {site.port}: {fault}", "", next=advice)
    if fault := _wait(lambda: _app_fault(site), deadline):
        raise HealthError(f"through NGINX on port {site.tls_port or site.port}: {fault}", "")


def _token_fault(site: SiteCheck) -> Optional[str]:
    answer = try_once("127.0.0.1", site.port, path=SITE_PATH, host=site.host, token=site.token)
    if answer.status == 200 and answer.body == site.token:
        return None
    if not answer.status:
        return answer.fault
    return f"another configuration answers GET {SITE_PATH} there, with status {answer.status}"


def _app_fault(site: SiteCheck) -> Optional[str]:
    """Without a path any answer will do that NGINX does not give itself because the app gives none."""
    port = site.tls_port or site.port
    answer = try_once(
        "127.0.0.1", port, path=site.path or "/", host=site.host, token=site.token, tls=site.tls_port is not None
    )
    is_answered = answer.status not in (0, *_NO_APP)
    return None if site.path is None and is_answered else answer.fault


class HealthError(RolloutError):
    """Not healthy; `app` is the app whose log tells more, empty when none does."""

    def __init__(self, what: str, app: str, *, next: str = "") -> None:
        super().__init__(what, next=next)
        self.app = app


def wait_healthy(
    address: str, port: int, *, path: Optional[str], deadline: float, source: Optional[str] = None, host: str = ""
) -> Optional[str]:
    """None once it is healthy; else what it last answered when the deadline had passed."""
    return _wait(lambda: ask(address, port, path=path, source=source, host=host), deadline)


def _wait(find_fault: Callable[[], Optional[str]], deadline: float) -> Optional[str]:
    while True:
        fault = find_fault()
        if fault is None or time.monotonic() >= deadline:
            return fault
        time.sleep(PAUSE_SECONDS)


def ask(address: str, port: int, *, path: Optional[str], source: Optional[str] = None, host: str = "") -> Optional[str]:
    """One try: a GET of `path` that ends in 2xx or 3xx, or without a path a connection. Returns what was wrong."""
    if path is not None:
        return try_once(address, port, path=path, source=source, host=host).fault
    try:
        bind = (source, 0) if source else None
        socket.create_connection((address, port), timeout=TRY_SECONDS, source_address=bind).close()
    except OSError as error:
        return str(error.strerror or error)
    return None


class Answer(NamedTuple):
    """Of one GET; status 0 when nothing answered. `fault` is None for 2xx and 3xx."""

    status: int
    fault: Optional[str]
    body: str = ""
    is_maintenance: bool = False  # NGINX gave the page of `maintenance.on`


def try_once(
    address: str, port: int, *, path: str, source: Optional[str] = None, host: str = "", token: str = "",
    tls: bool = False,
) -> Answer:  # fmt: skip
    """One GET; the certificate is not looked at."""
    import http.client  # a third of what the agent would load, and most runs ask nothing

    try:
        bind = (source, 0) if source else None
        connection = http.client.HTTPConnection(address, port, timeout=TRY_SECONDS, source_address=bind)
        connection.connect()
        end = threading.Timer(WHOLE_SECONDS, _hang_up, (connection.sock,))
        end.start()
        try:
            if tls:
                connection.sock = _encrypted(connection.sock, host)
            connection.request("GET", path, headers=_headers(host, token))
            reply = connection.getresponse()
            body = " ".join(reply.read(200).decode(errors="replace").split())
        finally:
            end.cancel()
            connection.close()
    except OSError as error:
        return Answer(0, f"GET {path}: {error.strerror or error}")
    except http.client.HTTPException as error:
        return Answer(0, f"GET {path}: not an HTTP reply ({type(error).__name__})")
    if 200 <= reply.status < 400:
        return Answer(reply.status, None, body)
    fault = f"GET {path} answered {reply.status}" + (f": {body}" if body else "")
    return Answer(reply.status, fault, body, reply.getheader(MAINTENANCE_HEADER) is not None)


def _headers(host: str, token: str) -> dict[str, str]:
    more = {"Host": host} if host else {}
    return {"User-Agent": "percore-health", "Connection": "close", **more, **({CHECK_HEADER: token} if token else {})}


def _encrypted(sock: socket.socket, host: str) -> socket.socket:
    import ssl  # as http.client

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock, server_hostname=host.partition(":")[0] or None)


def _hang_up(connection: socket.socket) -> None:
    """The thread that waits for the rest of an answer reads its end."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
