"""Objects as YAML that every parser reads alike: a text that could be a number, a time or a word of truth is in quotes."""

from __future__ import annotations

import re
from typing import Any

import yaml

_PLAIN = re.compile(r"[A-Za-z/](?:[A-Za-z0-9_./-]|[: ](?=[A-Za-z0-9/]))*")
_MEANT_OTHERWISE = re.compile(r"(?i:y|n|yes|no|on|off|true|false|null|nan|inf|infinity)")


class _Dumper(yaml.SafeDumper):
    """Two equal mappings are written twice: an anchor is nothing that people look for in a manifest."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_plain = _PLAIN.fullmatch(text) and not _MEANT_OTHERWISE.fullmatch(text)
    style = "|" if _is_block(text) else None if is_plain else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _is_block(text: str) -> bool:
    """Several lines that can be written as they are."""
    lines = text.split("\n")
    return len(lines) > 1 and all(line == line.strip() != "" and line.isprintable() for line in lines)


_Dumper.add_representer(str, _write_text)


def yaml_text(value: Any) -> str:
    return str(
        yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=1_000_000, allow_unicode=True)
    )
