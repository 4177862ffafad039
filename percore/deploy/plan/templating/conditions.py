"""Those of Ansible's tests (`x is match(...)`) that inventories use most, beside Jinja's own. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from packaging.version import InvalidVersion, Version

from percore.common.bounds import regex_limit
from percore.deploy.plan.templating.filters import compiled


def _regex(
    value: Any, pattern: str = "", ignorecase: bool = False, multiline: bool = False, match: str = "search"
) -> bool:
    with regex_limit(str(pattern)):
        expression = compiled(pattern, ignorecase=ignorecase, multiline=multiline)
        return bool(getattr(expression, match)(str(value)))


_COMPARISONS: Mapping[str, Callable[[Version, Version], bool]] = {
    **dict.fromkeys(("==", "=", "eq"), lambda one, other: one == other),
    **dict.fromkeys(("!=", "<>", "ne"), lambda one, other: one != other),
    **dict.fromkeys(("<", "lt"), lambda one, other: one < other),
    **dict.fromkeys(("<=", "le"), lambda one, other: one <= other),
    **dict.fromkeys((">", "gt"), lambda one, other: one > other),
    **dict.fromkeys((">=", "ge"), lambda one, other: one >= other),
}


def _version(value: Any, other: Any, operator: str = "eq", **_: Any) -> bool:
    if operator not in _COMPARISONS:
        raise ValueError(f"'{operator}' does not compare versions, only {', '.join(_COMPARISONS)}")
    try:
        return _COMPARISONS[operator](Version(str(value)), Version(str(other)))
    except InvalidVersion as error:
        raise ValueError(str(error)) from None


TESTS: Mapping[str, Callable[..., bool]] = {
    "contains": lambda value, entry: entry in value,
    "falsy": lambda value: not value,
    "match": lambda value, pattern="", **options: _regex(value, pattern, match="match", **options),
    "regex": _regex,
    "search": lambda value, pattern="", **options: _regex(value, pattern, **options),
    "subset": lambda value, other: all(entry in other for entry in value),
    "superset": lambda value, other: all(entry in value for entry in other),
    "truthy": bool,
    "version": _version,
    "version_compare": _version,
}
