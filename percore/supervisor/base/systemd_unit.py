"""The systemd unit of the supervisor. Its text is a template of Jinja that a deploy fills in as well (roles/percore).

A host has no Jinja: `make_unit` knows what this one template uses of it, a name and filters.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

_NAME = "percore.service.j2"
_EXPRESSION = re.compile(r'\{\{ (\w+)(?: \| (\w+)(?:\("([^"]*)"\))?)? \}\}')

_OF_ROOT = "CAP_SETUID CAP_SETGID CAP_KILL CAP_DAC_OVERRIDE CAP_SYS_PTRACE CAP_NET_BIND_SERVICE"
"""For a supervisor with apps of other users: change to a user, stop and see its processes, reach its directories; and
ports below 1024."""


def template_path() -> str:
    """Where percore is installed, it lies in the supervisor's package; in a checkout, among all templates."""
    supervisor = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    installed = os.path.join(supervisor, _NAME)
    checkout = os.path.join(os.path.dirname(os.path.dirname(supervisor)), "templates", _NAME)
    return installed if os.path.exists(installed) else checkout


def make_unit(values: Mapping[str, str]) -> str:
    def value_of(match: re.Match[str]) -> str:
        name, filter_name, argument = match.groups()
        if filter_name == "default":
            return values.get(name, argument)
        return FILTERS[filter_name](values[name]) if filter_name else values[name]

    with open(template_path(), encoding="utf-8") as file:
        return _EXPRESSION.sub(value_of, file.read())


def unit_text(text: object) -> str:
    """As it stands between double quotes in a unit: no specifier, no end of the quotes, no other line."""
    escaped = str(text).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", escaped)


def unit_word(word: object) -> str:
    """One word of a command line: nothing in it is a specifier or a variable."""
    escaped = unit_text(word).replace("$", "$$")
    return f'"{escaped}"' if re.search(r"[^\w./=@:-]", str(word)) else escaped


def command_line(words: Iterable[str]) -> str:
    return " ".join(map(unit_word, words))


def unit_capabilities(user: object) -> str:
    return _OF_ROOT if user == "root" else ""


def unit_ambient(user: object) -> str:
    """systemd 257 removes these two from a unit with User=root unless it requests them again."""
    return "CAP_SETUID CAP_SETGID" if user == "root" else ""


def unit_processes(user: object) -> str:
    """Which processes are seen: root's supervisor may look at all (CAP_SYS_PTRACE), its apps of other users at their own."""
    return "invisible" if user == "root" else "default"


FILTERS = {
    "unit_text": unit_text,
    "unit_word": unit_word,
    "unit_capabilities": unit_capabilities,
    "unit_ambient": unit_ambient,
    "unit_processes": unit_processes,
}
"""Those that the template uses; a deploy gives them to Jinja."""
