"""Hosts and groups, and which variables reach a host: the layers, weakest first.

Precedence is Ansible's: `all`, then groups from the outermost to the innermost (equal depth: `ansible_group_priority`, then
name), all of them first from the inventory and then from `group_vars/`; then the host, in the same order. Values are replaced,
never merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from percore.deploy.documents import Origin
from percore.deploy.inventory.variables import VariableFiles
from percore.errors import UsageError

ALL, UNGROUPED = "all", "ungrouped"
PRIORITY = "ansible_group_priority"
_LONGEST_GROUP = 200  # bytes: its variables are in a file of that name


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
                f"{PRIORITY} should be a whole number and is {origin.value!r}", where=origin.place
            ) from None


@dataclass
class Layer:
    """Variables of one strength: whose they are, and where each was set."""

    name: str
    variables: Mapping[str, Origin]


class Inventory:
    """Filled by the readers through `add_...`; `finish` puts loose groups and hosts in their place."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self.groups: dict[str, Group] = {ALL: Group(ALL, children=[UNGROUPED]), UNGROUPED: Group(UNGROUPED)}
        self.host_variables: dict[str, dict[str, Origin]] = {}
        self.files = VariableFiles(folder)

    # -- filling it ---------------------------------------------------------------------------------------------------

    def add_group(self, name: str) -> Group:
        if not name.isprintable() or not 0 < len(name.encode()) <= _LONGEST_GROUP:
            raise UsageError(f"{ascii(name)[:80]} cannot be the name of a group", where=str(self.path))
        return self.groups.setdefault(name, Group(name))

    def add_child(self, parent: str, child: str, place: str) -> None:
        """Raises UsageError when the groups would contain each other."""
        self.add_group(child)
        if child in self.groups[parent].children:
            return
        if child == parent or parent in self.descendants(child):
            raise UsageError(f"group '{child}' contains '{parent}', which cannot contain it", where=place)
        self.groups[parent].children.append(child)

    def add_host(self, name: str, group: str, *, port: Origin | None = None) -> None:
        """A port written behind the name counts where the host is named for the first time, as in Ansible."""
        if name not in self.host_variables:
            self.host_variables[name] = {} if port is None else {"ansible_port": port}
        if name not in self.groups[group].hosts:
            self.groups[group].hosts.append(name)

    def finish(self) -> Inventory:
        children = {child for group in self.groups.values() for child in group.children}
        for name in self.groups:
            if name not in children and name != ALL:
                self.groups[ALL].children.append(name)
        if ALL in children:
            raise UsageError("group 'all' cannot be the child of a group", where=str(self.path))
        grouped = {host for name, group in self.groups.items() if name not in (ALL, UNGROUPED) for host in group.hosts}
        loose = self.groups[UNGROUPED]
        loose.hosts = [host for host in loose.hosts if host not in grouped]
        loose.hosts += [host for host in self.host_variables if host not in grouped and host not in loose.hosts]
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
        found = [group]
        for name in found:
            found += [child for child in dict.fromkeys(self.groups[name].children) if child not in found]
        return found

    def groups_of(self, host: str) -> list[str]:
        """From the weakest to the strongest."""
        names = {ALL, *(name for name, group in self.groups.items() if host in group.hosts)}
        names |= {above for name in names for above in self._ancestors[name]}
        return sorted(names, key=lambda name: (self._depths[name], self.groups[name].priority, name))

    def layers(self, host: str) -> Iterator[Layer]:
        """Weakest first. Files in `group_vars/` and `host_vars/` are read when they are asked for."""
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

        parents = {name: _holding(self.groups.values(), name) for name in self.groups}
        return {name: depth(name) for name in self.groups}


def _holding(groups: Iterable[Group], child: str) -> list[str]:
    return [group.name for group in groups if child in group.children]
