"""Which user a connection over loopback comes from, as the kernel says."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Mapping
from typing import Any, Optional

_FILES = {4: "/proc/net/tcp", 6: "/proc/net/tcp6"}


def uid_of_client(environ: Mapping[str, Any]) -> Optional[int]:
    """None for another machine, and where the kernel does not tell."""
    try:
        address = ipaddress.ip_address(environ.get("REMOTE_ADDR", ""))
        port = int(environ.get("REMOTE_PORT", 0))
        server_port = int(environ.get("SERVER_PORT", 0))
    except (TypeError, ValueError):
        return None
    if not address.is_loopback:
        return None
    return _uid_of(_FILES[address.version], _written(address.packed), port, server_port)


def _uid_of(path: str, address: str, port: int, server_port: int) -> Optional[int]:
    wanted, to = f"{address}:{port:04X}", f":{server_port:04X}"
    try:
        with open(path) as lines:
            for line in lines:
                fields = line.split(None, 8)
                if fields[1] == wanted and fields[2].endswith(to):
                    return int(fields[7])
    except (OSError, ValueError, IndexError):
        pass
    return None


def _written(packed: bytes) -> str:
    """As /proc/net/tcp has it: 32-bit words in the byte order of the machine."""
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join((word[::-1] if sys.byteorder == "little" else word).hex().upper() for word in words)
