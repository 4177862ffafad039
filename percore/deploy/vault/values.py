"""Single `!vault` values inside the text of a YAML file: found, and replaced; all other text stays as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from percore.common.bounds import YamlFault, compose_yaml
from percore.deploy.command_line import to_type
from percore.deploy.vault.envelope import seal
from percore.deploy.vault.passwords import Keyring
from percore.errors import UsageError

TAGS = ("!vault", "!vault-encrypted")


@dataclass(frozen=True)
class VaultValue:
    """A scalar under `!vault` in the text of a YAML file."""

    path: tuple[str, ...]
    text: str
    start: int
    end: int
    line: int
    indent: int
    in_flow: bool


def find_values(text: str, path: Path) -> list[VaultValue]:
    """All `!vault` scalars of a YAML text, in the order of the text."""
    try:
        root = compose_yaml(text, yaml.SafeLoader)
    except YamlFault as fault:
        raise UsageError(
            f"not valid YAML: {fault.what}", where=fault.place(str(path)), next="fix that line" if fault.line else ""
        ) from None
    found: dict[int, VaultValue] = {}
    if root is not None:
        _collect(root, (), text, found, in_flow=False)
    return [found[start] for start in sorted(found)]


def _collect(node: yaml.Node, path: tuple[str, ...], text: str, found: dict[int, VaultValue], *, in_flow: bool) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _collect(
                value, (*path, str(getattr(key, "value", ""))), text, found, in_flow=in_flow or bool(node.flow_style)
            )
    elif isinstance(node, yaml.SequenceNode):
        for index, entry in enumerate(node.value):
            _collect(entry, (*path, str(index)), text, found, in_flow=in_flow or bool(node.flow_style))
    elif isinstance(node, yaml.ScalarNode) and node.tag in TAGS:
        start, end = node.start_mark.index, node.end_mark.index
        line = text[text.rfind("\n", 0, start) + 1 :]
        indent = len(line) - len(line.lstrip(" -")) + 2
        if node.style in ("|", ">"):
            end = start + len(text[start:end].rstrip())  # the blank lines and comments behind a block are not its own
        found[start] = VaultValue(path, node.value, start, end, node.start_mark.line + 1, indent, in_flow)


def replace_values(text: str, path: Path, change: Callable[[VaultValue], str | None], *, required: bool = False) -> str:
    """The text with every `!vault` scalar replaced by what `change` says; None keeps it unchanged."""
    values = find_values(text, path)
    if not values and required:
        raise UsageError("nothing in it is encrypted", where=str(path), next=to_type(f"secrets.encrypt {path}"))
    parts: list[str] = []
    position = 0
    for value in values:
        new = change(value)
        parts += [text[position : value.start], text[value.start : value.end] if new is None else new]
        position = value.end
    return "".join([*parts, text[position:]])


def plain_scalar(value: VaultValue, ring: Keyring, path: Path, *, tag: str) -> str:
    plain = ring.open(value.text, f"{path}:{value.line}")
    first, *others = plain.removesuffix("\n").split("\n")
    is_block = others and not value.in_flow and first[:1].strip() and not plain.endswith("\n\n")
    if is_block and all(line.replace("\t", "").isprintable() for line in (first, *others)):
        sign = "|" if plain.endswith("\n") else "|-"
        return _indented(f"{tag}{sign}", [first, *others], value)
    return f"{tag}{json.dumps(plain, ensure_ascii=False)}"


def sealed_scalar(plain: str, ring: Keyring, vault_id: str, value: VaultValue) -> str:
    return scalar(seal(plain.encode(), ring.password(vault_id), vault_id), value)


def scalar(ciphertext: str, value: VaultValue) -> str:
    if value.in_flow:
        return f"!vault {json.dumps(ciphertext)}"
    return _indented("!vault |", ciphertext.split("\n"), value)


def _indented(head: str, lines: list[str], value: VaultValue) -> str:
    return "\n".join([head, *(f"{' ' * value.indent}{line}" if line else "" for line in lines)])
