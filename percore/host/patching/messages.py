"""What the operations of `invoke patch` are asked, and what they answer."""

from __future__ import annotations

from typing import NamedTuple

from percore.common.typed import Line
from percore.host.messages import TargetPaths


class PatchRequest(NamedTuple):
    """Upgrade packages; without an `owner`, only tell which. `security`: those of the security archive alone."""

    target: TargetPaths
    owner: Line = ""
    security: bool = False


class RebootRequest(NamedTuple):
    """Without an `owner`, only tell which boot this is."""

    target: TargetPaths
    owner: Line = ""


class ProveRequest(NamedTuple):
    target: TargetPaths


class PatchReply(NamedTuple):
    """`packages` as `name version`; `reboot` says why the host needs one; `units` use files that are gone."""

    packages: list[str]
    reboot: list[str]
    units: list[str]


class RebootReply(NamedTuple):
    """`boot` is another one after a reboot."""

    boot: str


class ProveReply(NamedTuple):
    missing: list[str]
