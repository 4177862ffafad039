"""Ansible Vault's envelope, versions 1.1 and 1.2 (vault ids): AES-256-CTR, an HMAC over the ciphertext, keys by PBKDF2.

Pure: texts and passwords in, texts out. Where passwords come from is in `keyring`.
"""

from __future__ import annotations

import binascii
import os
from dataclasses import dataclass
from functools import lru_cache

from percore.errors import UsageError

HEADER = "$ANSIBLE_VAULT;"
CIPHER = "AES256"
DEFAULT_ID = "default"
ROUNDS = 10_000
WIDTH = 80
SALT_BYTES = 32
BLOCK_BITS = 128


@dataclass(frozen=True)
class Sealed:
    """A value that is encrypted in its file (`!vault`). It is opened when it is used, not when it is read."""

    ciphertext: str
    place: str


@dataclass(frozen=True)
class Envelope:
    """The parts of a vault text."""

    vault_id: str
    salt: bytes
    signature: bytes
    encrypted: bytes


def parse_envelope(text: str, place: str) -> Envelope:
    """Raises UsageError for what is not a vault text, or one of a version or cipher that is out of use."""
    lines = text.strip().splitlines()
    fields = lines[0].strip().split(";") if lines else [""]
    if f"{fields[0]};" != HEADER or len(fields) < 3:
        raise UsageError("this is not a vault text", where=place, next=f"it should begin with {HEADER}1.1;{CIPHER}")
    version, cipher = fields[1], fields[2]
    if version not in ("1.1", "1.2") or cipher != CIPHER:
        raise UsageError(f"vault version {version} with cipher {cipher} is not supported", where=place)
    try:
        salt, signature, encrypted = (
            binascii.unhexlify(part)
            for part in binascii.unhexlify("".join(line.strip() for line in lines[1:])).split(b"\n")
        )
    except ValueError:
        raise UsageError("the vault text is damaged", where=place, next="take it from version control again") from None
    vault_id = fields[3] if version == "1.2" and len(fields) > 3 and fields[3] else DEFAULT_ID
    return Envelope(vault_id, salt, signature, encrypted)


def open_envelope(envelope: Envelope, password: bytes) -> bytes | None:
    """The plain bytes, or None when the password is not the right one."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.hmac import HMAC
    from cryptography.hazmat.primitives.padding import PKCS7

    cipher_key, hmac_key, counter = _keys(password, envelope.salt)
    check = HMAC(hmac_key, SHA256())
    check.update(envelope.encrypted)
    try:
        check.verify(envelope.signature)
    except InvalidSignature:
        return None
    padding = PKCS7(BLOCK_BITS).unpadder()
    return padding.update(_crypt(cipher_key, counter, envelope.encrypted)) + padding.finalize()


def seal(plain: bytes, password: bytes, vault_id: str = DEFAULT_ID) -> str:
    """The vault text of `plain`, without a line end at its end. The default id is written as version 1.1."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.hmac import HMAC
    from cryptography.hazmat.primitives.padding import PKCS7

    salt = os.urandom(SALT_BYTES)
    cipher_key, hmac_key, counter = _keys(password, salt)
    padding = PKCS7(BLOCK_BITS).padder()
    encrypted = _crypt(cipher_key, counter, padding.update(plain) + padding.finalize())
    signature = HMAC(hmac_key, SHA256())
    signature.update(encrypted)
    inner = b"\n".join(binascii.hexlify(part) for part in (salt, signature.finalize(), encrypted))
    body = binascii.hexlify(inner).decode()
    version = f"1.1;{CIPHER}" if vault_id == DEFAULT_ID else f"1.2;{CIPHER};{vault_id}"
    return "\n".join([f"{HEADER}{version}", *(body[start : start + WIDTH] for start in range(0, len(body), WIDTH))])


@lru_cache(maxsize=1024)
def _keys(password: bytes, salt: bytes) -> tuple[bytes, bytes, bytes]:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

    derived = PBKDF2HMAC(SHA256(), 32 + 32 + 16, salt, ROUNDS).derive(password)
    return derived[:32], derived[32:64], derived[64:]


def _crypt(key: bytes, counter: bytes, text: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CTR

    machine = Cipher(AES(key), CTR(counter)).encryptor()
    return machine.update(text) + machine.finalize()
