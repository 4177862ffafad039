"""What stands in front of the hosts, as the inventory wants it: the variables `edge_...`, checked and typed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from percore.deploy import schema
from percore.deploy.plan.variables import Variables
from percore.deploy.schema import defaulting, matching, optional, read_fields, whole

_SIZE = matching("a size such as 10m", lambda text: re.fullmatch(r"[0-9]{1,9}[kKmMgG]?", text))
_NAME = optional(schema.NAME)
_PATH = optional(schema.SAFE_PATH)
_WEIGHT = optional(schema.Kind("a whole number from 1 to 4096", whole(1, 4096).convert))
_ADDRESS = matching("an address or a name", lambda text: re.fullmatch(r"[A-Za-z0-9_.:\[\]-]{1,255}", text))


@dataclass(frozen=True)
class EdgeSettings:
    """The same for all hosts of an app. `read_seconds` is also how long a WebSocket may be silent."""

    name: Annotated[str | None, _NAME.of("edge_name")]
    port: Annotated[int, defaulting(schema.PORT, 80).of("edge_port")]
    tls_port: Annotated[int, defaulting(schema.PORT, 443).of("edge_tls_port")]
    certificate: Annotated[str | None, _PATH.of("edge_certificate")]
    certificate_key: Annotated[str | None, _PATH.of("edge_certificate_key")]
    hsts_seconds: Annotated[int, defaulting(whole(most=10**9), 86400).of("edge_hsts_seconds")]
    body_size: Annotated[str, defaulting(_SIZE, "10m").of("edge_body_size")]
    keepalive: Annotated[int, defaulting(whole(most=10_000), 0).of("edge_keepalive")]
    connect_seconds: Annotated[int, defaulting(whole(1, 600), 2).of("edge_connect_seconds")]
    read_seconds: Annotated[int, defaulting(whole(1), 3600).of("edge_read_seconds")]
    max_fails: Annotated[int, defaulting(whole(most=1000), 2).of("edge_max_fails")]
    fail_seconds: Annotated[int, defaulting(whole(1, 86400), 5).of("edge_fail_seconds")]

    @property
    def key(self) -> str | None:
        """Where certificate and key lie in one file, that."""
        return self.certificate_key or self.certificate


@dataclass(frozen=True)
class PeerSettings:
    """Of one host. `weight` counts instead of its cores."""

    address: Annotated[str | None, optional(_ADDRESS).of("edge_address")]
    weight: Annotated[int | None, _WEIGHT.of("edge_weight")]


def read_edge_settings(variables: Variables) -> EdgeSettings:
    return EdgeSettings(**read_fields(EdgeSettings, variables))


def read_peer_settings(variables: Variables) -> PeerSettings:
    return PeerSettings(**read_fields(PeerSettings, variables))
