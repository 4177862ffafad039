"""The connections to hosts over SSH, and to the bastions before them.

paramiko makes the connection; how to make it is what OpenSSH's client would do (`openssh`). Hosts behind the same bastion share
one connection to it. paramiko's own client, and Fabric on top of it, read configurations that were read here already: for each
host that takes as long as the rest.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import select
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from percore.common.passwords import for_programs
from percore.deploy.connection.address import HostAddress
from percore.deploy.connection.channel import StandardError
from percore.deploy.connection.openssh.config import Route, Wish, find_route, jump_wish
from percore.deploy.connection.openssh.faults import CROWDED, explain
from percore.deploy.connection.openssh.host_keys import check_host_key, make_transport, warn_once
from percore.deploy.connection.openssh.known_hosts import Known, find_known
from percore.deploy.connection.openssh.our_keys import make_keys
from percore.errors import PercoreError

BUSY_SECONDS = 60.0
"""A host that speaks SSH is there: so long it may take for each further step."""

PAUSES = (0.3, 0.6, 1.2, 2.4, 4.8)
"""Seconds until a server is tried again that ended the connection before it said a word: it lets in only so many at once."""

WAKE_SECONDS = 1.0
"""How often who waits for a connection looks whether there still is one."""

IDLE_SECONDS = 30.0
"""How often the thread of an open connection wakes up for nothing; it is woken where the connection ends. With paramiko's 0.1 s,
the threads of hundreds of idle hosts delay the one that has something to do.
"""


class SshLink:
    """An open connection along a route, and the bastion it goes through."""

    def __init__(self, route: Route, password: str | None, bastion: SshLink | None) -> None:
        if not logging.getLogger("paramiko").handlers:
            logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # its threads would print tracebacks of lost links
        self.route = route
        self._bastion = bastion
        self._proxy: _Proxy | None = None
        self.transport: Any = None
        try:
            self._log_in(password)
        except BaseException as error:
            if self._proxy:
                error.proxy_said = self._proxy.complaint()
            self.close()
            raise

    def _log_in(self, password: str | None) -> None:
        known = find_known(self.route.known_hosts, self.route.known_name, self.route.bare_name)
        warn_once(known.passed_over)
        self._negotiate(known)
        check_host_key(self.route, known, self.transport.get_remote_server_key())
        with contextlib.closing(make_keys(self.route, password)) as keys:
            keys.authenticate(transport=self.transport)
        self.transport.sock.settimeout(IDLE_SECONDS)

    def _negotiate(self, known: Known) -> None:
        """Once more, and later, where a server is too busy to let us in."""
        for pause in PAUSES:
            try:
                return self._start(known)
            except (OSError, EOFError, _ssh_exception()):
                if not self._is_crowded():
                    raise
                self._disconnect()
                time.sleep(pause * random.uniform(0.5, 1.5))
        return self._start(known)

    def _start(self, known: Known) -> None:
        self.transport = None
        transport = make_transport(self._open_socket(), known)
        transport.sock.settimeout(WAKE_SECONDS)
        transport.banner_timeout = self.route.banner_seconds
        transport.handshake_timeout = transport.auth_timeout = transport.channel_timeout = BUSY_SECONDS
        self.transport = transport
        self._began = time.monotonic()
        ended = threading.Event()
        transport.start_client(event=ended)  # without an event paramiko looks ten times a second, for each host
        if not ended.wait(self.route.banner_seconds + BUSY_SECONDS) or not transport.active:
            raise transport.get_exception() or _ssh_exception()("No existing session")

    def _is_crowded(self) -> bool:
        """It was there and hung up, as with MaxStartups; a proxy that fails by itself says something else, or nothing."""
        if self.transport is None or self.transport.remote_version:
            return False
        if self._proxy:
            return CROWDED in self._proxy.complaint()
        return time.monotonic() - self._began < self.route.banner_seconds

    def _open_socket(self) -> Any:
        place = (self.route.host, self.route.port)
        if self._bastion:
            return self._bastion.transport.open_channel("direct-tcpip", place, ("", 0), timeout=self.route.seconds)
        if self.route.proxy_command:
            self._proxy = _Proxy(self.route.proxy_command)
            return self._proxy.socket
        link = socket.create_connection(place, self.route.seconds)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # short messages, each waited for
        return link

    @property
    def is_connected(self) -> bool:
        return self.transport is not None and bool(self.transport.active)

    @property
    def is_ready(self) -> bool:
        """It takes a few bytes now, without waiting."""
        transport = self.transport
        below = self._bastion.is_ready if self._bastion else is_writable(transport.sock)
        return bool(below and transport.clear_to_send.is_set())

    def _disconnect(self) -> None:
        if self.transport is not None:
            with contextlib.suppress(OSError, EOFError):
                self.transport.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it
            self.transport.close()
        if self._proxy:
            self._proxy.close()

    def close(self) -> None:
        self._disconnect()
        if self._bastion:
            _bastions.give_back(self._bastion)


def is_writable(link: socket.socket) -> bool:
    if sys.platform == "win32":
        return bool(select.select([], [link], [], 0)[1])
    asked = select.poll()  # `select` knows no more than 1024 open files
    asked.register(link, select.POLLOUT)
    return bool(asked.poll(0))


def _ssh_exception() -> type[Exception]:
    from paramiko import SSHException

    kind: type[Exception] = SSHException
    return kind


class _Proxy:
    """A ProxyCommand. paramiko's own leaves the process and its pipes behind."""

    def __init__(self, command: str) -> None:
        self.socket, theirs = socket.socketpair()
        with theirs:
            # ssh_config(5): the command is run by a shell, with exec so that nothing stays between.
            words = ["/bin/sh", "-c", f"exec {command}"]
            self._child = subprocess.Popen(
                words,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=for_programs(),
            )
        assert self._child.stderr is not None
        stderr = self._child.stderr.fileno()
        self._errors = StandardError(iter(lambda: os.read(stderr, 4096), b""), lambda: None)

    def complaint(self) -> str:
        """Why it ended, when it did by itself."""
        return self._errors.text().strip() if self._child.poll() is not None else ""

    def close(self) -> None:
        self.socket.close()
        self._child.terminate()
        self._child.wait()
        self._errors.text()
        if self._child.stderr:
            self._child.stderr.close()


class _Bastions:
    """Connections to hosts on the way: each is opened once, and ends with the last connection through it."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._opening: dict[tuple[Wish, ...], threading.Lock] = {}
        self._links: dict[tuple[Wish, ...], tuple[SshLink, int]] = {}

    def borrow(self, way: tuple[Wish, ...]) -> SshLink | None:
        """The connection to the last host of the way."""
        if not way:
            return None
        with self._changing:
            opening = self._opening.setdefault(way, threading.Lock())
        with opening:
            link, users = self._links.get(way, (None, 0))
            if link is None or not link.is_connected:
                link, users = _connect(way[-1].host, find_route(way[-1]), None, self.borrow(way[:-1])), 0
            with self._changing:
                self._links[way] = link, users + 1
            return link

    def give_back(self, link: SshLink) -> None:
        with self._changing:
            way = next((way for way, (known, _) in self._links.items() if known is link), None)
            if way is None:
                return
            users = self._links[way][1] - 1
            self._links[way] = link, users
            if users == 0:
                del self._links[way]
        if users == 0:
            link.close()


_bastions = _Bastions()


def open_link(address: HostAddress) -> SshLink:
    try:
        route = find_route(address.ssh)
        way: tuple[Wish, ...] = ()
        for jump in route.jumps:
            at = jump_wish(jump, address.ssh)
            # A bastion that is itself behind another says so in its own configuration.
            way = (*way, at) if way else (*_way_to(at), at)
        return _connect(address.host, route, address.password, _bastions.borrow(way))
    except PercoreError as error:
        places = [address.host, *([error.where] if error.where not in ("", address.host) else [])]
        raise type(error)(error.what, where=": ".join(places), next=error.next) from None


def _connect(name: str, route: Route, password: str | None, bastion: SshLink | None) -> SshLink:
    try:
        return SshLink(route, password, bastion)
    except PercoreError:
        raise
    except Exception as error:
        raise explain(name, route, error) from None


def _way_to(jump: Wish) -> tuple[Wish, ...]:
    way: tuple[Wish, ...] = ()
    for further in find_route(jump).jumps:
        at = jump_wish(further, jump)
        if at != jump:
            way = (*way, at)
    return way
