"""The keys of `role.yml`, from the tables of `percore.deploy.plan`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from percore.deploy.plan.help.role_keys import EVERYWHERE_HELP, ITEM_KEY_HELP, ROLE_KEY_HELP, KeyHelp
from percore.deploy.plan.role_values import VALUES
from tests.reference.markdown import code, table

_LISTS = {"requires", "tags", "notify", "each"}
_KINDS = {"defaults": "a mapping", "env": "a mapping", "description": "a text", "scope": "release or host"}
_EXPRESSIONS = {"when"}


def role_keys() -> Iterator[str]:
    yield from _table(ROLE_KEY_HELP, "")


def kinds() -> Iterator[str]:
    """The keys of every item, then those of each kind."""
    yield from ("Every item may have:", "", *_table(EVERYWHERE_HELP, ""))
    for kind, found in ITEM_KEY_HELP.items():
        yield from ("", f"### {kind}", "", *_table(found, kind))


def _table(found: Mapping[str, KeyHelp], kind: str) -> Iterator[str]:
    rows = [(code(name), each.help, wanted(kind, name), _default(each.default)) for name, each in found.items()]
    yield from table(("Key", "Meaning", "Value", "Default"), rows)


def wanted(kind: str, name: str) -> str:
    """The words of the error for another value."""
    if value := VALUES.get(f"{kind}.{name}") or VALUES.get(name):
        return value.wanted
    if name in _LISTS:
        return "a text, or a list of them" if name != "each" else "a list"
    if name in _EXPRESSIONS:
        return "an expression"
    return _KINDS.get(name, "a list of items" if not kind else _of_item(kind, name))


def _of_item(kind: str, name: str) -> str:
    return "true or false" if name in ("active", "enabled", "system") else "a text"


def _default(text: str) -> str:
    return (
        code(text)
        if text.startswith("/") or text.isdigit() or text in ("true", "false", "release", "present")
        else text
    )
