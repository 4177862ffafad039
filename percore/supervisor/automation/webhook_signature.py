"""How a receiver knows that a message is ours: the headers of Standard Webhooks, version 1."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac


def sign(secret: str, identifier: str, moment: int, body: bytes) -> dict[str, str]:
    """The headers of a message; `moment` in seconds since 1970."""
    signed = b".".join((identifier.encode(), str(moment).encode(), body))
    digest = hmac.new(_key_of(secret), signed, hashlib.sha256).digest()
    return {
        "webhook-id": identifier,
        "webhook-timestamp": str(moment),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _key_of(secret: str) -> bytes:
    """`whsec_` and base64 is the form of the standard; any other text is its own bytes."""
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret[len("whsec_") :], validate=True)
        except binascii.Error:
            pass
    return secret.encode()
