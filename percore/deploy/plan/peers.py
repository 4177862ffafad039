"""The app's hosts as a load balancer has them: addresses, ports, weights. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

MOST_WEIGHT = 256
"""That HAProxy takes."""


@dataclass(frozen=True)
class EdgePeer:
    """A host in an upstream. An IPv6 address stands in brackets."""

    host: str
    address: str
    port: int
    weight: int = 1
    down: bool = False

    @property
    def endpoint(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def names(self) -> list[str]:
        """By which a role's list of servers may call it."""
        return list(dict.fromkeys([self.host, self.address, self.endpoint]))

    @property
    def word(self) -> str:
        """Its name where few characters are allowed, as in HAProxy."""
        return re.sub(r"[^A-Za-z0-9_.:-]", "_", self.host)


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address and not address.startswith("[") else address


def read_servers(servers: Iterable[Any], port: int, drained: Collection[str] = ()) -> list[EdgePeer]:
    """A role's list of servers: peers, or texts such as ADDRESS and ADDRESS:PORT. Those that are drained are down."""
    found = [each if isinstance(each, EdgePeer) else _read_server(str(each), port) for each in servers]
    return [replace(peer, down=bool({*peer.names} & {*drained})) for peer in found]


def _read_server(text: str, port: int) -> EdgePeer:
    with_port = re.fullmatch(r"(\[[^]]+\]|[^:]+):([0-9]{1,5})", text)
    if with_port:
        return EdgePeer(text, with_port[1], int(with_port[2]))
    return EdgePeer(text, bracketed(text), port)


def weigh(peers: Sequence[EdgePeer], cores: Mapping[str, int]) -> list[EdgePeer]:
    """Weights in the ratio of the hosts' cores, as small as they can be; equal ones unless all cores are known."""
    known = [cores.get(peer.host, 0) for peer in peers]
    if not all(known):
        return list(peers)
    divisor = max(math.gcd(*known), max(known) / MOST_WEIGHT)
    return [replace(peer, weight=max(1, int(count / divisor))) for peer, count in zip(peers, known, strict=True)]
