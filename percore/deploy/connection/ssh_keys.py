"""Our keys, and the host's: which of ours are tried, in OpenSSH's order, and which of its own are trusted.

Host keys are always checked: an unknown one is refused, or with `StrictHostKeyChecking=accept-new` noted; a changed one is always
refused.
"""

from __future__ import annotations

import base64
import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from percore.common.bounds import read_file
from percore.deploy.connection.known_hosts import Known
from percore.deploy.connection.ssh_config import Route
from percore.deploy.report import print_line

NOT_KNOWN = "not found in known_hosts"

_changing_environment = threading.Lock()


def make_keys(route: Route, password: str | None) -> Any:
    """The keys to try, in OpenSSH's order: the agent's that the configuration names, the others of the agent, the files."""
    from paramiko.auth_strategy import AuthStrategy, InMemoryPrivateKey, Password

    class KeysToTry(AuthStrategy):  # type: ignore[misc]
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

    return KeysToTry()


def _open_agent(path: str | None) -> Any:
    """The agent at this socket, or None. Its library looks into the environment only."""
    from paramiko import Agent, SSHException

    if path is None:
        return None
    with _changing_environment:
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


def trust_host_keys(client: Any, route: Route, known: Known) -> None:
    """Load the keys of known hosts; what is not among them is refused, or added where the configuration allows that."""
    from paramiko import BadHostKeyException, HostKeys, MissingHostKeyPolicy, SSHException

    name = route.known_name
    _warn_once(known.passed_over)

    class HostKeyPolicy(MissingHostKeyPolicy):  # type: ignore[misc]
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
            verdict = known.judge(key.asbytes())
            if verdict == "known":
                return
            if verdict == "revoked":
                raise SSHException("the host key is revoked in known_hosts")
            if verdict == "changed":
                raise BadHostKeyException(hostname, key, key)
            if not (route.accept_new and route.known_hosts):
                raise SSHException(f"{NOT_KNOWN}{'; '.join(['', *known.passed_over[:3]])}")
            text = f"{HostKeys.hash_host(name) if route.hash_names else name} {key.get_name()} {key.get_base64()}\n"
            _append_line(route.known_hosts[0], text)

    client.set_missing_host_key_policy(HostKeyPolicy())


_warned: set[str] = set()


def _warn_once(sentences: Iterable[str]) -> None:
    """Hosts share their files: each line is warned about once."""
    for sentence in sentences:
        if sentence not in _warned:
            _warned.add(sentence)
            print_line(f"warning: {sentence}; ignored")


def transport_factory(known: Known) -> Any:
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
