"""The entries of the descriptor store, read with types: their names as they are written, and what they hold."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence

from percore.common.typing import Any, NamedTuple, Optional
from percore.supervisor.config.address import Address

_KINDS = (int, int, str, int, bool)  # of the fields of an Address


class Entry(NamedTuple):
    owner: str  # the app, or of a channel the worker's token
    address: Optional[Address] = None  # None: it is a channel
    order: tuple[int, ...] = ()


def name_of(entry: Entry) -> str:
    return json.dumps([entry.owner, *entry.address, list(entry.order)] if entry.address else [entry.owner])


def read_entry(name: str) -> Entry:
    """Raises ValueError."""
    try:
        fields: Any = json.loads(name)
    except RecursionError:
        raise ValueError("its name is no list") from None
    if not isinstance(fields, list) or not fields or not isinstance(fields[0], str):
        raise ValueError("its name does not begin with an owner")
    owner, *rest = fields
    if not rest:
        return Entry(owner)
    *parts, order = rest
    if tuple(map(type, parts)) != _KINDS or not isinstance(order, list) or len(set(map(str, order))) != len(order):
        raise ValueError("its name holds no address")
    if not all(type(number) is int and 0 <= number < 1 << 16 for number in order):
        raise ValueError("its sockets have no numbers")
    return Entry(owner, Address(*parts), tuple(order))


def open_sockets(descriptors: Sequence[int]) -> list[socket.socket]:
    """Those that are sockets; the others are closed."""
    opened = []
    for descriptor in descriptors:
        try:
            opened.append(socket.socket(fileno=descriptor))
        except OSError:
            os.close(descriptor)
    return opened
