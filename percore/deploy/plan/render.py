"""HostPlan -> HostState: a host's roles, with its variables in their places. Pure but for reading the roles' files."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from percore.common.bounds import read_file
from percore.common.records.diff import ALL
from percore.deploy.masking import REDACTOR
from percore.deploy.plan.host_plan import HostPlan
from percore.deploy.plan.host_state import HostState
from percore.deploy.plan.role_values import check_item
from percore.deploy.plan.roles import EVERYWHERE, HOST, RELEASE_TAG, Item, Role
from percore.deploy.plan.settings import AppSettings
from percore.deploy.plan.templating.environment import SELF
from percore.deploy.plan.variables import Variables, render_file
from percore.deploy.schema import suggest
from percore.deploy.shipped import with_shipped
from percore.deploy.vault.passwords import open_content
from percore.errors import UsageError, shown

_TOKEN_PLACE = "@site-token@"
MOST_ROLE_FILE = 256 << 20
"""Bytes: the files of roles are configuration; what is larger is built, or installed as a package."""


def render_plan(plan: HostPlan, variables: Variables, settings: AppSettings | None) -> HostState:
    """Resolve one host's roles. The variables know the host's facts and percore's own package."""
    roles = [role for role in plan.roles if role.when is None or variables.is_true(role.when, f"{role.file} when")]
    maker = _StateMaker(plan, variables, settings)
    for role in roles:
        maker.add_handlers(role)
    for role in roles:
        maker.add(role)
    return HostState(
        host=plan.host,
        settings=settings,
        prepare=tuple(map(_with_masks, [*maker.prepare, *(_shared_directories(settings) if settings else ())])),
        before=tuple(map(_with_masks, maker.before)),
        after=tuple(map(_with_masks, maker.after)),
        handlers=tuple(map(_with_masks, maker.handlers.values())),
        setup=tuple(map(_with_masks, maker.setup)),
        files=maker.files,
    )


class _StateMaker:
    """Collects the specs of the roles in the order in which a host does them."""

    def __init__(self, plan: HostPlan, variables: Variables, settings: AppSettings | None) -> None:
        self.plan = plan
        self.variables = variables
        self.nginx_site = settings.site if settings else None
        self.prepare: list[dict[str, Any]] = []
        self.before: list[dict[str, Any]] = []
        self.after: list[dict[str, Any]] = []
        self.setup: list[dict[str, Any]] = []
        self.handlers: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}

    def add(self, role: Role) -> None:
        is_of_host = role.scope == HOST
        prepare, before, after = [self.setup] * 3 if is_of_host else (self.prepare, self.before, self.after)
        prepare += _packages(self._items(role, "packages"))
        prepare += [{"kind": "user", **item} for item in self._items(role, "users")]
        prepare += [_rights({"kind": "directory", **item}) for item in self._items(role, "directories")]
        prepare += [{"kind": "node", **item, "version": str(item["version"])} for item in self._items(role, "nodes")]
        before += [self._file(role, item) for item in self._items(role, "files")]
        before += [_link(item) for item in self._items(role, "links")]
        before += [spec for item in self._items(role, "units") for spec in self._unit(role, item)]
        before += [_command(item) for item in self._items(role, "commands")]
        after += [spec for item in self._items(role, "sites") for spec in self._site(role, item)]

    def _items(self, role: Role, kind: str) -> Iterator[dict[str, Any]]:
        """The items of a kind whose `when` holds, with every value resolved."""
        for index, item in enumerate(role[kind]):
            path = f"{role.file} {kind}[{index}]"
            if "when" not in item or self.variables.is_true(item["when"], f"{path}.when"):
                for variables in self._each(item, path):
                    resolved = variables.resolve(_without(item, *EVERYWHERE), path)
                    check_item(kind, resolved, path)
                    yield {**resolved, **self._marks(role, item, path)}

    def _each(self, item: Item, path: str) -> Iterator[Variables]:
        """An item with `each` is there once for every entry of that list, which it calls `item`."""
        if "each" not in item:
            yield self.variables
            return
        entries = self.variables.resolve(item["each"], f"{path}.each")
        if not isinstance(entries, list):
            raise UsageError(f"each should be a list and is {shown(entries)}", where=f"{path}.each")
        for entry in entries:
            yield self.variables.having("item", entry)

    def _marks(self, role: Role, item: Item, path: str) -> dict[str, Any]:
        """What is noted about an item, not what it is: the handlers it notifies, its tags."""
        for name in item.get("notify", ()):
            self._require_handler(name, path)
        notify = [name for name in item.get("notify", ()) if name in self.handlers]
        tags = list(dict.fromkeys([*role.tags, *item.get("tags", ())]))
        return {key: value for key, value in (("notify", notify), ("tags", tags)) if value}

    def _require_handler(self, name: str, path: str) -> None:
        known = [str(handler["name"]) for role in self.plan.roles for handler in role.handlers]
        if name not in known:
            advice = suggest(name, known, "name it under 'handlers' of this role or of one it requires")
            raise UsageError(f"handler '{name}' does not exist", where=f"{path}.notify", next=advice)

    def add_handlers(self, role: Role) -> None:
        """Those whose `when` holds; to notify another one is no error, and does nothing."""
        for index, item in enumerate(role.handlers):
            path = f"{role.file} handlers[{index}]"
            if "when" in item and not self.variables.is_true(item["when"], f"{path}.when"):
                continue
            handler = self.variables.resolve(_without(item, "when"), path)
            check_item("handlers", handler, path)
            if handler["name"] in self.handlers:
                raise UsageError(
                    f"there are two handlers '{handler['name']}'", where=path, next="give one another name"
                )
            self.handlers[handler["name"]] = _handler(handler)

    def _content(self, role: Role, item: Item) -> dict[str, Any]:
        """The SHA-256 of a template, copied file or literal, and which of its lines no diff may show."""
        if "copy" in item:
            content, is_sealed = _read(_find(str(item["copy"]), role), role)
            return self._keep(content, hides_all=is_sealed or bool(item.get("secret")))
        text = self._render(role, str(item["template"])) if "template" in item else str(item["content"])
        return self._keep(text.encode(), hides_all=bool(item.get("secret")))

    def _keep(self, content: bytes, *, hides_all: bool = False) -> dict[str, Any]:
        secret = ALL if hides_all else REDACTOR.lines(content.decode(errors="replace"))
        sha256 = hashlib.sha256(content).hexdigest()
        self.files[sha256] = content
        return {"sha256": sha256, "secret": secret if isinstance(secret, str) else {str(n): secret[n] for n in secret}}

    def _render(self, role: Role, name: str) -> str:
        directories = [*role.directories("templates"), *with_shipped(self.plan.project / "templates")]
        values = {SELF: self.variables, "nginx_site": self.nginx_site, "site_token": _TOKEN_PLACE}
        return render_file(name, values, directories, known=list(self.variables), where=str(role.file))

    def _file(self, role: Role, item: Item) -> dict[str, Any]:
        spec = {
            "kind": "file",
            **self._content(role, item),
            **_without(item, "template", "copy", "content", "secret"),
        }
        if isinstance(spec.get("validate"), str):
            spec["validate"] = _words(spec["validate"], f"{role.file} files, validate of {item['path']}")
        return _rights(spec)

    def _unit(self, role: Role, item: Item) -> Iterator[dict[str, Any]]:
        """A unit is its file, checked by systemd itself, and its state. A new file of a unit that runs notifies its restart."""
        marks = _marks_of(item)
        if "template" in item:
            notify = [*self._changed_unit(item), *item.get("notify", ())]
            yield _rights(
                {
                    "kind": "unit-file",
                    "path": item.get("path", f"/etc/systemd/system/{item['name']}"),
                    **self._content(role, item),
                    "mode": item.get("mode", "0644"),
                    "validate": ["systemd-analyze", "verify", "--man=no", "%s"],
                    **marks,
                    **({"notify": notify} if notify else {}),
                }
            )
        state = {key: item[key] for key in ("active", "enabled") if key in item}
        yield {"kind": "unit", "name": item["name"], **state, **marks}

    def _changed_unit(self, item: Item) -> list[str]:
        """The handler, made here, for a unit whose file changes."""
        kind = item.get("on_change", "restart" if item.get("active") is True else "none")
        if kind == "none":
            return []
        name = f"{kind} {item['name']}"
        self.handlers.setdefault(name, {"kind": kind, "name": name, "unit": item["name"]})
        return [name]

    def _site(self, role: Role, item: Item) -> Iterator[dict[str, Any]]:
        name = item["name"]
        without = list(item.get("replaces", []))
        yield from ({"kind": "absent", "path": path, **_marks_of(item)} for path in without)
        yield {
            "kind": "site",
            "path": item.get("path", f"/etc/nginx/sites-available/{name}"),
            "link": item.get("link", f"/etc/nginx/sites-enabled/{name}"),
            **self._site_content(role, str(item["template"])),
            "without": without,
            **_marks_of(item),
        }

    def _site_content(self, role: Role, template: str) -> dict[str, Any]:
        """A token that differs with the text is in its place: what answers with it serves this very text."""
        text = self._render(role, template)
        token = hashlib.sha256(text.encode()).hexdigest()[:24]
        content = self._keep(text.replace(_TOKEN_PLACE, token).encode())
        return {**content, "token": token} if _TOKEN_PLACE in text else content


def _shared_directories(settings: AppSettings) -> Iterator[dict[str, Any]]:
    """They belong to the user of the apps."""
    user = settings.percore_user
    owner = {"owner": user, "group": user} if user else {}
    for name in settings.shared:
        path = f"{settings.deploy_to}/shared/{name}"
        yield {"kind": "directory", "path": path, "tags": [RELEASE_TAG], **owner}


def _with_masks(spec: dict[str, Any]) -> dict[str, Any]:
    """With what is shown instead of those paths, names and words that hold a secret, also when it is none any more."""
    words = [word for value in spec.values() for word in (value if isinstance(value, list) else [value])]
    shown = {word: masked for word in words if isinstance(word, str) and (masked := REDACTOR.text(word)) != word}
    return {**spec, "shown": shown} if shown else spec


def _rights(spec: dict[str, Any]) -> dict[str, Any]:
    """YAML reads mode 0644 as the number 420: both ways of writing it mean the same."""
    if isinstance(spec.get("mode"), int):
        spec["mode"] = f"{spec['mode']:04o}"
    return spec


def _packages(items: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of a role that are marked alike are installed together."""
    found: dict[str, dict[str, Any]] = {}
    for item in items:
        marks = _marks_of(item)
        spec = found.setdefault(json.dumps(marks), {"kind": "packages", "packages": [], **marks})
        spec["packages"].append(_without(item, *marks))
    return list(found.values())


def _handler(item: Item) -> dict[str, Any]:
    name = str(item["name"])
    if "run" in item:
        return {"kind": "run", "name": name, "run": _command(item)["run"], "seconds": item.get("seconds", 120)}
    kind = "restart" if "restart" in item else "reload"
    return {"kind": kind, "name": name, "unit": str(item[kind])}


def _marks_of(item: Item) -> dict[str, Any]:
    return {key: item[key] for key in ("notify", "tags") if key in item}


def _link(item: Item) -> dict[str, Any]:
    return {"kind": "absent", "path": item["path"]} if item.get("state") == "absent" else {"kind": "link", **item}


def _command(item: Item) -> dict[str, Any]:
    spec = {"kind": "command", **item}
    for key in ("run", "unless"):
        if isinstance(spec.get(key), str):
            spec[key] = _words(spec[key], f"{key} of a command")
        elif key in spec:
            spec[key] = [str(word) for word in spec[key]]
    return spec


def _without(item: Item, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in keys}


def _words(text: str, where: str) -> list[str]:
    """A command line as a shell would split it; nothing else of a shell happens to it."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(
            f"'{text}' cannot be split into words: {error}", where=where, next="close the quotes"
        ) from None


def _find(name: str, role: Role) -> Path:
    """The file to copy; where there is none, where the project would have it."""
    paths = [directory / name for directory in role.directories("files")]
    return next((path for path in paths if path.exists()), paths[0])


def _read(path: Path, role: Role) -> tuple[bytes, bool]:
    """A file of a role; one that is encrypted (True) reaches the host in plain text, as in Ansible, and is never shown."""
    try:
        content = read_file(str(path), most=MOST_ROLE_FILE)
    except OSError as error:
        raise UsageError(f"file '{path.name}' cannot be read: {error.strerror}", where=str(role.file)) from None
    return open_content(content, str(path))
