"""What is asked of a host that other projects may use as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from percore.common.typed import Line
from percore.host.messages import NOTHING, Path, Port, TargetPaths


class SiteWish(NamedTuple):
    """A site of NGINX that will be enabled; files in `leaving` go then."""

    path: Path
    link: Path
    content: Line
    leaving: Sequence[Path] = ()


class PortsRequest(NamedTuple):
    """What a project needs on a host, where others may have it."""

    ports: list[Port]
    target: Optional[TargetPaths] = None
    apps: Sequence[Line] = ()  # with their namespaces: default:web
    sites: Sequence[SiteWish] = ()
    files: Mapping[Path, Line] = NOTHING  # of its releases, elsewhere on the host: by path, what tells their content
