"""Names of objects: what a label of DNS may be, another one for each name, and the same one every time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

MOST = 40
"""Characters: pods and CronJobs put something behind it, and together they have 63, or 52."""

_MOST_OF_JOB = 63
"""The name of a Job is a label of its pods."""

_OWN = ("ingress", "gateway", "secrets", "release")
"""What a project's own objects and files put behind its name."""

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


def names_of_apps(names: Iterable[str], project: str) -> dict[str, str]:
    """Of the apps of a project, none of which is called as something of the whole project is."""
    return object_names(names, taken=[f"{project}-{each}" for each in _OWN])


def object_names(names: Iterable[str], taken: Sequence[str] = ()) -> dict[str, str]:
    """Of several, each another one."""
    found: dict[str, str] = {}
    for name in names:
        made = object_name(name)
        while made in found.values() or made in taken:
            made = f"{made[: MOST - 9].rstrip('-')}-{hashlib.sha256(f'{made} {name}'.encode()).hexdigest()[:8]}"
        found[name] = made
    return found


def job_name(stem: str, release: str, content: str) -> str:
    """A Job cannot be changed: another release, or other content of it, is another Job."""
    tail = f"-{release}-{short_hash(content)[:6]}"
    most = _MOST_OF_JOB - len(tail)
    head = stem if len(stem) <= most else f"{stem[: most - 7].rstrip('-')}-{short_hash(stem)[:6]}"
    return f"{head}{tail}"


def label_value(text: str) -> str:
    """What a label may hold: at most 63 characters."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:63].strip("._-")


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:10]
