"""A program on a host over SSH, and the connections to it. The only place that knows Fabric.

Fabric and paramiko make the connection; how to make it is what OpenSSH's client would do (`openssh`). Hosts behind the same
bastion share one connection to it.
"""

from __future__ import annotations

import logging
import os
import shlex
import socket
import subprocess
import threading
from typing import Any

from percore.common.passwords import for_programs
from percore.deploy.connection.address import HostAddress
from percore.deploy.connection.channel import END_SECONDS, PIECE_BYTES, StandardError
from percore.deploy.connection.openssh.config import Route, Wish, find_route, jump_wish
from percore.deploy.connection.openssh.faults import explain
from percore.deploy.connection.openssh.host_keys import transport_factory, trust_host_keys
from percore.deploy.connection.openssh.known_hosts import find_known
from percore.deploy.connection.openssh.our_keys import make_keys
from percore.errors import PercoreError


class SshChannel:
    """A program at the end of a Fabric connection."""

    def __init__(self, address: HostAddress, words: list[str]) -> None:
        self._link = _open_link(address)
        self._channel = self._link.connection.client.get_transport().open_session(timeout=self._link.route.seconds)
        self._channel.settimeout(self._link.route.silence_seconds)
        self._channel.exec_command(shlex.join(words))
        pieces = iter(lambda: self._channel.recv_stderr(4096), b"")
        self._errors = StandardError(pieces, self._channel.shutdown_write)

    def send(self, data: bytes) -> None:
        self._channel.settimeout(self._link.route.silence_seconds)
        self._channel.sendall(data)

    def receive(self, seconds: float) -> bytes:
        self._channel.settimeout(max(0.001, min(seconds, self._link.route.silence_seconds)))
        piece: bytes = self._channel.recv(PIECE_BYTES)
        return piece

    def complaint(self) -> str:
        return self._errors.text()

    def finish(self, *, wait: bool) -> None:
        self._channel.shutdown_write()
        if wait:
            self._channel.status_event.wait(END_SECONDS)
        self._link.close()


# -- connections -----------------------------------------------------------------------------------------------------


class _SshLink:
    """An open connection along a route, and the bastion it goes through."""

    def __init__(self, route: Route, password: str | None, bastion: _SshLink | None) -> None:
        from fabric import Config, Connection
        from paramiko import SSHConfig

        if not logging.getLogger("paramiko").handlers:
            logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # its threads would print tracebacks of lost links
        self.route = route
        self._bastion = bastion
        self._proxy = _Proxy(route.proxy_command) if route.proxy_command else None
        keys = make_keys(route, password)
        known = find_known(route.known_hosts, route.known_name, route.bare_name)
        # The configuration was read already, by ssh itself: an empty one keeps Fabric from reading it once more.
        self.connection: Any = Connection(
            route.host,
            config=Config(ssh_config=SSHConfig()),
            user=route.user,
            port=route.port,
            gateway=bastion.connection if bastion else None,
            connect_timeout=route.seconds,
            connect_kwargs={
                "auth_strategy": keys,
                "transport_factory": transport_factory(known),
                "banner_timeout": route.seconds,
                "auth_timeout": route.seconds,
                "channel_timeout": route.seconds,
                **({"sock": self._proxy.socket} if self._proxy else {}),
            },
        )
        try:
            trust_host_keys(self.connection.client, route, known)
            self.connection.open()
        except BaseException as error:
            if self._proxy:
                error.proxy_said = self._proxy.complaint()  # type: ignore[attr-defined]
            self.close()
            raise
        finally:
            keys.close()

    def close(self) -> None:
        self.connection.client.close()  # Fabric's own close leaves a connection alone that was not quite opened
        if self._proxy:
            self._proxy.close()
        if self._bastion:
            _bastions.give_back(self._bastion)


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
        self._links: dict[tuple[Wish, ...], tuple[_SshLink, int]] = {}

    def borrow(self, way: tuple[Wish, ...]) -> _SshLink | None:
        """The connection to the last host of the way."""
        if not way:
            return None
        with self._changing:
            opening = self._opening.setdefault(way, threading.Lock())
        with opening:
            link, users = self._links.get(way, (None, 0))
            if link is None or not link.connection.is_connected:
                link, users = _connect(way[-1].host, find_route(way[-1]), None, self.borrow(way[:-1])), 0
            with self._changing:
                self._links[way] = link, users + 1
            return link

    def give_back(self, link: _SshLink) -> None:
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


def _open_link(address: HostAddress) -> _SshLink:
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


def _connect(name: str, route: Route, password: str | None, bastion: _SshLink | None) -> _SshLink:
    try:
        return _SshLink(route, password, bastion)
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
