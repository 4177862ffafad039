"""What a program asks to bind."""

from __future__ import annotations

import os
import socket

from percore.errors import PercoreError
from percore.hints import NamedTuple, Optional

_LONGEST_PATH = 107
_ANY: dict[int, str] = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}


class Address(NamedTuple):
    """What a program asked to bind. `host` is a numeric address, or a path for AF_UNIX (then `port` is 0)."""

    family: int
    type: int
    host: str
    port: int
    v6only: bool = False

    def __str__(self) -> str:
        if self.family == socket.AF_UNIX:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" + ("/udp" if self.type == socket.SOCK_DGRAM else "")

    @classmethod
    def from_sockaddr(cls, family: int, kind: int, v6only: bool, raw: bytes) -> Address:
        """From the bytes of a `struct sockaddr`; raises ValueError for a family that cannot be shared."""
        if family == socket.AF_INET:
            return cls(family, kind, socket.inet_ntop(family, raw[4:8]), int.from_bytes(raw[2:4], "big"))
        if family == socket.AF_INET6:
            port = int.from_bytes(raw[2:4], "big")
            if any(raw[24:28]):
                raise ValueError("an address of one interface only")
            return cls(family, kind, socket.inet_ntop(family, raw[8:24]), port, v6only)
        if family == socket.AF_UNIX:
            return cls(family, kind, os.fsdecode(raw[2:].split(b"\0", 1)[0]), 0)
        raise ValueError(f"address family {family}")

    @property
    def can_steer(self) -> bool:
        return self.type == socket.SOCK_STREAM and self.family in (socket.AF_INET, socket.AF_INET6)

    @property
    def probe_host(self) -> Optional[str]:
        """The address at which the supervisor reaches this listener, over IPv4 where it can; None for UDP and paths."""
        if not self.can_steer:
            return None
        if self.family == socket.AF_INET:
            return "127.0.0.1" if self.host == "0.0.0.0" else self.host
        if self.host == "::":
            return "::1" if self.v6only else "127.0.0.1"
        return self.host

    def overlaps(self, other: Address) -> bool:
        """True when a connection could be meant for both. (Over UDP, programs may share a port on purpose.)"""
        if socket.AF_UNIX in (self.family, other.family):
            return self.family == other.family and self.host == other.host
        if (self.port, self.type) != (other.port, other.type):
            return False
        if self.family == other.family:
            return self.host == other.host or _ANY[self.family] in (self.host, other.host)
        wide = self if self.family == socket.AF_INET6 else other
        return wide.host == "::" and not wide.v6only


def parse_address(written: str) -> Address:
    """`3000`, `127.0.0.1:3000`, `[::1]:3000` or `/run/app.sock`. Raises ValueError with what it wanted instead.

    A port alone is that port on every address of the host, IPv4 and IPv6.
    """
    wanted = "an address such as 3000, 127.0.0.1:3000, [::1]:3000 or /run/app.sock"
    if written.startswith("/"):
        if len(os.fsencode(written)) > _LONGEST_PATH:
            raise ValueError(f"a path of at most {_LONGEST_PATH} bytes")
        return Address(socket.AF_UNIX, socket.SOCK_STREAM, written, 0)
    host, _, port = written.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(wanted)
    if not host:
        return everywhere(int(port))
    is_v6 = host.startswith("[") and host.endswith("]")
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    try:
        numeric = socket.inet_ntop(family, socket.inet_pton(family, host[1:-1] if is_v6 else host))
    except OSError:
        raise ValueError(wanted) from None
    return Address(family, socket.SOCK_STREAM, numeric, int(port))


def everywhere(port: int) -> Address:
    """As Node listens where it is told nothing but a port."""
    has_v6 = os.path.exists("/proc/net/if_inet6")
    family, host = (socket.AF_INET6, "::") if has_v6 else (socket.AF_INET, "0.0.0.0")
    return Address(family, socket.SOCK_STREAM, host, port)


class AddressInUse(PercoreError):
    """Somebody who is not this app holds the address."""
