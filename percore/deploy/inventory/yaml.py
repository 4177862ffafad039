"""Inventories in YAML or JSON: groups, each with `hosts`, `children` and `vars`."""

from __future__ import annotations

import yaml

from percore.deploy.inventory.host_ranges import parse_hosts
from percore.deploy.inventory.model import Inventory, set_host_variables
from percore.deploy.schema import suggest
from percore.deploy.yaml_files import Document, Origin, is_null
from percore.errors import UsageError

SECTIONS = ("vars", "children", "hosts")


def read_yaml(document: Document, inventory: Inventory) -> None:
    if document.root is None:
        return
    groups = dict(document.pairs(document.root, "a mapping of groups"))
    if "plugin" in groups:
        raise UsageError(
            "this configures an inventory plugin of Ansible, which is not supported",
            where=document.place(groups["plugin"]),
            next="keep its result instead: ansible-inventory -i FILE --list --export > inventory script",
        )
    for name, node in groups.items():
        _read_group(document, inventory, name, node)


def _read_group(document: Document, inventory: Inventory, name: str, node: yaml.Node) -> None:
    group = inventory.add_group(name, document.place(node))
    if is_null(node):
        return
    sections = dict(document.pairs(node, f"a mapping of {', '.join(SECTIONS)}"))
    for key, section in sections.items():
        if key not in SECTIONS:
            raise UsageError(
                f"key '{key}' of group '{name}' is not known",
                where=document.place(section),
                next=suggest(key, SECTIONS, f"known keys: {', '.join(SECTIONS)}"),
            )
    for key, section in sections.items():  # in the order of the file: of two values for one host the later one wins
        if key == "vars" and not is_null(section):
            group.variables.update(document.origins(section))
        for child, body in _named(document, section) if key == "children" else ():
            inventory.add_child(name, child, document.place(body))
            _read_group(document, inventory, child, body)
        for written, variables in _named(document, section) if key == "hosts" else ():
            _read_host(document, inventory, name, written, variables)


def _read_host(document: Document, inventory: Inventory, group: str, written: str, node: yaml.Node) -> None:
    hosts, number = parse_hosts(written, document.place(node))
    port = None if number is None else Origin(number, document.name, node.start_mark.line + 1)
    variables = {} if is_null(node) else document.origins(node)
    for host in hosts:
        inventory.add_host(host, group, document.place(node), port=port)
        set_host_variables(inventory, host, variables)


def _named(document: Document, section: yaml.Node) -> list[tuple[str, yaml.Node]]:
    """The entries of `hosts` or `children`; a single name may stand for a mapping of one."""
    if is_null(section):
        return []
    if isinstance(section, yaml.ScalarNode):
        empty = yaml.ScalarNode("tag:yaml.org,2002:null", "", section.start_mark, section.end_mark)
        return [(str(section.value), empty)]
    return list(document.pairs(section))
