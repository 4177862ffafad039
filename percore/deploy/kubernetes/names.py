"""Names of objects: what a label of DNS may be, another one for each name, and the same one every time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

MOST = 40
"""Characters: pods, Jobs and CronJobs put something behind it, and together they have 63, or 52."""

_TAKEN = ("kustomization", "namespace")
"""Names of files that are no app's."""


def object_name(name: str) -> str:
    """As it is where it is one already; otherwise the letters and digits of it, with its hash where others could be alike."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    plain = f"app-{plain}".rstrip("-") if not plain[:1].isalpha() or plain in _TAKEN else plain
    is_same = plain == re.sub(r"[ ._:-]", "-", name.lower())
    if is_same and len(plain) <= MOST:
        return plain
    return f"{plain[: MOST - 9].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def object_names(names: Iterable[str]) -> dict[str, str]:
    """Of several, each another one."""
    found: dict[str, str] = {}
    for name in names:
        made = object_name(name)
        while made in found.values():
            made = f"{made[: MOST - 9].rstrip('-')}-{hashlib.sha256(f'{made} {name}'.encode()).hexdigest()[:8]}"
        found[name] = made
    return found


def label_value(text: str) -> str:
    """What a label may hold: at most 63 characters."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:63].strip("._-")


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:10]
