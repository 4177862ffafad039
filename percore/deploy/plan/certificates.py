"""A certificate with its key, judged on the control machine before any host is touched."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from percore.common.bounds import read_file
from percore.deploy.masking import REDACTOR
from percore.deploy.vault.envelope import HEADER
from percore.deploy.vault.passwords import keyring
from percore.errors import UsageError

MARK = "-----BEGIN "
_MOST = 1 << 20


def tls_pair(certificate: object, key: object, days: object, project: object) -> str:
    """For templates: both as one PEM text, as NGINX and HAProxy read it. Each is PEM, or the path of a file that is.

    UsageError unless the key is that of the first certificate, and all are valid for so many days more.
    """
    chain = _certificates(_text(str(certificate), "tls_certificate", Path(str(project))))
    written_key = _text(str(key), "tls_key", Path(str(project)))
    _require_match(chain, _key(written_key))
    _require_valid(chain, int(str(days)))
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in chain) + written_key.strip() + "\n"


def ends_within(path: Path, days: int) -> bool:
    """Also where there is no certificate yet."""
    try:
        chain = _certificates(read_file(str(path), most=_MOST).decode(errors="replace"))
    except (OSError, UsageError):
        return True
    return min(each.not_valid_after_utc for each in chain) < _in_days(days)


def _text(value: str, name: str, project: Path) -> str:
    """A file may be encrypted as Ansible's vault does it; what it holds is never shown."""
    if not value.strip():
        advice = "set tls_certificate and tls_key, each PEM or a file, or tls_self_signed: true for a lab"
        raise UsageError(f"{name} is not set", next=advice)
    if MARK in value:
        return value
    path = project / Path(value.strip()).expanduser()
    try:
        content = read_file(str(path), most=_MOST).decode(errors="replace")
    except OSError as error:
        raise UsageError(f"{name}: file '{value.strip()}' cannot be read: {error.strerror}") from None
    if content.startswith(HEADER):
        content = keyring().open_bytes(content, str(path)).decode(errors="replace")
    if name == "tls_key":
        REDACTOR.hide_file(content)
    return content


def _certificates(text: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        what = "holds a key" if "PRIVATE KEY" in text else "holds no certificate as PEM"
        raise UsageError(f"tls_certificate {what}", next="the certificate comes first, then its chain") from None


def _key(text: str) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(text.encode(), password=None)
    except TypeError:
        advice = "NGINX cannot ask for it: openssl pkey -in KEY, then encrypt the variable with the vault"
        raise UsageError("tls_key has a passphrase", next=advice) from None
    except ValueError:
        what = "is a certificate" if "BEGIN CERTIFICATE" in text else "is no private key as PEM"
        raise UsageError(f"tls_key {what}", next="it begins with -----BEGIN PRIVATE KEY-----") from None


def _require_match(chain: Sequence[x509.Certificate], key: PrivateKeyTypes) -> None:
    own = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    keys = [each.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for each in chain]
    if own not in keys:
        raise UsageError("tls_key is not the key of tls_certificate", next="use the key that it was made with")
    if own != keys[0]:
        raise UsageError(
            "tls_certificate begins with a certificate of its chain", next="put the host's own certificate first"
        )
    for lower, upper in zip(chain, chain[1:]):
        if lower.issuer != upper.subject:
            name = upper.subject.rfc4514_string()
            raise UsageError(
                f"tls_certificate: '{name}' did not issue the certificate before it",
                next="after the host's own comes its issuer's, then that one's",
            )


def _require_valid(chain: Sequence[x509.Certificate], days: int) -> None:
    for each in chain:
        if each.not_valid_after_utc < _in_days(0):
            raise UsageError(f"tls_certificate ended on {each.not_valid_after_utc:%Y-%m-%d}", next="renew it")
        if each.not_valid_after_utc < _in_days(days):
            raise UsageError(
                f"tls_certificate ends on {each.not_valid_after_utc:%Y-%m-%d}, within {days} days",
                next="renew it, or lower tls_valid_days",
            )
        if each.not_valid_before_utc > _in_days(0):
            raise UsageError(
                f"tls_certificate begins on {each.not_valid_before_utc:%Y-%m-%d}", next="look at the clock"
            )


def _in_days(days: int) -> datetime:
    return datetime.now(timezone.utc) + timedelta(days=days)
