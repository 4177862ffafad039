"""An inventory as `ansible-inventory` shows it: `--list`, `--host` and `--graph`."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from percore.deploy.inventory.model import ALL, UNGROUPED, Inventory
from percore.deploy.vault.envelope import Sealed
from percore.deploy.yaml_files import Unsafe
from percore.errors import UsageError

MOST_LINES = 100_000


def list_inventory(inventory: Inventory, hosts: Collection[str]) -> dict[str, Any]:
    """The structure that a dynamic inventory prints. Encrypted values stay encrypted."""
    chosen = frozenset(hosts)
    variables = {host: _marked(inventory.variables(host)) for host in hosts}
    shown: dict[str, Any] = {"_meta": {"hostvars": {host: found for host, found in variables.items() if found}}}
    for name in inventory.descendants(ALL):
        group = inventory.groups[name]
        members = [host for host in group.hosts if host in chosen]
        children = _shown_children(inventory, name)
        entry = {
            **({"children": children} if children else {}),
            **({"hosts": members} if members and name != ALL else {}),
        }
        if entry:
            shown[name] = entry
    return shown


def show_host(inventory: Inventory, host: str) -> dict[str, Any]:
    """The variables of one host, as written."""
    return {name: to_json(value) for name, value in inventory.variables(host).items()}


def draw_graph(inventory: Inventory, hosts: Collection[str]) -> Iterator[str]:
    """The tree of groups and hosts, line by line. A group is drawn wherever it is a child, which may be without end."""
    chosen = frozenset(hosts)
    for number, line in enumerate(_draw(inventory, chosen, ALL, 0)):
        if number >= MOST_LINES:
            raise UsageError(f"the graph has more than {MOST_LINES} lines", next="see the hosts as JSON: --list")
        yield line


def _draw(inventory: Inventory, hosts: Collection[str], group: str, depth: int) -> Iterator[str]:
    yield _indented(f"@{group}:", depth)
    for child in inventory.groups[group].children:
        yield from _draw(inventory, hosts, child, depth + 1)
    if group != ALL:
        for host in inventory.groups[group].hosts:
            if host in hosts:
                yield _indented(host, depth + 1)


def to_json(value: Any, *, mark: bool = False) -> Any:
    """A value for JSON: dates as ISO texts, encrypted values as Ansible's own JSON has them; `mark` also unsafe texts."""
    if isinstance(value, Sealed):
        return {"__ansible_vault": value.ciphertext}
    if isinstance(value, Unsafe):
        return {"__ansible_unsafe": str(value)} if mark else str(value)
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {_key(key): to_json(entry, mark=mark) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [to_json(entry, mark=mark) for entry in value]
    return value


def _marked(variables: Mapping[str, Any]) -> dict[str, Any]:
    return {name: to_json(value, mark=True) for name, value in variables.items()}


def _key(key: Any) -> Any:
    return key if isinstance(key, (str, int, float, bool)) or key is None else str(key)


def _shown_children(inventory: Inventory, name: str) -> list[str]:
    return [
        child
        for child in inventory.groups[name].children
        if child != UNGROUPED or name == ALL or inventory.groups[child].hosts
    ]


def _indented(text: str, depth: int) -> str:
    return f"{'  |' * depth}--{text}" if depth else text
