"""What variables mean: the comment behind each default of a role. A role of the project explains its own in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from percore.common.bounds import read_file


def meanings_in(role_file: Path) -> dict[str, str]:
    """By variable; only those that have a comment behind their value."""
    text = read_file(str(role_file)).decode(errors="replace")
    lines = text.splitlines()
    found = ((name, _comment(lines[line], column)) for name, line, column in _ends_of_defaults(text))
    return {name: comment for name, comment in found if comment}


def _ends_of_defaults(text: str) -> Iterator[tuple[str, int, int]]:
    """Each name, and where its value ends."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    parts = root.value if isinstance(root, yaml.MappingNode) else []
    defaults = next((value for key, value in parts if key.value == "defaults"), None)
    for key, value in defaults.value if isinstance(defaults, yaml.MappingNode) else []:
        if isinstance(value, yaml.ScalarNode) or value.flow_style:
            yield str(key.value), value.end_mark.line, value.end_mark.column


def _comment(line: str, column: int) -> str:
    rest = line[column:].strip()
    return rest.lstrip("# ").strip() if rest.startswith("#") else ""
