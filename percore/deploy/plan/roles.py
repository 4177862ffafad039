"""Roles: what a host should have, as data in `roles/<name>/role.yml`. Read and checked here; rendered elsewhere.

Every key is declared once, in `ITEM_KEYS` and `ROLE_KEYS`; an error names the file, the key's path and the nearest key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from percore.common import names
from percore.deploy.yaml_files import Document, read_document
from percore.errors import UsageError, nearest, shown

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Keys:
    """The keys of one kind of item: those it must have, and those it may have."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    def all(self) -> list[str]:
        return [*self.required, *self.optional, *EVERYWHERE]


EVERYWHERE = ("notify", "tags", "when")
"""Keys that every item may have."""


FILE_KEYS = ("template", "copy", "content", "mode", "owner", "group", "validate")

ITEM_KEYS: Mapping[str, Keys] = {
    "packages": Keys(("name",), ("program",)),
    "users": Keys(("name",), ("home", "shell", "system")),
    "directories": Keys(("path",), ("mode", "owner", "group")),
    "files": Keys(("path",), FILE_KEYS),
    "links": Keys(("path",), ("to", "state")),
    "units": Keys(("name",), ("path", "template", "active", "enabled", "mode", "on_change")),
    "sites": Keys(("name",), ("template", "path", "link", "replaces")),
    "commands": Keys(("run",), ("creates", "unless", "seconds")),
}
HANDLER_ACTIONS = ("restart", "reload", "run")
HANDLER_KEYS = ("name", *HANDLER_ACTIONS, "seconds", "when")
ON_CHANGE = ("restart", "reload", "handover", "none")
"""What a changed unit file asks for; `handover` is the supervisor's own."""

RELEASE_TAG = "app"
"""Stands for the app itself: its build, its release, its workers."""

ROLE_KEYS = ("description", "requires", "defaults", "when", "tags", *ITEM_KEYS, "handlers")


@dataclass(frozen=True)
class Role:
    """One role as written: its strings are still templates."""

    name: str
    folder: Path
    requires: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)  # of the defaults, as FILE:LINE
    when: str | None = None
    tags: tuple[str, ...] = ()  # of every item
    handlers: tuple[Item, ...] = ()
    items: Mapping[str, tuple[Item, ...]] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.folder / "role.yml"

    def all_tags(self) -> set[str]:
        return {*self.tags, *(tag for items in self.items.values() for item in items for tag in item.get("tags", ()))}

    def __getitem__(self, kind: str) -> tuple[Item, ...]:
        return self.items.get(kind, ())


def load_role(name: str, folder: Path = Path("roles")) -> Role:
    """Read `folder/name/role.yml`; UsageError for a missing role, invalid YAML, or a key that is not known."""
    if not isinstance(name, str) or not names.is_path_word(name):
        raise UsageError(
            f"{ascii(name)[:80]} cannot be the name of a role", where=str(folder), next=f"use {names.PATH_WORD}"
        )
    path = folder / name / "role.yml"
    if not path.is_file():
        known = sorted(entry.parent.name for entry in folder.glob("*/role.yml"))
        guess = nearest(name, known)
        raise UsageError(
            f"role '{name}' does not exist",
            where=str(folder),
            next=f"did you mean '{guess}'?" if guess else f"choose one of {', '.join(known) or '(none yet)'}",
        )
    document = read_document(path)
    data = None if document.root is None else document.value(document.root)
    return parse_role(name, data, folder=path.parent, places=_places_of_defaults(document, data))


def _places_of_defaults(document: Document, data: object) -> dict[str, str]:
    if document.root is None or not (isinstance(data, dict) and isinstance(data.get("defaults"), dict)):
        return {}
    defaults = dict(document.pairs(document.root))["defaults"]
    return {name: document.place(node) for name, node in document.pairs(defaults)}


def parse_role(name: str, data: object, *, folder: Path, places: Mapping[str, str] | None = None) -> Role:
    where = str(folder / "role.yml")
    mapping = _mapping(data or {}, where, "role")
    _refuse_unknown(mapping, ROLE_KEYS, where, "")
    items = {
        kind: tuple(
            _item(kind, entry, where, f"{kind}[{index}]") for index, entry in enumerate(_list(mapping, kind, where))
        )
        for kind in ITEM_KEYS
        if kind in mapping
    }
    handlers = tuple(
        _handler(entry, where, f"handlers[{i}]") for i, entry in enumerate(_list(mapping, "handlers", where))
    )
    return Role(
        name=name,
        folder=folder,
        requires=tuple(str(entry) for entry in _list(mapping, "requires", where)),
        defaults=_mapping(mapping.get("defaults") or {}, where, "defaults"),
        places=places or {},
        when=None if mapping.get("when") is None else str(mapping["when"]),
        tags=_texts(mapping, "tags", where, ""),
        handlers=handlers,
        items=items,
    )


def load_roles(wanted: Sequence[str], folder: Path = Path("roles")) -> tuple[Role, ...]:
    """The named roles with all they require, each once, what is required first."""
    found: dict[str, Role] = {}
    for name in map(str, wanted):
        _collect(name, folder, found, ())
    return tuple(found.values())


def _collect(name: str, folder: Path, found: dict[str, Role], above: tuple[str, ...]) -> None:
    if name in above:
        raise UsageError(f"roles require each other in a circle: {' > '.join([*above, name])}", where=str(folder))
    if name in found:
        return
    role = load_role(name, folder)
    for required in role.requires:
        _collect(required, folder, found, (*above, name))
    found[name] = role


def _item(kind: str, entry: object, where: str, path: str) -> Item:
    keys = ITEM_KEYS[kind]
    if isinstance(entry, str):
        entry = {keys.required[0]: entry}
    item = _mapping(entry, where, path)
    _refuse_unknown(item, keys.all(), where, path)
    for key in keys.required:
        if item.get(key) in (None, ""):
            raise UsageError(f"{path} needs the key '{key}'", where=where)
    if kind == "files" and sum(key in item for key in ("template", "copy", "content")) != 1:
        raise UsageError(f"{path} needs exactly one of 'template', 'copy' and 'content'", where=where)
    if kind == "links" and ("to" in item) == (item.get("state") == "absent"):
        raise UsageError(f"{path} needs either 'to' or 'state: absent'", where=where)
    if str(item.get("on_change", "none")) not in ON_CHANGE:
        raise UsageError(f"{path}.on_change should be one of {', '.join(ON_CHANGE)}", where=where)
    lists: dict[str, Any] = {key: _texts(item, key, where, path) for key in ("notify", "tags") if key in item}
    return {**item, **lists}


def check_item(kind: str, item: Item, where: str) -> None:
    """The values of an item, or of a handler, whose templates are resolved: what becomes a path or a word on the host."""
    for key, value in item.items():
        fits, wanted = _VALUES.get(f"{kind}.{key}") or _VALUES.get(key) or _ANYTHING
        if not fits(value):
            raise UsageError(f"{key} should be {wanted} and is {shown(value)}", where=f"{where}.{key}")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != "" and re.search(r"[\0\ud800-\udfff]", value) is None


def _is_command(value: object) -> bool:
    return _is_text(value) or (isinstance(value, list) and value != [] and all(map(_is_text, value)))


def _matches(pattern: str) -> Callable[[object], bool]:
    return lambda value: re.fullmatch(pattern, str(value)) is not None if isinstance(value, (str, int)) else False


def _is_path(value: object) -> bool:
    return isinstance(value, str) and names.is_absolute_path(value)


_PATH = (_is_path, "an absolute path without '..'")
_TEXT = (_is_text, "a text")
_COMMAND = (_is_command, "a command, or a list of its words")
_UNIT = (_matches(r"[A-Za-z0-9:_.@\\-]{1,250}"), "the name of a unit")
_USER = (_matches(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?"), "the name or number of a user or group")
_OWNER = (lambda value: value == "" or _USER[0](value), _USER[1])  # empty: whoever deploys
_SECONDS = (_matches(r"[0-9]{1,6}"), "a number of seconds")
_INNER = (lambda value: isinstance(value, str) and names.is_inner_path(value), "a path below the role's own directory")
_ANYTHING: tuple[Callable[[Any], bool], str] = (lambda _: True, "")

_VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "path": _PATH, "home": _PATH, "shell": _PATH, "creates": _PATH, "link": _PATH, "to": _TEXT,
    "template": _INNER, "copy": _INNER, "owner": _OWNER, "group": _OWNER, "seconds": _SECONDS,
    "mode": (_matches(r"[0-7]{1,5}"), "four octal digits"),
    "run": _COMMAND, "unless": _COMMAND, "validate": _COMMAND,
    "restart": _UNIT, "reload": _UNIT, "units.name": _UNIT, "users.name": _USER, "handlers.name": _TEXT,
    "sites.name": (lambda value: isinstance(value, str) and names.is_path_word(value), names.PATH_WORD),
    "packages.name": (_matches(r"[A-Za-z0-9][A-Za-z0-9.+:=~_/-]{0,200}"), "the name of a package"),
    "replaces": (lambda value: isinstance(value, list) and all(map(_is_path, value)), "a list of absolute paths"),
}  # fmt: skip
"""By key, or by kind and key: what a value must be, and how that is called."""


def _handler(entry: object, where: str, path: str) -> Item:
    handler = _mapping(entry, where, path)
    _refuse_unknown(handler, HANDLER_KEYS, where, path)
    if handler.get("name") in (None, ""):
        raise UsageError(f"{path} needs the key 'name'", where=where)
    if sum(key in handler for key in HANDLER_ACTIONS) != 1:
        raise UsageError(f"{path} needs exactly one of 'restart', 'reload' and 'run'", where=where)
    return handler


def _texts(mapping: Item, key: str, where: str, path: str) -> tuple[str, ...]:
    """A text, or a list of them; tags may stand in one text with commas, as in Ansible."""
    value = mapping.get(key)
    found = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(entry, str) and entry for entry in found):
        raise UsageError(f"{path + '.' if path else ''}{key} should be a text or a list of texts", where=where)
    if key != "tags":
        return tuple(found)
    tags = tuple(tag.strip() for entry in found for tag in entry.split(","))
    for tag in tags:
        if tag in ("always", "never", "tagged", "untagged", "all"):
            raise UsageError(f"the tag '{tag}' has no meaning here", where=where, next="use 'when', or another name")
    return tags


def _refuse_unknown(mapping: Item, known: Sequence[str], where: str, path: str) -> None:
    for key in mapping:
        if key not in known:
            guess = nearest(str(key), list(known))
            advice = f"did you mean '{guess}'?" if guess else f"known keys: {', '.join(known)}"
            raise UsageError(f"key '{path + '.' if path else ''}{key}' is not known", where=where, next=advice)


def _mapping(value: object, where: str, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{path} should be a mapping and is {_kind_of(value)}", where=where)
    return value


def _list(mapping: Item, key: str, where: str) -> list[Any]:
    value = mapping.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise UsageError(f"{key} should be a list and is {_kind_of(value)}", where=where)
    return value


def _kind_of(value: object) -> str:
    return {dict: "a mapping", list: "a list", str: "a text", bool: "true or false"}.get(type(value), f"{value!r}")
