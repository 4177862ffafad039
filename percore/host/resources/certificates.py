"""From when to when the certificates of a file are valid. Python's `ssl` only tells that of a connection."""

from __future__ import annotations

import base64
import calendar
import re
import time
from collections.abc import Iterator
from typing import NamedTuple

from percore.errors import RolloutError
from percore.host.paths import open_for_reading

_PEM = re.compile(rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----(.+?)-----END", re.DOTALL)
_MOST = 1 << 20
_SEQUENCE, _UTC_TIME = 0x30, 0x17
_BEFORE_VALIDITY = 3
"""Fields of a certificate: serial number, algorithm, issuer; a version may come before them."""


class Validity(NamedTuple):
    """Seconds since the epoch."""

    begins: float
    ends: float


def require_valid(path: str, *, now: float) -> None:
    """RolloutError for a certificate of the file that ended, or has not begun; what cannot be read is NGINX's to judge."""
    with open_for_reading(path) as source:
        content = source.read(_MOST)
    for validity in _validities(content):
        if not validity.begins <= now < validity.ends:
            said = "ended on" if now >= validity.ends else "begins on"
            moment = time.strftime(
                "%Y-%m-%d %H:%M UTC", time.gmtime(validity.ends if now >= validity.ends else validity.begins)
            )
            raise RolloutError(f"the certificate in {path} {said} {moment}", next="renew it, then deploy again")


def _validities(content: bytes) -> Iterator[Validity]:
    for match in _PEM.finditer(content):
        try:
            yield _validity_of(base64.b64decode(match[1]))
        except (ValueError, IndexError, StopIteration):  # the last: a field is missing
            continue


def _validity_of(certificate: bytes) -> Validity:
    signed = next(_fields(next(_fields(certificate))[1]))[1]
    fields = [field for field in _fields(signed) if field[0] & 0xC0 != 0x80]  # without the version
    begins, ends = (_moment(*field) for field in _fields(fields[_BEFORE_VALIDITY][1]))
    return Validity(begins, ends)


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each value in a DER sequence."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, at = int.from_bytes(data[at : at + count], "big"), at + count
        yield tag, data[at : at + length]
        at += length


def _moment(tag: int, value: bytes) -> float:
    """Two digits are a year from 1950 to 2049."""
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ"))
