"""HostPlan -> HostState: a host's roles, with its variables in their places. Pure but for reading the roles' files."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import percore
from percore.deploy.keyring import keyring
from percore.deploy.plan import HostPlan, HostState
from percore.deploy.roles import Item, Role
from percore.deploy.settings import read_settings
from percore.deploy.templates import SELF, Variables, render_file, resolve_variables
from percore.deploy.vault import HEADER
from percore.errors import UsageError

SHIPPED = Path(percore.__file__).parent / "supervisor"
"""Holds the unit of the supervisor, which `percore startup` writes too."""


def render_plan(plan: HostPlan, *, known: Mapping[str, Any]) -> HostState:
    """Resolve one host's roles. `known` are values learnt from the host (facts) and of percore's own package."""
    variables = resolve_variables(plan, known)
    settings = read_settings(variables, plan.project)
    maker = _StateMaker(plan, variables)
    for role in plan.roles:
        if role.when is None or variables.is_true(role.when, f"{role.file} when"):
            maker.add(role)
    return HostState(plan.host, settings, tuple(maker.prepare), tuple(maker.before), tuple(maker.after), maker.files)


class _StateMaker:
    """Collects the specs of the roles in the order in which a host does them."""

    def __init__(self, plan: HostPlan, variables: Variables) -> None:
        self.plan = plan
        self.variables = variables
        self.prepare: list[dict[str, Any]] = []
        self.before: list[dict[str, Any]] = []
        self.after: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}

    def add(self, role: Role) -> None:
        packages = list(self._items(role, "packages"))
        if packages:
            self.prepare.append({"kind": "packages", "packages": packages})
        self.prepare += [{"kind": "user", **item} for item in self._items(role, "users")]
        self.prepare += [_rights({"kind": "directory", **item}) for item in self._items(role, "directories")]
        self.before += [self._file(role, item) for item in self._items(role, "files")]
        self.before += [_link(item) for item in self._items(role, "links")]
        self.before += [spec for item in self._items(role, "units") for spec in self._unit(role, item)]
        self.before += [_command(item) for item in self._items(role, "commands")]
        self.after += [spec for item in self._items(role, "sites") for spec in self._site(role, item)]

    def _items(self, role: Role, kind: str) -> Iterator[dict[str, Any]]:
        """The items of a kind whose `when` holds, with every value resolved."""
        for index, item in enumerate(role[kind]):
            path = f"{role.file} {kind}[{index}]"
            if "when" not in item or self.variables.is_true(item["when"], f"{path}.when"):
                yield self.variables.resolve({key: value for key, value in item.items() if key != "when"}, path)

    def _content(self, role: Role, item: Item) -> str:
        """Keep the content of a template, copied file or literal; returns its SHA-256."""
        if "template" in item:
            content = self._render(role, str(item["template"])).encode()
        elif "copy" in item:
            content = _read(role.folder / "files" / str(item["copy"]), role)
        else:
            content = str(item["content"]).encode()
        sha256 = hashlib.sha256(content).hexdigest()
        self.files[sha256] = content
        return sha256

    def _render(self, role: Role, name: str) -> str:
        folders = [role.folder / "templates", self.plan.project / "templates", SHIPPED]
        values = {SELF: self.variables}
        return render_file(name, values, folders, known=list(self.variables), where=str(role.file))

    def _file(self, role: Role, item: Item) -> dict[str, Any]:
        spec = {
            "kind": "file",
            "sha256": self._content(role, item),
            **_without(item, "template", "copy", "content"),
        }
        if isinstance(spec.get("validate"), str):
            spec["validate"] = _words(spec["validate"], f"{role.file} files, validate of {item['path']}")
        return _rights(spec)

    def _unit(self, role: Role, item: Item) -> Iterator[dict[str, Any]]:
        """A unit is its file, checked by systemd itself, and its state."""
        if "template" in item:
            yield _rights(
                {
                    "kind": "unit-file",
                    "path": item.get("path", f"/etc/systemd/system/{item['name']}"),
                    "sha256": self._content(role, item),
                    "mode": item.get("mode", "0644"),
                    "validate": ["systemd-analyze", "verify", "--man=no", "%s"],
                }
            )
        yield {"kind": "unit", "name": item["name"], **{key: item[key] for key in ("active", "enabled") if key in item}}

    def _site(self, role: Role, item: Item) -> Iterator[dict[str, Any]]:
        name = item["name"]
        without = list(item.get("replaces", []))
        yield from ({"kind": "absent", "path": path} for path in without)
        yield {
            "kind": "site",
            "path": item.get("path", f"/etc/nginx/sites-available/{name}"),
            "link": item.get("link", f"/etc/nginx/sites-enabled/{name}"),
            "sha256": self._content(role, item),
            "without": without,
        }


def _rights(spec: dict[str, Any]) -> dict[str, Any]:
    """YAML reads mode 0644 as the number 420: both ways of writing it mean the same."""
    if isinstance(spec.get("mode"), int):
        spec["mode"] = f"{spec['mode']:04o}"
    return spec


def _link(item: Item) -> dict[str, Any]:
    return {"kind": "absent", "path": item["path"]} if item.get("state") == "absent" else {"kind": "link", **item}


def _command(item: Item) -> dict[str, Any]:
    spec = {"kind": "command", **item}
    for key in ("run", "unless"):
        if isinstance(spec.get(key), str):
            spec[key] = _words(spec[key], f"{key} of a command")
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


def _read(path: Path, role: Role) -> bytes:
    """A file of a role; one that is encrypted reaches the host in plain text, as in Ansible."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"file '{path.name}' cannot be read: {error.strerror}", where=str(role.file)) from None
    return keyring().open_bytes(content.decode(), str(path)) if content.startswith(HEADER.encode()) else content
