"""What an agent answers to `figures`: the shape of what a page that is always open shows of a host."""

from __future__ import annotations

from typing import TypedDict

from percore.common.typed import Count
from percore.deploy.connection.messages import Figure, Status, Word


class CountedSockets(TypedDict):
    open: Count
    queue: Count
    accepted: Count | None


class Figures(TypedDict):
    """What a page that is always open shows of a host."""

    status: Status
    daemon: bool
    connections: dict[Word, CountedSockets]  # by worker id
    load: Figure
    memory_used_bytes: Count
