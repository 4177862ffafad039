"""Ansible inventories in YAML: hosts, groups, and every variable with the file and line that set it.

Precedence is Ansible's: `all`, then groups from the outermost to the innermost (equal depth: `ansible_group_priority`, then
name), then the host; and for each the inventory file before `group_vars/` and `host_vars/` beside it. Values are replaced,
never merged. What cannot be read is refused with file and line.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from percore.errors import UsageError, nearest

_VARIABLE_ENDINGS = ("", ".yml", ".yaml", ".json")
_INVENTORY_ENDINGS = (".yml", ".yaml")


@dataclass(frozen=True)
class Origin:
    """One layer that sets a variable."""

    value: object
    file: str
    line: int


@dataclass
class Group:
    name: str
    hosts: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    variables: dict[str, Origin] = field(default_factory=dict)


@dataclass
class Inventory:
    """`hosts` in the order they were first named."""

    path: Path
    hosts: list[str]
    groups: dict[str, Group]
    _host_variables: dict[str, dict[str, Origin]]
    _beside: dict[tuple[str, str], dict[str, Origin]] = field(default_factory=dict)

    def variables(self, host: str) -> dict[str, Any]:
        """Final values for `host`, before templating."""
        return {name: layers[-1].value for name, layers in self.origins(host).items()}

    def origins(self, host: str) -> dict[str, list[Origin]]:
        """Every layer that sets each variable, the winner last."""
        found: dict[str, list[Origin]] = {}
        groups = self._groups_of(host)
        layers = [self.groups[name].variables for name in groups]
        layers += [self._variables_beside("group_vars", name) for name in groups]
        layers += [self._host_variables.get(host, {}), self._variables_beside("host_vars", host)]
        for layer in layers:
            for name, origin in layer.items():
                found.setdefault(name, []).append(origin)
        return found

    def select(self, pattern: str = "all") -> list[str]:
        """Hosts that match an Ansible pattern (`a:b`, `a,b`, `:&`, `:!`, globs, `~regex`), in inventory order."""
        terms = [term for term in re.split(r"[,:]", pattern) if term]
        plain = [term for term in terms if term[0] not in "&!"]
        chosen = {host for term in plain or ["all"] for host in self._matching(term)}
        for term in terms:
            if term[0] == "&":
                chosen &= set(self._matching(term[1:]))
        for term in terms:
            if term[0] == "!":
                chosen -= set(self._matching(term[1:]))
        return [host for host in self.hosts if host in chosen]

    def _matching(self, term: str) -> list[str]:
        if term == "all" or term == "*":
            return list(self.hosts)
        matches = re.compile(term[1:] if term[0] == "~" else fnmatch.translate(term)).match
        found = [host for host in self.hosts if matches(host)]
        for name in self.groups:
            if matches(name):
                found += self._hosts_of(name)
        if not found:
            like = nearest(term, [*self.hosts, *self.groups])
            raise UsageError(
                f"no host or group matches '{term}'",
                where=str(self.path),
                next=f"did you mean '{like}'?" if like else "",
            )
        return found

    def _hosts_of(self, group: str) -> list[str]:
        return [
            *self.groups[group].hosts,
            *(host for child in self.groups[group].children for host in self._hosts_of(child)),
        ]

    def _groups_of(self, host: str) -> list[str]:
        names = [name for name in self.groups if name == "all" or host in self._hosts_of(name)]
        depths = self._depths()

        def rank(name: str) -> tuple[int, int, str]:
            priority = self.groups[name].variables.get("ansible_group_priority")
            return (depths.get(name, 1), int(str(priority.value)) if priority else 1, name)

        return sorted(names, key=rank)

    def _depths(self) -> dict[str, int]:
        depths = {"all": 0}

        def descend(name: str, depth: int) -> None:
            depths[name] = max(depths.get(name, 0), depth)
            for child in self.groups[name].children:
                descend(child, depth + 1)

        children = {child for group in self.groups.values() if group.name != "all" for child in group.children}
        for name in self.groups:
            if name != "all" and name not in children:
                descend(name, 1)
        return depths

    def _variables_beside(self, folder: str, name: str) -> dict[str, Origin]:
        key = (folder, name)
        if key not in self._beside:
            self._beside[key] = _read_variable_files(self.path.parent / folder / name)
        return self._beside[key]


def find_inventory(env: str, folder: str | Path = "inventories") -> Path:
    """`<folder>/<env>.yml` or `<folder>/<env>/hosts.yml`; raises UsageError that names the known environments."""
    base = Path(folder)
    for ending in _INVENTORY_ENDINGS:
        for candidate in (base / f"{env}{ending}", base / env / f"hosts{ending}"):
            if candidate.is_file():
                return candidate
    known = sorted(
        {path.stem for path in base.glob("*.y*ml")} | {path.parent.name for path in base.glob("*/hosts.y*ml")}
    )
    like = nearest(env, known)
    advice = f"did you mean '{like}'?" if like else f"known: {', '.join(known) or 'none'}"
    if env == "lab":
        advice = "start the lab first: ./run lab.up"
    raise UsageError(f"there is no environment '{env}'", where=str(base), next=advice)


def load_inventory(path: str | Path) -> Inventory:
    """Raises UsageError with file and line for what cannot be read."""
    path = Path(path)
    root = _compose(path)
    inventory = Inventory(path, [], {"all": Group("all")}, {})
    if root is not None:
        for name, node in _pairs(root, path):
            _read_group(inventory, name, node, path)
    return inventory


def _read_group(inventory: Inventory, name: str, node: yaml.Node, path: Path) -> None:
    group = inventory.groups.setdefault(name, Group(name))
    if _is_null(node):
        return
    for key, value in _pairs(node, path):
        if _is_null(value) and key in ("hosts", "children", "vars"):
            continue
        if key == "hosts":
            for written, variables in _pairs(value, path):
                for host in expand_range(written, _place(value, path)):
                    if host not in inventory.hosts:
                        inventory.hosts.append(host)
                    if host not in group.hosts:
                        group.hosts.append(host)
                    if not _is_null(variables):
                        inventory._host_variables.setdefault(host, {}).update(_read_variables(variables, path))
        elif key == "children":
            for child, body in _pairs(value, path):
                if child not in group.children:
                    group.children.append(child)
                _read_group(inventory, child, body, path)
        elif key == "vars":
            group.variables.update(_read_variables(value, path))
        else:
            raise UsageError(
                f"key '{key}' of group '{name}' is not one of hosts, children, vars", where=_place(node, path)
            )


def expand_range(written: str, where: str) -> Iterator[str]:
    """`web[01:03].example` -> web01.example ...: numbers with padding and step, or letters; several per name."""
    match = re.search(r"\[([0-9]+|[a-zA-Z]):([0-9]+|[a-zA-Z])(?::([0-9]+))?\]", written)
    if not match:
        yield written
        return
    first, last, step = match[1], match[2], int(match[3] or 1)
    if first.isdigit() != last.isdigit() or step < 1:
        raise UsageError(f"the range in '{written}' mixes letters and numbers", where=where)
    if first.isdigit():
        values = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1, step)]
    else:
        values = [chr(code) for code in range(ord(first), ord(last) + 1, step)]
    if not values:
        raise UsageError(f"the range in '{written}' is empty", where=where)
    for value in values:
        yield from expand_range(written[: match.start()] + value + written[match.end() :], where)


def _read_variable_files(base: Path) -> dict[str, Origin]:
    """`group_vars/NAME`, with or without an ending, or a folder of such files in the order of their names."""
    found: dict[str, Origin] = {}
    for ending in _VARIABLE_ENDINGS:
        path = base.with_name(base.name + ending)
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and not file.name.startswith(".") and not file.name.endswith("~"):
                root = _compose(file)
                if root is not None and not _is_null(root):
                    found.update(_read_variables(root, file))
    return found


# -- YAML with its line numbers --------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Safe YAML; a tag it does not know is refused by name."""


def _compose(path: Path) -> yaml.Node | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"it cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}", where=str(path)
        ) from None
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise UsageError(f"invalid YAML: {error.problem}", where=where, next="mend that line") from None
    except yaml.YAMLError as error:
        raise UsageError(f"invalid YAML: {error}", where=str(path)) from None
    return None if node is None or _is_null(node) else node


def _pairs(node: yaml.Node, path: Path) -> Iterator[tuple[str, yaml.Node]]:
    """Key and value nodes of a mapping; refuses anything else, keys that are not text, and keys written twice."""
    if not isinstance(node, yaml.MappingNode):
        raise UsageError("a mapping of names is wanted here", where=_place(node, path))
    seen: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            raise UsageError(
                f"'{getattr(key, 'value', key)}' is not a name", where=_place(key, path), next="put it in quotes"
            )
        if key.value in seen:
            raise UsageError(f"key '{key.value}' is written twice", where=_place(key, path))
        seen.add(key.value)
        yield key.value, value


def _read_variables(node: yaml.Node, path: Path) -> dict[str, Origin]:
    return {
        name: Origin(_construct(value, path), str(path), value.start_mark.line + 1)
        for name, value in _pairs(node, path)
    }


def _construct(node: yaml.Node, path: Path) -> object:
    loader = _Loader("")
    try:
        value: object = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise UsageError(f"invalid YAML: {error.problem}", where=_place(node, path)) from None
    finally:
        loader.dispose()
    return value


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _place(node: yaml.Node, path: Path) -> str:
    return f"{path}:{node.start_mark.line + 1}"
