"""The variables of an inventory that percore's roles have defaults for: what each role's `role.yml` says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from percore.deploy.plan.batches import Policy
from percore.deploy.plan.help.meanings import meanings_in
from percore.deploy.plan.roles import load_role
from percore.deploy.plan.settings import AppSettings, HostSettings
from percore.deploy.plan.site import SiteSettings
from percore.deploy.schema import Kind, kinds_of
from tests.reference.markdown import code, table

ROLES = Path(__file__).resolve().parents[2] / "roles"


@cache
def wanted() -> Mapping[str, str]:
    """What a value must be, in the words of the error for another one."""
    found: dict[str, Kind[Any]] = {}
    for made in (AppSettings, HostSettings, SiteSettings, Policy):
        found.update({kind.variable or name: kind for name, kind in kinds_of(made).items()})
    return {name: kind.wanted for name, kind in found.items()}


def variables(role: str, *prefixes: str) -> Iterator[str]:
    """Of one role; with `prefixes`, those that begin with one of them, or with none of those that begin with `!`."""
    defaults = load_role(role, ROLES).defaults
    meanings = meanings_in(ROLES / role / "role.yml")
    names = [name for name in defaults if _is_meant(name, prefixes)]
    rows = [
        (code(name), meanings.get(name, ""), wanted().get(name) or _kind(defaults[name]), _default(defaults[name]))
        for name in names
    ]
    yield from table(("Variable", "Meaning", "Value", "Default"), rows)


def _is_meant(name: str, prefixes: tuple[str, ...]) -> bool:
    without = tuple(prefix[1:] for prefix in prefixes if prefix.startswith("!"))
    having = tuple(prefix for prefix in prefixes if not prefix.startswith("!"))
    return not name.startswith(without or ("\0",)) and (not having or name.startswith(having))


def _kind(value: Any) -> str:
    """Where nothing but a template reads it."""
    names = {bool: "true or false", int: "a number", float: "a number", dict: "a mapping", list: "a list"}
    return names.get(type(value), "a text")


def _default(value: Any) -> str:
    if value in ("", None):
        return "empty"
    return code(value if isinstance(value, str) else json.dumps(value))
