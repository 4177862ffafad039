"""Bytes to and from a program on a host: over SSH, or on this machine. The only place that knows Fabric.

Fabric and paramiko make the connection; how to make it is what OpenSSH's client would do (openssh.py). Host keys are always
checked: an unknown one is refused, or with `StrictHostKeyChecking=accept-new` noted; a changed one is always refused.
Hosts behind the same bastion share one connection to it.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import re
import select
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from percore.common.bounds import read_file
from percore.common.passwords import for_programs
from percore.deploy.connection.address import Address
from percore.deploy.connection.known_hosts import Known, find_known
from percore.deploy.connection.ssh_config import Route, Wish, find_route, jump_wish
from percore.deploy.report import print_line
from percore.errors import PercoreError, PreflightError, UnreachableError

END_SECONDS = 60.0
PIECE_BYTES = 1 << 16
SEND_SECONDS = 300.0
"""So long the other side may take none of what is sent."""

MOST_COMPLAINT = 1 << 20
"""Bytes of standard error that are kept: its end is what is shown."""

SUDO_PROMPT = "[percore] sudo password: "


class Channel(Protocol):
    """Bytes to and from the program, whatever lies between."""

    def send(self, data: bytes) -> None: ...

    def receive(self, seconds: float) -> bytes:
        """Some bytes, none at the end; TimeoutError when there are none for so long, or the link is silent for too long."""
        ...

    def finish(self, *, wait: bool) -> None: ...

    def complaint(self) -> str: ...


def open_channel(address: Address, program: list[str], *, folder: Path) -> Channel:
    """Starts the program on the host, with the rights the address asks for; `folder` is where a local one runs.

    Raises UnreachableError, PreflightError or UsageError, in one line.
    """
    words = _as_user(address, program)
    return _LocalChannel(address, words, folder) if address.local else _SshChannel(address, words)


def _as_user(address: Address, program: list[str]) -> list[str]:
    if not address.become:
        return program
    # Without a password sudo must not wait for one; with one it reads it from standard input, before the program does.
    asking = ["-S", "-p", SUDO_PROMPT] if address.become_password else ["-n"]
    return ["sudo", *asking, "-H", "-u", address.become_user, "--", *program]


class _Errors:
    """What the program says on standard error. A second question for the password means that the first was wrong."""

    def __init__(self, pieces: Iterator[bytes], on_refusal: Any) -> None:
        self._said = bytearray()
        self._reader = threading.Thread(target=self._read, args=(pieces, on_refusal), daemon=True)
        self._reader.start()

    def _read(self, pieces: Iterator[bytes], on_refusal: Any) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError):
            for piece in pieces:
                self._said += piece
                if self._said.count(SUDO_PROMPT.encode()) > 1:
                    on_refusal()
                del self._said[:-MOST_COMPLAINT]

    def text(self) -> str:
        self._reader.join(1.0)
        return self._said.decode(errors="replace").replace(SUDO_PROMPT, "")


class _LocalChannel:
    """A child process of ours, in a session of its own so that Ctrl-C here does not end it halfway."""

    def __init__(self, address: Address, words: list[str], folder: Path) -> None:
        try:
            self._child = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env=for_programs(),
                start_new_session=True,
            )
        except OSError as error:
            raise PreflightError(
                f"cannot start '{words[0]}': {error.strerror}",
                where=address.host,
                next="set ansible_python_interpreter",
            ) from None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        assert self._child.stderr is not None
        self._input, self._output, self._error = self._child.stdin, self._child.stdout, self._child.stderr
        os.set_blocking(self._input.fileno(), False)
        pieces = iter(lambda: os.read(self._error.fileno(), 4096), b"")
        self._errors = _Errors(pieces, self._input.close)

    def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            _wait_for(self._input.fileno(), select.POLLOUT, SEND_SECONDS)
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(self._input.fileno(), rest[:PIECE_BYTES]) :]

    def receive(self, seconds: float) -> bytes:
        _wait_for(self._output.fileno(), select.POLLIN, seconds)
        return os.read(self._output.fileno(), PIECE_BYTES)

    def complaint(self) -> str:
        return self._errors.text()

    def finish(self, *, wait: bool) -> None:
        with contextlib.suppress(OSError):
            self._input.close()
        if not self._ends_within(END_SECONDS if wait else 5.0):
            self._output.close()  # it may wait for us to read what it says
            if not self._ends_within(5.0):
                return
        self._errors.text()
        self._output.close()
        self._error.close()

    def _ends_within(self, seconds: float) -> bool:
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def _wait_for(descriptor: int, what: int, seconds: float) -> None:
    waiting = select.poll()
    waiting.register(descriptor, what)
    if not waiting.poll(max(0.0, seconds) * 1000):
        raise TimeoutError


class _SshChannel:
    """A program at the end of a Fabric connection."""

    def __init__(self, address: Address, words: list[str]) -> None:
        self._link = _open_link(address)
        self._channel = self._link.connection.client.get_transport().open_session(timeout=self._link.route.seconds)
        self._channel.settimeout(self._link.route.silence_seconds)
        self._channel.exec_command(shlex.join(words))
        pieces = iter(lambda: self._channel.recv_stderr(4096), b"")
        self._errors = _Errors(pieces, self._channel.shutdown_write)

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


class _Link:
    """An open connection along a route, and the bastion it goes through."""

    def __init__(self, route: Route, password: str | None, bastion: _Link | None) -> None:
        from fabric import Config, Connection
        from paramiko import SSHConfig

        if not logging.getLogger("paramiko").handlers:
            logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # its threads would print tracebacks of lost links
        self.route = route
        self._bastion = bastion
        self._proxy = _Proxy(route.proxy_command) if route.proxy_command else None
        keys = _make_keys(route, password)
        known = find_known(route.known_hosts, route.known_name)
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
                "transport_factory": _transport_factory(known),
                "banner_timeout": route.seconds,
                "auth_timeout": route.seconds,
                "channel_timeout": route.seconds,
                **({"sock": self._proxy.socket} if self._proxy else {}),
            },
        )
        try:
            _trust(self.connection.client, route, known)
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
        self._errors = _Errors(iter(lambda: os.read(stderr, 4096), b""), lambda: None)

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
        self._links: dict[tuple[Wish, ...], tuple[_Link, int]] = {}

    def borrow(self, way: tuple[Wish, ...]) -> _Link | None:
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

    def give_back(self, link: _Link) -> None:
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


def _open_link(address: Address) -> _Link:
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


def _connect(name: str, route: Route, password: str | None, bastion: _Link | None) -> _Link:
    try:
        return _Link(route, password, bastion)
    except PercoreError:
        raise
    except Exception as error:
        raise _explain(name, route, error) from None


def _way_to(jump: Wish) -> tuple[Wish, ...]:
    way: tuple[Wish, ...] = ()
    for further in find_route(jump).jumps:
        at = jump_wish(further, jump)
        if at != jump:
            way = (*way, at)
    return way


# -- who we are, and who they are ------------------------------------------------------------------------------------

_reading_agent = threading.Lock()


def _make_keys(route: Route, password: str | None) -> Any:
    """The keys to try, in OpenSSH's order: the agent's that the configuration names, the others of the agent, the files."""
    from paramiko.auth_strategy import AuthStrategy, InMemoryPrivateKey, Password

    class Keys(AuthStrategy):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(ssh_config=None)
            self.locked: list[str] = []  # files that need a passphrase
            self._agent = _open_agent(route.agent)

        def close(self) -> None:
            if self._agent:
                self._agent.close()

        def get_sources(self) -> Iterator[Any]:
            named = set(map(_public_part, route.key_files))
            agent_keys = self._agent.get_keys() if self._agent else ()
            for key in sorted(agent_keys, key=lambda key: key.asbytes() not in named):
                if key.asbytes() in named or not route.only_named_keys:
                    yield InMemoryPrivateKey(route.user, key)
            for path in route.key_files:
                key = self._load(path)
                if key is not None:
                    yield InMemoryPrivateKey(route.user, key)
            if password is not None:
                yield Password(route.user, lambda: password)

        def _load(self, path: str) -> Any:
            from paramiko import PasswordRequiredException, PKey, SSHException
            from paramiko.pkey import UnknownKeyType

            try:
                key = PKey.from_path(path)
                if os.path.isfile(f"{path}-cert.pub"):
                    key.load_certificate(f"{path}-cert.pub")
                return key
            except (PasswordRequiredException, TypeError):  # TypeError: what the library under paramiko says of it
                self.locked.append(path)
            except (SSHException, UnknownKeyType, OSError, ValueError):
                pass  # not a key that can be used here; the others are tried
            return None

    return Keys()


def _open_agent(path: str | None) -> Any:
    """The agent at this socket, or None. Its library looks into the environment only."""
    from paramiko import Agent, SSHException

    if path is None:
        return None
    with _reading_agent:
        before = os.environ.get("SSH_AUTH_SOCK")
        os.environ["SSH_AUTH_SOCK"] = path
        try:
            return Agent()
        except (SSHException, OSError):
            return None
        finally:
            if before is None:
                del os.environ["SSH_AUTH_SOCK"]
            else:
                os.environ["SSH_AUTH_SOCK"] = before


def _public_part(path: str) -> bytes:
    """The public key beside a private one; empty when there is none."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return base64.b64decode(read_file(f"{path}.pub").split()[1])
    return b""


_NOT_KNOWN = "not found in known_hosts"


def _trust(client: Any, route: Route, known: Known) -> None:
    """Load the keys of known hosts; what is not among them is refused, or noted where that was asked for."""
    from paramiko import BadHostKeyException, HostKeys, MissingHostKeyPolicy, SSHException

    name = route.known_name
    _warn_once(known.passed_over)

    class Policy(MissingHostKeyPolicy):  # type: ignore[misc]
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
            verdict = known.judge(key.asbytes())
            if verdict == "known":
                return
            if verdict == "revoked":
                raise SSHException("the host key is revoked in known_hosts")
            if verdict == "changed":
                raise BadHostKeyException(hostname, key, key)
            if not (route.accept_new and route.known_hosts):
                raise SSHException(f"{_NOT_KNOWN}{'; '.join(['', *known.passed_over[:3]])}")
            text = f"{HostKeys.hash_host(name) if route.hash_names else name} {key.get_name()} {key.get_base64()}\n"
            _append_line(route.known_hosts[0], text)

    client.set_missing_host_key_policy(Policy())


_warned: set[str] = set()


def _warn_once(sentences: Iterable[str]) -> None:
    """Hosts share their files: of each line it is said once."""
    for sentence in sentences:
        if sentence not in _warned:
            _warned.add(sentence)
            print_line(f"warning: {sentence}; passed over")


def _transport_factory(known: Known) -> Any:
    """Asks for a kind of key that is known first: a host has several, and shows one."""
    from paramiko import Transport

    kinds = [kind for written in known.keys for kind in _signatures(written)]

    def make(sock: Any, **options: Any) -> Any:
        made = Transport(sock, **options)
        accepted = made.get_security_options()
        accepted.key_types = sorted(accepted.key_types, key=lambda kind: kind not in kinds)
        return made

    return make


def _signatures(kind: str) -> tuple[str, ...]:
    """The names under which a key of this kind is negotiated."""
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)


def _append_line(path: str, line: str) -> None:
    """In one write, so that two at once do not mix their lines."""
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    # O_NONBLOCK: a pipe in its place must not be waited for.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def _explain(host: str, route: Route, error: Exception) -> PercoreError:
    """What went wrong with a connection, in the operator's words."""
    from paramiko import AuthenticationException, BadHostKeyException

    place = f"{route.host}:{route.port}"
    files = route.known_hosts[0] if route.known_hosts else "~/.ssh/known_hosts"
    name = route.known_name
    if isinstance(error, BadHostKeyException):
        return PreflightError(
            f"the host key of {place} is not the known one ({error.key.get_name()}); this may be an attack",
            where=host,
            next=f"if the host was really set up anew, remove its old line: ssh-keygen -f {files} -R {shlex.quote(name)}",
        )
    said = getattr(error, "proxy_said", "").splitlines()
    text = said[-1] if said else str(getattr(error, "text", error)) or type(error).__name__
    if "is revoked" in text:
        return PreflightError(f"the host key of {place} is revoked in known_hosts; this may be an attack", where=host)
    if text.startswith(_NOT_KNOWN):
        port = "" if route.port == 22 else f"-p {route.port} "
        return PreflightError(
            f"the host key of {place} is not known{text[len(_NOT_KNOWN) :]}",
            where=host,
            next=f"compare and add it: ssh-keyscan {port}{shlex.quote(route.host)} >> {files}",
        )
    if isinstance(error, AuthenticationException):
        return _explain_refusal(host, place, route, error)
    if "banner" in text or "No existing session" in text:
        text = f"no SSH server said anything within {route.seconds} s"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else text
    reason = re.sub(r"^\[Errno [^]]*\] ", "", reason)
    return UnreachableError(
        f"{place} does not answer: {reason}", where=host, next="check that it is up, then try again"
    )


def _explain_refusal(host: str, place: str, route: Route, error: Exception) -> PercoreError:
    strategy = getattr(getattr(error, "result", None), "strategy", None)
    tried = len(getattr(error, "result", ()))
    locked = getattr(strategy, "locked", [])
    what = f"{place} does not let us log in as {route.user}: "
    if locked:
        return UnreachableError(
            f"{what}the key {locked[0]} has a passphrase", where=host, next=f"ssh-add {locked[0]}, then try again"
        )
    reason = f"{tried} keys or passwords were tried" if tried else "there is no key to try"
    return UnreachableError(f"{what}{reason}", where=host, next="check ansible_user and the key")
