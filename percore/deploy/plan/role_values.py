"""What the values of a role's items must be, once their templates are resolved: they become paths and words on a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from percore.common import names
from percore.deploy import schema
from percore.deploy.schema import Kind, checked, pattern


def check_item(item_kind: str, item: Mapping[str, Any], where: str) -> None:
    """The values of an item, or of a handler, whose templates are resolved: what becomes a path or a word on the host."""
    for key, value in item.items():
        kind = VALUES.get(f"{item_kind}.{key}") or VALUES.get(key)
        if kind is not None:
            kind.read(value, key, f"{where}.{key}")


def _is_group(value: object) -> bool:
    return isinstance(value, str) and _USER.convert(value) == value


def _is_path(value: object) -> bool:
    return isinstance(value, str) and names.is_absolute_path(value)


_PATH = checked("an absolute path without '..'", _is_path)
_INNER = checked(
    "a path below the role's own directory", lambda value: isinstance(value, str) and names.is_inner_path(value)
)
_SITE = checked(names.PATH_WORD, lambda value: isinstance(value, str) and names.is_path_word(value))
_TEXT = checked("a text", schema.is_text)
_UNIT = pattern("the name of a unit", r"[A-Za-z0-9:_.@\\-]{1,250}")
_USER = pattern("the name or number of a user or group", r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?")
_OWNER = pattern(_USER.wanted, r"([A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?)?")  # empty: the user that deploys
_PACKAGE = pattern("the name of a package", r"[A-Za-z0-9][A-Za-z0-9.+:=~_/-]{0,200}")
_SECONDS = pattern("a number of seconds", r"[0-9]{1,6}")
_MODE = pattern("four octal digits", r"[0-7]{1,5}")
_VERSION = pattern('a version such as 22 or "22.11", in quotes where it has one dot', r"[0-9]{1,4}(\.[0-9]{1,4}){0,2}")
_GROUPS = checked("a list of groups", lambda value: isinstance(value, list) and all(map(_is_group, value)))
_PATHS = checked("a list of absolute paths", lambda value: isinstance(value, list) and all(map(_is_path, value)))


VALUES: Mapping[str, Kind[Any]] = {
    "commands.name": _TEXT,
    "copy": _INNER,
    "creates": _PATH,
    "group": _OWNER,
    "groups": _GROUPS,
    "handlers.name": _TEXT,
    "home": _PATH,
    "link": _PATH,
    "mode": _MODE,
    "owner": _OWNER,
    "packages.name": _PACKAGE,
    "path": _PATH,
    "reload": _UNIT,
    "replaces": _PATHS,
    "restart": _UNIT,
    "run": schema.COMMAND,
    "seconds": _SECONDS,
    "secret": schema.FLAG,
    "shell": _PATH,
    "sites.name": _SITE,
    "template": _INNER,
    "to": _TEXT,
    "units.name": _UNIT,
    "unless": schema.COMMAND,
    "users.name": _USER,
    "validate": schema.COMMAND,
    "version": _VERSION,
}
"""By key, or by kind of item and key: what a value must be. Others may be anything."""
