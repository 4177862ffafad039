"""One request for a worker's page, with bounds on time and size, and the proof which process answered."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from typing import NamedTuple

from percore.common.procfs import open_sockets_of, tree_of
from percore.supervisor.sockets.reuseport_bpf import open_from
from percore.supervisor.sockets.sock_diag import find_end
from percore.web.app_metrics.page import MetricsPage, PageError, read_page
from percore.web.app_metrics.targets import MetricsTarget

SECONDS = 4.0
MOST_BYTES = 8 << 20
_PIECE = 1 << 16
_FIRST_LOOK, _LAST_LOOK = 0.0005, 0.05  # seconds between two looks whether a worker has accepted
_ACCEPT = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5"


class Scraped(NamedTuple):
    target: MetricsTarget
    page: MetricsPage
    holder: int  # the process of the worker that answered; 0: that cannot be seen
    at: float  # monotonic seconds, when it was asked


class ScrapeError(Exception):
    """Why there is no page."""


def scrape(target: MetricsTarget, seconds: float = SECONDS) -> Scraped:
    """Raises ScrapeError."""
    deadline = time.monotonic() + seconds
    try:
        with open_from(target.source, target.host) as sock:
            sock.settimeout(seconds)
            sock.connect((target.host, target.port))
            return _ask(target, sock, deadline)
    except PageError as error:
        raise ScrapeError(str(error)) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ScrapeError(f"GET {target.path} on port {target.port}: {error or type(error).__name__}") from None


def _ask(target: MetricsTarget, sock: socket.socket, deadline: float) -> Scraped:
    holder = _holder(target, sock, deadline)
    at = time.monotonic()
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = sock = _over_tls(sock, target.asked) if target.is_tls else sock
    headers = {"Host": target.asked, "Accept": _ACCEPT, "User-Agent": "percore", "Connection": "close"}
    connection.request("GET", target.path, headers=headers)
    with contextlib.closing(connection.getresponse()) as response:
        if response.status != 200:
            raise ScrapeError(f"GET {target.path} on port {target.port} answered {response.status}")
        body = _body(response, sock, deadline)
        content_type = response.headers.get("Content-Type", "")
    return Scraped(target, read_page(body.decode("utf-8", "replace"), content_type), holder, at)


def _over_tls(sock: socket.socket, name: str) -> ssl.SSLSocket:
    """Who the certificate names is not looked at: the kernel has told who answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock, server_hostname=name.partition(":")[0])


def _body(response: http.client.HTTPResponse, sock: socket.socket, deadline: float) -> bytes:
    body = bytearray()
    while not response.isclosed():
        left = deadline - time.monotonic()
        if left <= 0:
            raise ScrapeError("the page took too long")
        sock.settimeout(left)
        part = response.read(_PIECE)
        if not part and response.length:
            raise ScrapeError("the page was cut off")
        body += part
        if len(body) > MOST_BYTES:
            raise ScrapeError(f"the page is larger than {MOST_BYTES >> 20} MB")
    if not body.endswith(b"\n"):  # the last number may be a part of one
        raise ScrapeError("the page ends in the middle of a line")
    return bytes(body)


def _holder(target: MetricsTarget, sock: socket.socket, deadline: float) -> int:
    """Before anything is asked: a program that has answered may have closed its end. Raises ScrapeError for another worker's."""
    try:
        inode = _accepted_inode(sock, deadline)
        holders = [pid for pid in tree_of(target.pid) if inode in _sockets_of(pid)]
    except OSError:
        return 0
    if not holders:
        raise ScrapeError("another worker answered: it was just replaced")
    return holders[-1]


def _sockets_of(pid: int) -> dict[int, int]:
    """Raises PermissionError for those of another user."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return open_sockets_of(pid)
    return {}


def _accepted_inode(sock: socket.socket, deadline: float) -> int:
    """Raises OSError where the kernel does not tell, ScrapeError where nobody accepts."""
    wait = _FIRST_LOOK
    ends = sock.getpeername()[:2], sock.getsockname()[:2]
    while not (end := find_end(*ends)) or not end.inode:
        if time.monotonic() > deadline:
            raise ScrapeError(f"port {sock.getpeername()[1]} does not accept connections")
        time.sleep(wait)
        wait = min(2 * wait, _LAST_LOOK)
    return end.inode
