"""Variables of an inventory that nothing uses, and that are called almost like one that is known."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any

from percore.deploy.plan.host_plan import HostPlan

_ALIKE = 0.9


def find_typos(plan: HostPlan, known: Collection[str]) -> Iterator[str]:
    """A warning for each. `known` are the variables that percore itself reads, beside the defaults of the roles."""
    all_known = frozenset(("roles", *known, *plan.defaults))
    for name in plan.variables:
        meant = None if name in all_known else _find_alike(name, all_known)
        if meant and not _is_used(plan, name):
            place = plan.places.get(name, f"host {plan.host}")
            yield f"{place}: variable '{name}' is not used -> did you mean '{meant}'?"


@cache  # hosts differ in values, hardly in names
def _find_alike(word: str, known: frozenset[str]) -> str | None:
    return next((other for other in sorted(known) if is_alike(word, other)), None)


def is_alike(word: str, other: str) -> bool:
    """One slip of the hand apart, or of a long name two."""
    one, two = (name.lower().replace("-", "_") for name in (word, other))
    if abs(len(one) - len(two)) > 2 or min(len(one), len(two)) < 3:
        return False
    return _is_one_slip(one, two) or SequenceMatcher(None, one, two).ratio() >= _ALIKE


def _is_one_slip(one: str, two: str) -> bool:
    """A letter too many, one too few, another one, or two in the wrong order."""
    start = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    one, two = one[start:], two[start:]
    is_swapped = one[:2] == two[1::-1] and one[2:] == two[2:]
    return one[1:] == two[1:] or one[1:] == two or one == two[1:] or is_swapped


def _is_used(plan: HostPlan, name: str) -> bool:
    """In a template, or in the condition of a role."""
    word = re.compile(rf"(?:\{{[{{%][^}}]*|\bwhen:.*)(?<!\w){re.escape(name)}(?!\w)")
    values = (text for value in plan.variables.values() for text in _texts_in(value))
    return any(word.search(text) for text in values) or any(
        word.search(path.read_text(errors="replace")) for path in _files(plan)
    )


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(entry)


def _files(plan: HostPlan) -> Iterator[Path]:
    """What may name a variable."""
    for role in plan.roles:
        yield role.file
        yield from filter(Path.is_file, (role.directory / "templates").rglob("*"))
    yield from filter(Path.is_file, (plan.project / "templates").rglob("*"))
