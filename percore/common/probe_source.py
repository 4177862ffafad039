"""The loopback address from which a connection to a shared port reaches exactly one worker."""

from __future__ import annotations

import socket

CURRENT_NET = 127 << 24 | 77 << 16
INCOMING_NET = 127 << 24 | 76 << 16


def source_number(slot: int, *, incoming: bool = False) -> int:
    """The IPv4 address as a number; `incoming`: of the slot's replacement during a reload."""
    return (INCOMING_NET if incoming else CURRENT_NET) + slot + 1


def source_host(slot: int, *, incoming: bool = False) -> str:
    return socket.inet_ntoa(source_number(slot, incoming=incoming).to_bytes(4, "big"))
