"""The systemd unit of the supervisor. Its text is a template that a deploy fills in as well (roles/percore)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

_TEMPLATE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "percore.service.j2")


def make_unit(values: Mapping[str, str]) -> str:
    with open(_TEMPLATE, encoding="utf-8") as file:
        return re.sub(r"\{\{ (\w+) \}\}", lambda match: values[match[1]], file.read())


def command_line(words: Iterable[str]) -> str:
    """As systemd reads it: quoted, and nothing in it is a specifier or a variable."""
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$")
    return '"' + escaped.replace('"', '\\"') + '"' if re.search(r"[^\w./=@:-]", word) else escaped
