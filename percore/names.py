"""The names that become paths: one pattern for each kind, wherever such a name comes from. Shared by all parts."""

from __future__ import annotations

import re

from percore.errors import UsageError
from percore.hints import Any

RELEASE_ID = re.compile(r"[0-9]{14}-[0-9a-f]{8}")
"""UTC time and the beginning of the artifact's hash."""


def is_release_id(value: Any) -> bool:
    return isinstance(value, str) and RELEASE_ID.fullmatch(value) is not None


def require_release_id(value: Any, *, where: str = "") -> str:
    """The id itself; UsageError for everything else, since a release's id becomes a path."""
    if isinstance(value, str) and is_release_id(value):
        return value
    raise UsageError(
        f"{ascii(value)[:80]} is no release id", where=where, next="an id looks like 20260131120000-0a1b2c3d"
    )
