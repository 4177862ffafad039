"""A message to an address, and how its receiver knows that it is ours: the headers of Standard Webhooks, version 1."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
import urllib.request
import uuid


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A message that is signed for one address goes to no other, and a redirect would make a GET of it."""

    def redirect_request(self, *_: object) -> None:
        return None


def post(address: str, body: bytes, secret: str, seconds: float) -> None:
    """JSON, signed where there is a secret. Raises HTTPError for every answer but 2xx, OSError or ValueError for none."""
    headers = {"Content-Type": "application/json", "User-Agent": "percore"}
    if secret:
        headers.update(sign(secret, f"msg_{uuid.uuid4().hex}", int(time.time()), body))
    request = urllib.request.Request(address, body, headers)
    urllib.request.build_opener(_NoRedirects).open(request, timeout=seconds).close()


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
