"""The host's keys and certificates: which are asked for, and which are trusted.

Host keys are always checked: an unknown one is refused, or with `StrictHostKeyChecking=accept-new` noted; a changed one is always
refused. Of a certificate that proves nothing, the key in it counts, as for OpenSSH.
"""

from __future__ import annotations

import base64
import functools
import os
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from percore.common.bounds import read_file
from percore.common.passwords import for_programs
from percore.deploy.connection.openssh.config import Route
from percore.deploy.connection.openssh.known_hosts import Known
from percore.deploy.report import print_line
from percore.errors import PreflightError

NOT_KNOWN = "not found in known_hosts"
REVOKED = "the host key is revoked"
CERTIFICATE = "-cert-v01@openssh.com"
_REVOCATION_LIST = b"SSHKRL\n\0"

_SIGNATURES = (
    *("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    *("rsa-sha2-512", "rsa-sha2-256"),
)
"""Of an authority: OpenSSH's CASignatureAlgorithms, which have no SHA-1."""


def check_host_key(route: Route, known: Known, key: Any) -> None:
    """What is not known is refused, or added where the configuration allows that."""
    from paramiko import BadHostKeyException, HostKeys, SSHException

    verdict, why = _judge(route, known, key)
    if verdict == "known":
        return
    if verdict == "revoked":
        raise SSHException(f"{REVOKED} in {why[0]}")
    if verdict == "changed":
        raise BadHostKeyException(route.host, key, key)
    if not (route.accept_new and route.known_hosts):
        raise SSHException(f"{NOT_KNOWN}{'; '.join(['', *why, *known.passed_over[:3]])}")
    name = HostKeys.hash_host(route.known_name) if route.hash_names else route.known_name
    _append_line(route.known_hosts[0], f"{name} {key.get_name()} {key.get_base64()}\n")


def make_transport(link: Any, known: Known) -> Any:
    """A transport over a socket that asks for what is known first: a host has keys of several kinds, and shows one."""
    transport = _asking_transport()(link)
    transport.known = known
    return transport


@functools.cache
def _asking_transport() -> Any:
    from paramiko import Transport

    class AskingTransport(Transport):  # type: ignore[misc]
        known: Known

        @property
        def preferred_keys(self) -> tuple[str, ...]:
            kinds = [kind for written in (*self.known.keys, *self.known.elsewhere) for kind in _signatures(written)]
            asked: tuple[str, ...] = super().preferred_keys
            certificates = [kind for kind in asked if kind.endswith(CERTIFICATE)]
            plain = sorted((kind for kind in asked if kind not in certificates), key=lambda kind: kind not in kinds)
            return (*certificates, *plain) if self.known.authorities else (*plain, *certificates)

    return AskingTransport


def _signatures(kind: str) -> tuple[str, ...]:
    """The names under which a key of this kind is negotiated."""
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)


# -- certificates ----------------------------------------------------------------------------------------------------


def _judge(route: Route, known: Known, key: Any) -> tuple[str, list[str]]:
    """As `Known.judge`, and what to say besides."""
    certificate = key.public_blob.key_blob if key.public_blob else None
    shown = [key.asbytes(), *([_authority(certificate)] if certificate else [])]
    if any(each in known.revoked for each in shown):
        return "revoked", ["known_hosts"]
    if route.revoked_keys and any(_is_revoked(each, route.revoked_keys) for each in shown):
        return "revoked", [route.revoked_keys]
    verdict = known.judge(key.asbytes())
    if verdict == "known" or not known.authorities:
        return verdict, []
    if certificate is None:
        return verdict, ["a certificate authority is, but the host shows no certificate"]
    fault = find_fault(certificate, route.bare_name, known.authorities, time.time())
    return (verdict, [f"its certificate {fault}"]) if fault else ("known", [])


def find_fault(certificate: bytes, name: str, authorities: Collection[bytes], now: float) -> str:
    """Why a certificate does not prove to be the host `name`; empty where it does."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import SSHCertificateType

    found = parse_certificate(certificate)
    if found is None:
        return "cannot be read"
    names = [each.decode(errors="replace") for each in found.valid_principals]
    if wire_format(found.signature_key()) not in authorities:
        return "is signed by another authority"
    if not any(_ends_with_signature(certificate, kind) for kind in _SIGNATURES):
        return "is signed in a way that is not trusted"
    try:
        found.verify_cert_signature()
    except InvalidSignature:
        return "has a wrong signature"
    if found.type is not SSHCertificateType.HOST:
        return "is not one for hosts"
    if found.critical_options:
        return "has critical options, which hosts cannot have"
    if not found.valid_after <= now < found.valid_before:
        return "has expired" if now >= found.valid_before else "is not valid yet"
    if names and name.lower() not in names:
        return f"is for {', '.join(names[:3])}"
    return ""


def parse_certificate(certificate: bytes) -> Any:
    """None for what is no certificate, or one of a kind that is not known."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

    size = int.from_bytes(certificate[:4], "big")
    try:
        found = load_ssh_public_identity(certificate[4 : 4 + size] + b" " + base64.b64encode(certificate))
    except (ValueError, UnsupportedAlgorithm):
        return None
    return found if isinstance(found, SSHCertificate) else None


def _authority(certificate: bytes) -> bytes:
    found = parse_certificate(certificate)
    return wire_format(found.signature_key()) if found else b""


def wire_format(key: Any) -> bytes:
    """A public key as known_hosts has it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return base64.b64decode(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])


def _ends_with_signature(certificate: bytes, kind: str) -> bool:
    """Its last string is the signature: the name of an algorithm, and what that made."""
    head = len(kind).to_bytes(4, "big") + kind.encode()
    start = certificate.rfind(head) + len(head)
    return start > len(head) and int.from_bytes(certificate[start : start + 4], "big") == len(certificate) - start - 4


def _is_revoked(key: bytes, path: str) -> bool:
    """`path` holds public keys, one a line, or a list that only ssh-keygen can read."""
    try:
        content = read_file(path)
    except OSError as error:
        raise _unread(path, str(error.strerror)) from None
    if not content.startswith(_REVOCATION_LIST):
        return base64.b64encode(key) in content.split()
    size = int.from_bytes(key[:4], "big")
    with tempfile.TemporaryDirectory(prefix="percore-") as directory:
        public = Path(directory, "key.pub")
        public.write_bytes(key[4 : 4 + size] + b" " + base64.b64encode(key) + b"\n")
        try:
            words = ["ssh-keygen", "-Q", "-f", path, str(public)]
            done = subprocess.run(words, capture_output=True, text=True, check=False, env=for_programs())
        except OSError as error:
            raise _unread(path, f"ssh-keygen: {error.strerror}") from None
    if done.returncode != 0 and "REVOKED" not in done.stdout:
        raise _unread(path, (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return done.returncode != 0


def _unread(path: str, reason: str) -> PreflightError:
    return PreflightError(f"the revoked host keys cannot be read: {reason}", where=path, next="see RevokedHostKeys")


# -- known_hosts -----------------------------------------------------------------------------------------------------


_warned: set[str] = set()


def warn_once(sentences: Iterable[str]) -> None:
    """Hosts share their files: each line is warned about once."""
    for sentence in sentences:
        if sentence not in _warned:
            _warned.add(sentence)
            print_line(f"warning: {sentence}; ignored")


def _append_line(path: str, line: str) -> None:
    """In one write, so that two at once do not mix their lines."""
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    # O_NONBLOCK: a pipe in its place must not be waited for.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
