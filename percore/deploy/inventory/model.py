"""Hosts and groups, and which variables reach a host: the layers, weakest first.

Precedence is Ansible's: `all`, then groups from the outermost to the innermost (equal depth: `ansible_group_priority`, then
name), all of them first from the inventory and then from `group_vars/`; then the host, in the same order. Values are replaced,
never merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from percore.deploy.inventory.vars_files import VariableFiles
from percore.deploy.yaml_files import Origin
from percore.errors import UsageError, shown

ALL, UNGROUPED = "all", "ungrouped"
PRIORITY = "ansible_group_priority"
MOST_HOSTS = 10_000
MOST_GROUPS = 10_000
DEEPEST_GROUP = 50
_LONGEST_NAME = 250  # bytes: with an ending it is the name of a file in host_vars/ or group_vars/


@dataclass
class Group:
    """`hosts` and `children` are those that the group names itself, in that order."""

    name: str
    hosts: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    variables: dict[str, Origin] = field(default_factory=dict)

    @property
    def priority(self) -> int:
        origin = self.variables.get(PRIORITY)
        if origin is None:
            return 1
        try:
            return int(origin.value)
        except (TypeError, ValueError, OverflowError):
            raise UsageError(
                f"{PRIORITY} should be a whole number and is {shown(origin.value)}", where=origin.place
            ) from None


@dataclass
class Layer:
    """Variables of one strength: whose they are, and where each was set."""

    name: str
    variables: Mapping[str, Origin]


class Inventory:
    """Filled by the readers through `add_...`; `finish` puts loose groups and hosts in their place."""

    def __init__(self, path: Path, directory: Path) -> None:
        self.path = path
        self.groups: dict[str, Group] = {ALL: Group(ALL, children=[UNGROUPED]), UNGROUPED: Group(UNGROUPED)}
        self.host_variables: dict[str, dict[str, Origin]] = {}
        self.files = VariableFiles(directory)
        self.warnings: list[str] = []
        self.source = path  # the file that is being read
        self.sources: dict[str, Path] = {}  # by host: the file that names it first
        self._members: set[tuple[str, str]] = set()

    # -- filling it ---------------------------------------------------------------------------------------------------

    def add_group(self, name: str, place: str = "") -> Group:
        if name not in self.groups:
            require_name(name, "group", place or str(self.path))
            if len(self.groups) >= MOST_GROUPS:
                raise UsageError(f"there are more than {MOST_GROUPS} groups", where=place or str(self.path))
            self.groups[name] = Group(name)
        return self.groups[name]

    def add_child(self, parent: str, child: str, place: str) -> None:
        """Raises UsageError when the groups would contain each other."""
        self.add_group(child, place)
        if child in self.groups[parent].children:
            return
        if child == parent or parent in self.descendants(child):
            raise UsageError(f"group '{child}' contains '{parent}', which cannot contain it", where=place)
        self.groups[parent].children.append(child)

    def add_host(self, name: str, group: str, place: str = "", *, port: Origin | None = None) -> None:
        """A port written behind the name counts where the host is named for the first time, as in Ansible."""
        if name not in self.host_variables:
            require_name(name, "host", place or str(self.path))
            if len(self.host_variables) >= MOST_HOSTS:
                raise UsageError(f"there are more than {MOST_HOSTS} hosts", where=place or str(self.path))
            self.host_variables[name] = {} if port is None else {"ansible_port": port}
            self.sources[name] = self.source
        if (group, name) not in self._members:
            self._members.add((group, name))
            self.groups[group].hosts.append(name)

    def finish(self) -> Inventory:
        children = {child for group in self.groups.values() for child in group.children}
        for name in self.groups:
            if name not in children and name != ALL:
                self.groups[ALL].children.append(name)
        if ALL in children:
            raise UsageError("group 'all' cannot be the child of a group", where=str(self.path))
        _refuse_depth(self)
        both = [name for name in self.groups if name in self.host_variables]
        self.warnings += [f"'{name}' in {self.path} is a host and a group" for name in both]
        grouped = {host for name, group in self.groups.items() if name not in (ALL, UNGROUPED) for host in group.hosts}
        loose = self.groups[UNGROUPED]
        loose.hosts = [host for host in loose.hosts if host not in grouped]
        known = grouped.union(loose.hosts)
        loose.hosts += [host for host in self.host_variables if host not in known]
        return self

    # -- asking it ----------------------------------------------------------------------------------------------------

    @property
    def hosts(self) -> list[str]:
        """All hosts in inventory order: group by group, outer groups first."""
        return self.hosts_of(ALL)

    def hosts_of(self, group: str) -> list[str]:
        """The hosts of a group and of the groups in it."""
        return list(dict.fromkeys(host for name in self.descendants(group) for host in self.groups[name].hosts))

    def descendants(self, group: str) -> list[str]:
        """The group and all groups in it, level by level."""
        found: dict[str, None] = {group: None}
        waiting = [group]
        for name in waiting:
            new = [child for child in dict.fromkeys(self.groups[name].children) if child not in found]
            found.update(dict.fromkeys(new))
            waiting += new
        return waiting

    def groups_of(self, host: str) -> list[str]:
        """From the weakest to the strongest."""
        names = {ALL, *self._groups_with.get(host, ())}
        names |= {above for name in names for above in self._ancestors[name]}
        return sorted(names, key=lambda name: (self._depths[name], self.groups[name].priority, name))

    def layers(self, host: str) -> Iterator[Layer]:
        """Weakest first. Files in `group_vars/` and `host_vars/` are read when needed."""
        if host not in self.host_variables:
            raise UsageError(f"there is no host '{host}'", where=str(self.path))
        groups = self.groups_of(host)
        for name in groups:
            variables = self.groups[name].variables
            yield Layer(f"group {name}", {key: origin for key, origin in variables.items() if key != PRIORITY})
        for name in groups:
            yield Layer(f"group {name}", self.files.read("group_vars", name))
        yield Layer(f"host {host}", self.host_variables[host])
        yield Layer(f"host {host}", self.files.read("host_vars", host))

    def origins(self, host: str) -> dict[str, Origin]:
        """The winner of every variable, as written: before templates are resolved and secrets opened."""
        return {name: origin for layer in self.layers(host) for name, origin in layer.variables.items()}

    def variables(self, host: str) -> dict[str, Any]:
        return {name: origin.value for name, origin in self.origins(host).items()}

    @cached_property
    def _groups_with(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, group in self.groups.items():
            for host in group.hosts:
                found.setdefault(host, []).append(name)
        return found

    @cached_property
    def _ancestors(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {name: set() for name in self.groups}
        for name in self.groups:
            for below in self.descendants(name)[1:]:
                found[below].add(name)
        return found

    @cached_property
    def _depths(self) -> dict[str, int]:
        """The longest way from `all`."""
        depths = {ALL: 0}

        def depth(name: str) -> int:
            if name not in depths:
                depths[name] = 1 + max((depth(parent) for parent in parents[name]), default=0)
            return depths[name]

        parents: dict[str, list[str]] = {name: [] for name in self.groups}
        for group in self.groups.values():
            for child in group.children:
                parents[child].append(group.name)
        return {name: depth(name) for name in self.groups}


def set_host_variables(inventory: Inventory, host: str, variables: Mapping[str, Origin]) -> None:
    """As Ansible: where a group has the host's name already, they are the group's."""
    is_group = host in inventory.groups
    (inventory.groups[host].variables if is_group else inventory.host_variables[host]).update(variables)


def _refuse_depth(inventory: Inventory) -> None:
    """Level by level; no group contains itself, so that the levels end."""
    level = [ALL]
    for _ in range(DEEPEST_GROUP):
        level = list(dict.fromkeys(child for name in level for child in inventory.groups[name].children))
    if level:
        raise UsageError(f"group '{level[0]}' lies more than {DEEPEST_GROUP} groups deep", where=str(inventory.path))


def require_name(name: str, kind: str, place: str) -> None:
    """Names of hosts and groups become names of files, words of a pattern, and lines of the report."""
    is_text = name.isprintable() and name == name.strip() and "\\" not in name
    if not is_text or name in ("", ".", "..") or len(name.encode(errors="replace")) > _LONGEST_NAME:
        raise UsageError(
            f"{ascii(name)[:80]} cannot be the name of a {kind}",
            where=place,
            next=f"use 1 to {_LONGEST_NAME} bytes of printable characters",
        )
