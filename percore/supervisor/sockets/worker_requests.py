"""What a worker asks on the worker socket, typed when it is read. `bindshim.c` and `preload.cjs` write it."""

from __future__ import annotations

import re

from percore.common.typing import NamedTuple, Optional
from percore.supervisor.config.address import Address, NotShareable

LONGEST_REQUEST = 1024
_FORM = re.compile(
    rb"(?:(alone|closed|drain-me) ([0-9a-f]{1,100}) \d{1,10}"
    rb"|(bind|reserve|connect|unlink) ([0-9a-f]{1,100}) \d{1,10} (\d{1,3}) ([12]) ([01]) ((?:[0-9a-f]{2}){3,128}))\n"
)


class Request(NamedTuple):
    verb: str  # alone, closed, drain-me; bind, reserve, connect, unlink
    token: str
    address: Optional[Address] = None  # of the last four; None for one that is the program's own matter


def parse_request(line: bytes) -> Request:
    """Raises ValueError for anything that a worker of ours does not send."""
    found = _FORM.fullmatch(line)
    if not found:
        raise ValueError("it is none of the requests that a worker sends")
    verb, token, about, about_token, family, kind, v6only, raw = found.groups()
    if not about:
        return Request(verb.decode(), token.decode())
    try:
        address = Address.from_sockaddr(int(family), int(kind), v6only == b"1", bytes.fromhex(raw.decode()))
    except NotShareable:
        address = None
    return Request(about.decode(), about_token.decode(), address)
