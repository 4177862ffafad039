"""What a program asks to bind."""

from __future__ import annotations

import os
import socket
import sys

from percore.common.typing import NamedTuple, Optional
from percore.errors import PercoreError

_LONGEST_PATH = 107
_LEAST_BYTES: dict[int, int] = {socket.AF_INET: 8, socket.AF_INET6: 24}
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
        """From the bytes of a `struct sockaddr`. Raises NotShareable, or ValueError for bytes that are none of `family`."""
        if int.from_bytes(raw[:2], sys.byteorder) != family:
            raise ValueError("the bytes are an address of another family")
        if family == socket.AF_UNIX:
            return cls(family, kind, _path_in(kind, raw), 0)
        if family not in _LEAST_BYTES:
            raise NotShareable(f"address family {family}")
        if len(raw) < _LEAST_BYTES[family]:
            raise ValueError("the address is cut off")
        port = int.from_bytes(raw[2:4], "big")
        if port == 0 or (any(raw[24:28]) and family == socket.AF_INET6):
            raise NotShareable("a port that the kernel chooses, or an address of one interface only")
        if family == socket.AF_INET6:
            return cls(family, kind, socket.inet_ntop(family, raw[8:24]), port, v6only)
        return cls(family, kind, socket.inet_ntop(family, raw[4:8]), port)

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


def _path_in(kind: int, raw: bytes) -> str:
    path = os.fsdecode(raw[2:].split(b"\0", 1)[0])
    # An abstract name, or one that would garble our log: the program binds it as it would without us.
    if kind != socket.SOCK_STREAM or not path or not path.isprintable():
        raise NotShareable("no path of a stream socket")
    if len(raw) - 2 > _LONGEST_PATH + 1:
        raise ValueError("the path is too long")
    return path


class NotShareable(ValueError):
    """The program is to bind this address by itself."""


class AddressInUse(PercoreError):
    """Another process holds the address."""
