"""Our keys and certificates: which are tried, in OpenSSH's order."""

from __future__ import annotations

import base64
import contextlib
import copy
import functools
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from percore.common.bounds import read_file
from percore.deploy.connection.openssh.config import Route
from percore.deploy.connection.openssh.host_keys import CERTIFICATE, parse_certificate, wire_format

MORE = "the host asks for more"

_OPENSSH = b"openssh-key-v1\0"

_changing_environment = threading.Lock()


def make_keys(route: Route, password: str | None) -> Any:
    """What to log in with: certificates, the agent's keys that the configuration names, its others, the files, a password."""
    return _keys_to_try()(route, password)


@functools.cache
def _keys_to_try() -> Any:
    from paramiko.auth_strategy import AuthStrategy, InMemoryPrivateKey, Password

    class KeysToTry(AuthStrategy):  # type: ignore[misc]
        def __init__(self, route: Route, password: str | None) -> None:
            super().__init__(ssh_config=None)
            self._route, self._password = route, password
            self.files = _KeyFiles()
            self._agent = _open_agent(route.agent)

        def close(self) -> None:
            if self._agent:
                self._agent.close()

        def get_sources(self) -> Iterator[Any]:
            held = [_as_held(key) for key in self._agent.get_keys()] if self._agent else []
            offered: set[bytes] = set()
            for key in _keys_in_order(self._route, held, self.files):
                if _offer(key) not in offered:
                    offered.add(_offer(key))
                    yield InMemoryPrivateKey(self._route.user, key)
            if self._password is not None:
                yield Password(self._route.user, lambda: self._password)

        def authenticate(self, transport: Any) -> Any:
            """A host may want a key and a password: each of our sources may be one step of several."""
            return super().authenticate(_Steps(transport))

    return KeysToTry


class _Steps:
    """A transport whose log-in fails as long as the host wants one more step."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def auth_publickey(self, user: str, key: Any) -> Any:
        return self._done(self._transport.auth_publickey(user, key))

    def auth_password(self, user: str, password: str) -> Any:
        return self._done(self._transport.auth_password(user, password))

    def _done(self, wanted: Sequence[str]) -> Sequence[str]:
        from paramiko import SSHException

        if wanted:
            raise SSHException(f"{MORE}: {', '.join(wanted)}")
        return wanted


def _keys_in_order(route: Route, held: Sequence[Any], files: _KeyFiles) -> Iterator[Any]:
    from paramiko.agent import AgentKey

    named = {path: part for path in route.key_files if (part := public_part(path))}
    certificates = [found for path in _certificate_files(route) if (found := _read_certificate(path))]
    plain_keys = [key for key in held if not key.get_name().endswith(CERTIFICATE)]
    for blob, plain in certificates:
        in_agent = next((key for key in plain_keys if key.asbytes() == plain), None)
        path = next((path for path, part in named.items() if part == plain), "")
        key = AgentKey(in_agent.agent, in_agent.blob) if in_agent else files.load(path)
        if key is not None:
            yield _certified(key, blob)
    ours = {*named.values(), *(blob for blob, _ in certificates)}
    for key in sorted(held, key=lambda key: _parts(key).isdisjoint(ours)):
        if not (route.only_named_keys and _parts(key).isdisjoint(ours)):
            yield key
    for path in route.key_files:
        key = files.load(path)
        if key is not None:
            yield key


def _parts(key: Any) -> set[bytes]:
    """What an agent's key is named by: itself, and where it is a certificate the key in it."""
    plain = _plain_part(key.asbytes())
    return {key.asbytes(), plain} if plain else {key.asbytes()}


def _offer(key: Any) -> bytes:
    blob: bytes = key.public_blob.key_blob if key.public_blob else key.asbytes()
    return blob


# -- files -----------------------------------------------------------------------------------------------------------


class _KeyFiles:
    """Private keys, each read once. `locked` have a passphrase; `unusable` is why others are not used."""

    def __init__(self) -> None:
        self.locked: list[str] = []
        self.unusable: list[str] = []
        self._loaded: dict[str, Any] = {}

    def load(self, path: str) -> Any:
        """A new key object; None for what cannot be used, so that the others are tried."""
        if path not in self._loaded:
            self._loaded[path] = self._read(path) if os.path.isfile(path) and not _is_public(path) else None
        return copy.copy(self._loaded[path])

    def _read(self, path: str) -> Any:
        from cryptography.exceptions import UnsupportedAlgorithm

        try:
            return _make_key(read_file(path))
        except _Locked:
            self.locked.append(path)
        except OSError as error:
            self.unusable.append(f"{path} cannot be read: {error.strerror}")
        except (ValueError, TypeError, UnsupportedAlgorithm):
            self.unusable.append(f"{path} is no key that can be used without an agent")
        return None


class _Locked(Exception):
    """A key that needs a passphrase."""


def _read_private(content: bytes) -> Any:
    """OpenSSH's own form, or PEM: PKCS#1, SEC 1, PKCS#8."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    load = load_ssh_private_key if b"BEGIN OPENSSH PRIVATE KEY" in content else load_pem_private_key
    try:
        return load(content, None)
    except (TypeError, ValueError) as error:
        if isinstance(error, TypeError) or "password" in str(error).lower():
            raise _Locked from None
        raise


@functools.lru_cache(maxsize=8)
def _make_key(content: bytes) -> Any:
    """Whatever form it lies in, paramiko reads OpenSSH's. Raises ValueError for a kind it does not know."""
    import io

    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from paramiko import ECDSAKey, Ed25519Key, RSAKey

    private = _read_private(content)
    kind = wire_format(private.public_key())[4:].split(b"\0")[0]
    maker = RSAKey if b"rsa" in kind else ECDSAKey if b"ecdsa" in kind else Ed25519Key
    text = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return maker.from_private_key(io.StringIO(text))


def public_part(path: str) -> bytes:
    """Of a key file, in or beside it, also where the private part is locked or elsewhere; empty when there is none."""
    return _inside(path) or _public_line(path) or _public_line(f"{path}.pub")


def _inside(path: str) -> bytes:
    """OpenSSH's form has the public part in clear: behind its mark, three texts of the encryption, and a number."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = read_file(path).strip().splitlines()
        content = base64.b64decode(b"".join(lines[1:-1])) if b"OPENSSH PRIVATE KEY" in lines[0] else b""
        if content.startswith(_OPENSSH):
            rest = content[len(_OPENSSH) :]
            for _ in range(3):
                rest = rest[4 + int.from_bytes(rest[:4], "big") :]
            return rest[8 : 8 + int.from_bytes(rest[4:8], "big")]
    return b""


def _public_line(path: str) -> bytes:
    """`KIND BASE64 comment`: the key, or of a certificate the key in it."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        kind, written = read_file(path).split()[:2]
        blob = base64.b64decode(written, validate=True)
        if blob[4:].startswith(kind):
            return _plain_part(blob) or blob
    return b""


def _is_public(path: str) -> bool:
    return bool(_public_line(path))


# -- certificates ----------------------------------------------------------------------------------------------------


def _certificate_files(route: Route) -> list[str]:
    beside = [f"{path.removesuffix('.pub')}-cert.pub" for path in route.key_files]
    return [path for path in dict.fromkeys([*route.certificates, *beside]) if os.path.isfile(path)]


def _read_certificate(path: str) -> tuple[bytes, bytes] | None:
    """The certificate, and the public key that it certifies."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        blob = base64.b64decode(read_file(path).split()[1])
        plain = _plain_part(blob)
        return (blob, plain) if plain else None
    return None


def _plain_part(blob: bytes) -> bytes:
    found = parse_certificate(blob)
    return wire_format(found.public_key()) if found else b""


def _as_held(key: Any) -> Any:
    """The library takes an agent's certificate for the key in it, which the agent need not have."""
    if key.get_name().endswith(CERTIFICATE):
        key.inner_key = None
        key.public_blob = None  # before paramiko 5 it has none without that key
    return key


def _certified(key: Any, certificate: bytes) -> Any:
    from paramiko import Message
    from paramiko.pkey import PublicBlob

    key.public_blob = PublicBlob.from_message(Message(certificate))
    return key


# -- the agent -------------------------------------------------------------------------------------------------------


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
