"""Roles: what a host should have, as data in `roles/<name>/role.yml`. Read and checked here; rendered elsewhere.

Every key is declared once, in `ITEM_KEYS` and `ROLE_KEYS`; an error names the file, the key's path and the nearest key.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from percore.common import names
from percore.deploy import schema
from percore.deploy.shipped import with_shipped
from percore.deploy.yaml_files import Document, FileStamp, read_document, stamp_of
from percore.errors import UsageError
from percore.host.tags import Selection

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Keys:
    """The keys of one kind of item: those it must have, and those it may have."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    def all(self) -> list[str]:
        return [*self.required, *self.optional, *EVERYWHERE]


EVERYWHERE = ("each", "notify", "tags", "when")
"""Keys that every item may have."""


FILE_KEYS = ("template", "copy", "content", "mode", "owner", "group", "validate", "secret")

ITEM_KEYS: Mapping[str, Keys] = {
    "packages": Keys(("name",), ("program",)),
    "users": Keys(("name",), ("home", "shell", "system", "groups")),
    "directories": Keys(("path",), ("mode", "owner", "group")),
    "nodes": Keys(("version", "path")),
    "files": Keys(("path",), FILE_KEYS),
    "links": Keys(("path",), ("to", "state")),
    "units": Keys(("name",), ("path", "template", "active", "enabled", "mode", "on_change")),
    "sites": Keys(("name",), ("template", "path", "link", "replaces")),
    "commands": Keys(("run",), ("name", "creates", "unless", "seconds")),
}
HANDLER_ACTIONS = ("restart", "reload", "run")
HANDLER_KEYS = ("name", *HANDLER_ACTIONS, "seconds", "when")
ON_CHANGE = ("restart", "reload", "handover", "none")
"""What a changed unit file asks for; `handover` is the supervisor's own."""

RELEASE_TAG = "app"
"""Stands for the app itself: its build, its release, its workers."""

HOST, RELEASE = "host", "release"
_SCOPE = schema.choice(RELEASE, HOST)
"""Whose a role's items are: a release's, which rollback changes with it, or the host's, whatever release runs there."""

ROLE_KEYS = ("description", "scope", "requires", "defaults", "when", "tags", "env", *ITEM_KEYS, "handlers")


@dataclass(frozen=True)
class Role:
    """One role as written: its strings are still templates."""

    name: str
    directory: Path  # that holds its role.yml
    lookup: tuple[
        Path, ...
    ] = ()  # where its templates and files are looked for: the project's own, then the shipped one
    requires: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)  # of the defaults, as FILE:LINE
    when: str | None = None
    tags: tuple[str, ...] = ()  # of every item
    scope: str = RELEASE
    env: Mapping[str, Any] = field(default_factory=dict)  # what it gives the app
    handlers: tuple[Item, ...] = ()
    items: Mapping[str, tuple[Item, ...]] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.directory / "role.yml"

    def directories(self, part: str) -> list[Path]:
        """Where its `templates` or `files` are looked for; the first that has one counts."""
        return [directory / part for directory in self.lookup or (self.directory,)]

    def all_tags(self) -> set[str]:
        return {*self.tags, *(tag for items in self.items.values() for item in items for tag in item.get("tags", ()))}

    def __getitem__(self, kind: str) -> tuple[Item, ...]:
        return self.items.get(kind, ())


def load_role(name: str, directory: Path = Path("roles")) -> Role:
    """Read `directory/name/role.yml`, or percore's own of that name.

    UsageError for a missing role, invalid YAML, or a key that is not known.
    """
    if not isinstance(name, str) or not names.is_path_word(name):
        raise UsageError(
            f"{ascii(name)[:80]} cannot be the name of a role", where=str(directory), next=f"use {names.PATH_WORD}"
        )
    lookup = tuple(root / name for root in with_shipped(directory))
    path = next((entry / "role.yml" for entry in lookup if (entry / "role.yml").is_file()), None)
    if path is None:
        known = sorted({entry.parent.name for root in with_shipped(directory) for entry in root.glob("*/role.yml")})
        advice = schema.suggest(name, known, f"choose one of {', '.join(known) or '(none yet)'}")
        raise UsageError(f"role '{name}' does not exist", where=str(directory), next=advice)
    return _read_role(name, path, lookup, stamp_of(str(path)))


@functools.lru_cache(maxsize=100)
def _read_role(name: str, path: Path, lookup: tuple[Path, ...], stamp: FileStamp) -> Role:
    """Once for all hosts; with another `stamp` it is another file."""
    document = read_document(path)
    data = None if document.root is None else document.value(document.root)
    return parse_role(name, data, directory=path.parent, lookup=lookup, places=_places_of_defaults(document, data))


def _places_of_defaults(document: Document, data: object) -> dict[str, str]:
    if document.root is None or not (isinstance(data, dict) and isinstance(data.get("defaults"), dict)):
        return {}
    defaults = dict(document.pairs(document.root))["defaults"]
    return {name: document.place(node) for name, node in document.pairs(defaults)}


def parse_role(
    name: str,
    data: object,
    *,
    directory: Path,
    lookup: tuple[Path, ...] = (),
    places: Mapping[str, str] | None = None,
) -> Role:
    where = str(directory / "role.yml")
    mapping = schema.MAPPING.read(data or {}, "role", where)
    schema.require_keys(mapping, ROLE_KEYS, "", where)
    items = {
        kind: tuple(
            _item(kind, entry, where, f"{kind}[{index}]") for index, entry in enumerate(_list(mapping, kind, where))
        )
        for kind in ITEM_KEYS
        if kind in mapping
    }
    scope = _scope(mapping, items, where)
    handlers = tuple(
        _handler(entry, where, f"handlers[{i}]") for i, entry in enumerate(_list(mapping, "handlers", where))
    )
    return Role(
        name=name,
        directory=directory,
        lookup=lookup,
        requires=tuple(str(entry) for entry in _list(mapping, "requires", where)),
        defaults=schema.MAPPING.read(mapping.get("defaults") or {}, "defaults", where),
        places=places or {},
        when=None if mapping.get("when") is None else str(mapping["when"]),
        tags=_texts(mapping, "tags", where, ""),
        scope=scope,
        env=_env(mapping, where),
        handlers=handlers,
        items=items,
    )


def _scope(mapping: Item, items: Mapping[str, tuple[Item, ...]], where: str) -> str:
    """A host is set up by every deploy: there, a command must tell whether there is something to do."""
    scope = _SCOPE.read(mapping.get("scope", RELEASE), "scope", where)
    if scope == RELEASE and items.get("nodes"):
        raise UsageError("'nodes' belong to a host, not to a release", where=where, next=f"add scope: {HOST}")
    for index, item in enumerate(items.get("commands", ()) if scope == HOST else ()):
        if not {"creates", "unless"} & {*item}:
            raise UsageError(f"commands[{index}] of a role with scope: {HOST} needs 'creates' or 'unless'", where=where)
    return scope


def _env(mapping: Item, where: str) -> dict[str, Any]:
    env: dict[str, Any] = schema.MAPPING.read(mapping.get("env") or {}, "env", where)
    if env and mapping.get("when") is not None:
        raise UsageError("a role with 'env' cannot have 'when'", where=where, next="give its items the 'when' instead")
    return env


def load_roles(wanted: Sequence[str], directory: Path = Path("roles")) -> tuple[Role, ...]:
    """The named roles with all they require, each once, what is required first."""
    found: dict[str, Role] = {}
    for name in map(str, wanted):
        _collect(name, directory, found, ())
    return tuple(found.values())


def _collect(name: str, directory: Path, found: dict[str, Role], above: tuple[str, ...]) -> None:
    if name in above:
        raise UsageError(f"roles require each other in a circle: {' > '.join([*above, name])}", where=str(directory))
    if name in found:
        return
    role = load_role(name, directory)
    for required in role.requires:
        _collect(required, directory, found, (*above, name))
    found[name] = role


def require_tags(selection: Selection, roles: Iterable[Role]) -> None:
    """Raises UsageError for a selected tag that none of these roles has."""
    known = {tag for role in roles for tag in role.all_tags()} | {RELEASE_TAG}
    for tag in [*selection.tags, *selection.skip]:
        if tag not in known:
            advice = schema.suggest(tag, sorted(known), f"known tags: {', '.join(sorted(known))}")
            raise UsageError(f"no role of these hosts has the tag '{tag}'", next=advice)


def _item(kind: str, entry: object, where: str, path: str) -> Item:
    keys = ITEM_KEYS[kind]
    if isinstance(entry, str):
        entry = {keys.required[0]: entry}
    item = schema.MAPPING.read(entry, path, where)
    schema.require_keys(item, keys.all(), path, where)
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


def _handler(entry: object, where: str, path: str) -> Item:
    handler = schema.MAPPING.read(entry, path, where)
    schema.require_keys(handler, HANDLER_KEYS, path, where)
    if handler.get("name") in (None, ""):
        raise UsageError(f"{path} needs the key 'name'", where=where)
    if sum(key in handler for key in HANDLER_ACTIONS) != 1:
        raise UsageError(f"{path} needs exactly one of 'restart', 'reload' and 'run'", where=where)
    return handler


def _texts(mapping: Item, key: str, where: str, path: str) -> tuple[str, ...]:
    """A text, or a list of them; tags may stand in one text with commas, as in Ansible."""
    found = schema.TEXT_OR_TEXTS.read(mapping.get(key), f"{path}.{key}" if path else key, where)
    if key != "tags":
        return tuple(found)
    tags = tuple(tag.strip() for entry in found for tag in entry.split(","))
    for tag in tags:
        if tag in ("always", "never", "tagged", "untagged", "all"):
            raise UsageError(f"the tag '{tag}' has no meaning here", where=where, next="use 'when', or another name")
    return tags


def _list(mapping: Item, key: str, where: str) -> list[Any]:
    value = mapping.get(key)
    return [] if value is None else schema.LIST.read(value, key, where)
