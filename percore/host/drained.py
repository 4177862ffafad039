"""Which hosts this load balancer leaves out, and who wanted that. The control side writes the file with the configuration."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypedDict

from percore.common import typed
from percore.common.typed import Line, between
from percore.host.paths import open_for_reading

PATH = "/etc/percore/drained.json"

KEPT = "drain"
"""The `verb` of a person. Any other one is that of a run, which undrains the host before it ends."""


class DrainedHost(TypedDict):
    """`names` are the host's in the list of servers: its name, its address, and that with the port."""

    host: Line
    names: list[Line]
    verb: Line
    who: Line
    at: Annotated[float, between(0, 2**35)]
    why: Line


def read_drained(path: str = PATH) -> list[dict[str, Any]]:
    """None where there is no such file, or nothing that makes sense."""
    try:
        with open_for_reading(path) as file:
            entries = json.loads(file.read(1 << 20))
        found: list[dict[str, Any]] = typed.read(list[DrainedHost], entries)
    except (OSError, ValueError):
        return []
    return found
