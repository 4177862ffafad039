"""One connection to one host, and the agent that runs at its other end. The only place that knows Fabric.

`connect` gives a `Remote`: over SSH, or on this machine for `ansible_connection: local`. Either starts the same agent
from streamed source and speaks the same messages, so nothing above this module asks where a host is.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Protocol

import percore
from percore.errors import (
    LockedError,
    PartialError,
    PercoreError,
    PreflightError,
    RolloutError,
    UnreachableError,
    UsageError,
)

Event = dict[str, Any]
OnEvent = Callable[[Event], None]
Part = bytes | Path

CONNECT_SECONDS = 10
SILENCE_SECONDS = 15.0
"""The agent says every few seconds that it lives; so long without a word, and the link is cut."""

ALIVE_SECONDS = 5.0
"""How often we tell an agent that has nothing to do that we are still there."""

END_SECONDS = 60.0
PIECE_BYTES = 1 << 18
AGENT_MODULES = (
    "percore/__init__.py",
    "percore/errors.py",
    "percore/host/__init__.py",
    "percore/host/facts.py",
    "percore/host/lock.py",
    "percore/host/resources.py",
    "percore/host/release.py",
    "percore/host/health.py",
    "percore/host/processes.py",
    "percore/host/activation.py",
    "percore/host/agent.py",
)

LOADER = "import sys,zlib;i=sys.stdin.buffer;exec(zlib.decompress(i.read(int(i.readline()))).decode())"
"""All that stands on the host's command line: read the program's length and the program, then run it."""

BOOT = """\
import importlib.abc, importlib.util, sys

SOURCES = {sources!r}


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        for module in (name, name + '.__init__'):
            if module in SOURCES:
                return importlib.util.spec_from_loader(name, self, is_package=module != name)

    def exec_module(self, module):
        name = module.__name__ if module.__name__ in SOURCES else module.__name__ + '.__init__'
        exec(compile(SOURCES[name], '<agent ' + name + '>', 'exec'), module.__dict__)


sys.meta_path.insert(0, Finder())
from percore.host.agent import main
main()
"""


@dataclass(frozen=True)
class Address:
    """Where and how to reach a host: Ansible's own variables, under short names."""

    host: str
    address: str
    local: bool
    port: int | None
    user: str | None
    key_file: str | None
    known_hosts: tuple[str, ...]
    proxy_command: str | None
    become: bool
    become_user: str
    python: str


def read_address(host: str, variables: Mapping[str, Any]) -> Address:
    """UsageError for an SSH option that is not understood: dropping it silently could reach another host."""
    options = parse_ssh_options(str(variables.get("ansible_ssh_common_args") or ""), host)
    local = variables.get("ansible_connection") == "local"
    return Address(
        host=host,
        address=str(variables.get("ansible_host") or host),
        local=local,
        port=_port(variables.get("ansible_port"), host),
        user=_optional(variables.get("ansible_user")),
        key_file=_optional(variables.get("ansible_ssh_private_key_file") or options.get("identityfile")),
        known_hosts=tuple(options.get("userknownhostsfile", "").split()),
        proxy_command=options.get("proxycommand"),
        become=bool(variables.get("ansible_become", False)),
        become_user=str(variables.get("ansible_become_user") or "root"),
        python=str(
            variables.get("ansible_python_interpreter") or (os.path.realpath(sys.executable) if local else "python3")
        ),
    )


SSH_OPTIONS = {"userknownhostsfile", "proxycommand", "identityfile", "stricthostkeychecking", "identitiesonly"}


def parse_ssh_options(text: str, host: str) -> dict[str, str]:
    """`-o Name=value` words of ansible_ssh_common_args, names in lower case."""
    options: dict[str, str] = {}
    words = iter(shlex.split(text))
    for word in words:
        if word == "-i":
            options["identityfile"] = next(words, "")
            continue
        pair = next(words, "") if word == "-o" else word[2:]
        name, _, value = pair.replace(" ", "=", 1).partition("=") if "=" not in pair else pair.partition("=")
        if not word.startswith("-o") or name.lower() not in SSH_OPTIONS:
            raise UsageError(
                f"ansible_ssh_common_args: '{word if not word.startswith('-o') else name}' is not understood",
                where=f"host {host}",
                next="put it into ~/.ssh/config, which is read",
            )
        options[name.lower()] = value
    if options.get("stricthostkeychecking", "yes") not in ("yes", "ask"):
        raise UsageError(
            "ansible_ssh_common_args: host keys are always checked; StrictHostKeyChecking cannot be turned off",
            where=f"host {host}",
            next="put the host's key into known_hosts",
        )
    return options


class Channel(Protocol):
    """Bytes to and from the agent, whatever lies between."""

    def send(self, data: bytes) -> None: ...

    def lines(self) -> Iterator[bytes]: ...

    def finish(self, *, wait: bool) -> None: ...

    def complaint(self) -> str: ...


class Remote:
    """One host with its running agent. Made by `connect`; `facts` are what the agent said first."""

    def __init__(self, address: Address, channel: Channel) -> None:
        self.address = address
        self.host = address.host
        self._channel = channel
        self._lines = channel.lines()
        self._closed = threading.Event()
        self._asking = threading.Lock()
        self._send(_program())
        self.facts: dict[str, Any] = self._next()["facts"]
        threading.Thread(target=self._keep_alive, daemon=True).start()

    def ask(
        self, op: str, *, parts: Mapping[str, Part] | None = None, on_event: OnEvent | None = None, **message: Any
    ) -> dict[str, Any]:
        """One message, its whole answer. Raises the error that the host reports, with the host's name in it."""
        with self._asking:
            self._send(json.dumps({"op": op, **message}).encode() + b"\n")
            return self._answer(parts or {}, on_event)

    def _answer(self, parts: Mapping[str, Part], on_event: OnEvent | None) -> dict[str, Any]:
        while True:
            event = self._next()
            if event["event"] == "need":
                for sha256 in event["parts"]:
                    self._send_part(parts[sha256])
            elif event["event"] == "result":
                if not event["ok"]:
                    raise remote_error(self.host, event["error"])
                return event
            elif on_event is not None and event["event"] != "alive":
                on_event(event)

    def _keep_alive(self) -> None:
        """An empty line now and then while nothing is asked: within a message it would be taken for its parts."""
        while not self._closed.wait(ALIVE_SECONDS):
            if self._asking.acquire(blocking=False):
                try:
                    self._channel.send(b"\n")
                except (OSError, EOFError):
                    return
                finally:
                    self._asking.release()

    def close(self, *, wait: bool = False) -> None:
        """End of input: the agent takes back what was not confirmed, frees the lock, and ends; `wait` for all that."""
        if not self._closed.is_set():
            self._closed.set()
            with contextlib.suppress(OSError, EOFError):
                self._channel.finish(wait=wait)

    def _send(self, data: bytes) -> None:
        try:
            self._channel.send(data)
        except (OSError, EOFError) as error:
            raise self._lost(str(error)) from None

    def _send_part(self, part: Part) -> None:
        if isinstance(part, bytes):
            self._send(part)
            return
        with part.open("rb") as source:
            for piece in iter(lambda: source.read(PIECE_BYTES), b""):
                self._send(piece)

    def _next(self) -> Event:
        try:
            line = next(self._lines, b"")
        except TimeoutError:
            raise self._lost(f"nothing was heard for {SILENCE_SECONDS:g} s, the link is cut") from None
        except (OSError, EOFError) as error:
            raise self._lost(str(error)) from None
        if not line.endswith(b"\n"):
            raise self._lost(line.decode(errors="replace").strip())
        try:
            event: Event = json.loads(line)
        except ValueError:
            raise self._lost(line.decode(errors="replace").strip()) from None
        return event

    def _lost(self, said: str) -> PercoreError:
        complaint = self._channel.complaint() or said
        last = complaint.strip().splitlines()[-1] if complaint.strip() else "the connection was lost"
        if "sudo" in complaint and "password" in complaint:
            return UnreachableError(
                "sudo asks for a password",
                where=self.host,
                next="allow this user NOPASSWD in sudoers, or log in as root",
            )
        if "not found" in complaint or "No such file" in complaint:
            return PreflightError(
                last, where=self.host, next="install python3 there, or set ansible_python_interpreter"
            )
        return UnreachableError(
            last, where=self.host, next="look at the host, then try again", detail=complaint.strip()
        )


def connect(address: Address, *, project: Path) -> Remote:
    """Reach a host and start its agent; UnreachableError or PreflightError in one line when that fails."""
    channel: Channel = _LocalChannel(address, project) if address.local else _SshChannel(address)
    try:
        return Remote(address, channel)
    except BaseException:
        with contextlib.suppress(OSError, EOFError):
            channel.finish(wait=False)
        raise


def remote_error(host: str, error: Mapping[str, Any]) -> PercoreError:
    """The host's error as the same class here, told apart by its exit code."""
    kinds: list[type[PercoreError]] = [
        UsageError, PreflightError, RolloutError, PartialError, LockedError, UnreachableError,
    ]  # fmt: skip
    kind = next((kind for kind in kinds if kind.exit_code == error["exit_code"]), PercoreError)
    where = f"{host}: {error['where']}" if error.get("where") else host
    return kind(
        error["what"], where=where, next=error.get("next", ""), detail=error.get("detail") or error.get("trace", "")
    )


def agent_command(address: Address) -> list[str]:
    words = [address.python, "-I", "-S", "-c", LOADER]
    if address.become:
        words = ["sudo", "-n", "-H", "-u", address.become_user, "--", *words]
    return words


@cache
def _program() -> bytes:
    """The agent's whole source with a loader for it, compressed, behind its length."""
    root = Path(percore.__file__).parent.parent
    sources = {name[: -len(".py")].replace("/", "."): (root / name).read_text() for name in AGENT_MODULES}
    packed = zlib.compress(BOOT.format(sources=sources).encode())
    return f"{len(packed)}\n".encode() + packed


class _LocalChannel:
    """The agent as a child process of ours, in a session of its own so that Ctrl-C here does not end it halfway."""

    def __init__(self, address: Address, project: Path) -> None:
        self._said = ""
        try:
            self._child = subprocess.Popen(
                agent_command(address),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=project,
                start_new_session=True,
            )
        except OSError as error:
            raise PreflightError(
                f"cannot start '{agent_command(address)[0]}': {error.strerror}",
                where=address.host,
                next="set ansible_python_interpreter",
            ) from None

    def send(self, data: bytes) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(data)
        self._child.stdin.flush()

    def lines(self) -> Iterator[bytes]:
        assert self._child.stdout is not None
        return iter(self._child.stdout.readline, b"")

    def complaint(self) -> str:
        if not self._said and self._child.stderr is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(1)
                self._said = self._child.stderr.read().decode(errors="replace")
        return self._said

    def finish(self, *, wait: bool) -> None:
        with contextlib.suppress(OSError):
            if self._child.stdin is not None:
                self._child.stdin.close()
        try:
            self._child.wait(END_SECONDS if wait else 5.0)
        except subprocess.TimeoutExpired:
            return
        for pipe in (self._child.stdout, self._child.stderr):
            if pipe is not None:
                pipe.close()


class _SshChannel:
    """The agent at the end of a Fabric connection; host keys must be known."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection = _open_connection(address)
        self._channel = self._connection.client.get_transport().open_session(timeout=CONNECT_SECONDS)
        self._channel.settimeout(SILENCE_SECONDS)
        self._channel.exec_command(shlex.join(agent_command(address)))
        self._errors = bytearray()
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    def send(self, data: bytes) -> None:
        self._channel.sendall(data)

    def lines(self) -> Iterator[bytes]:
        source: IO[bytes] = self._channel.makefile("rb")
        return iter(source.readline, b"")

    def complaint(self) -> str:
        self._reader.join(1.0)
        return self._errors.decode(errors="replace")

    def finish(self, *, wait: bool) -> None:
        self._channel.shutdown_write()
        if wait:
            self._channel.status_event.wait(END_SECONDS)
        self._connection.close()

    def _read_errors(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            for piece in iter(lambda: self._channel.recv_stderr(4096), b""):
                self._errors += piece


def _open_connection(address: Address) -> Any:
    """A Fabric connection with the user's own SSH configuration, that refuses host keys nobody vouched for."""
    from fabric import Connection  # type: ignore[import-untyped]
    from paramiko import RejectPolicy  # type: ignore[import-untyped]

    logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # its threads would print tracebacks of lost links

    keys = {"key_filename": os.path.expanduser(address.key_file)} if address.key_file else {}
    try:
        connection = Connection(
            address.address,
            user=address.user,
            port=address.port,
            gateway=_expand(address),
            connect_timeout=CONNECT_SECONDS,
            connect_kwargs={**keys, "banner_timeout": CONNECT_SECONDS, "auth_timeout": CONNECT_SECONDS},
        )
        connection.client.set_missing_host_key_policy(RejectPolicy())
        for path in address.known_hosts or ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts"):
            _load_known_hosts(connection.client, os.path.expanduser(path), required=bool(address.known_hosts))
        connection.open()
    except PercoreError:
        raise
    except Exception as error:
        raise _explain(address, error) from None
    return connection


def _expand(address: Address) -> str | None:
    """A proxy command with its user filled in, as OpenSSH does; Fabric fills in host and port."""
    command = address.proxy_command
    if command is None or command == "none":
        return None
    return command.replace("%r", address.user) if address.user else command


def _load_known_hosts(client: Any, path: str, *, required: bool) -> None:
    try:
        client.load_system_host_keys(path)
    except FileNotFoundError:
        if required:
            raise PreflightError(
                "the known_hosts file does not exist", where=path, next="see UserKnownHostsFile"
            ) from None


def _explain(address: Address, error: Exception) -> PercoreError:
    """What went wrong with a connection, in the operator's words."""
    from paramiko import AuthenticationException, BadHostKeyException, PasswordRequiredException

    place = f"{address.address}:{address.port or 22}"
    files = ", ".join(address.known_hosts) or "~/.ssh/known_hosts"
    if isinstance(error, BadHostKeyException):
        return PreflightError(
            f"the host key of {place} is not the known one ({error.key.get_name()}); this may be an attack",
            where=address.host,
            next=f"if the host was really set up anew, remove its old line: ssh-keygen -f {files} -R {address.address}",
        )
    text = str(error) or type(error).__name__
    if "not found in known_hosts" in text:
        return PreflightError(
            f"the host key of {place} is not known",
            where=address.host,
            next=f"compare and add it: ssh-keyscan {address.address} >> {files}",
        )
    if isinstance(error, (AuthenticationException, PasswordRequiredException)):
        user = f" as {address.user}" if address.user else ""
        return UnreachableError(
            f"{place} does not let us log in{user}: {text.rstrip('.')}",
            where=address.host,
            next="check ansible_user and the key",
        )
    if "banner" in text or "No existing session" in text:
        text = f"no SSH server said anything within {CONNECT_SECONDS} s"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else text
    reason = re.sub(r"^\[Errno [^]]*\] ", "", reason)
    return UnreachableError(
        f"{place} does not answer: {reason}", where=address.host, next="check that it is up, then try again"
    )


def _optional(value: object) -> str | None:
    return None if value in (None, "") else str(value)


def _port(value: object, host: str) -> int | None:
    if value in (None, ""):
        return None
    try:
        return int(str(value))
    except ValueError:
        raise UsageError(f"ansible_port should be a number and is {value!r}", where=f"host {host}") from None
