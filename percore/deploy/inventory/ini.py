"""Inventories in INI form: `[group]`, `[group:vars]`, `[group:children]`, and values typed as Ansible types them."""

from __future__ import annotations

import ast
import re
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from percore.deploy.inventory.host_ranges import parse_hosts
from percore.deploy.inventory.model import UNGROUPED, Inventory, set_host_variables
from percore.deploy.masking import REDACTOR
from percore.deploy.schema import suggest
from percore.deploy.yaml_files import Origin, Unsafe
from percore.errors import UsageError

_SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:#.*)?")
_LONGEST_LINE = 100_000
_SECRET_DIGITS = 6  # of a number: a shorter one is a port
_MOST_BITS = 3000  # of a number: a larger one could not be printed
_CHILD = re.compile(r"([^:\]\s]+)\s*(?:#.*)?")


class IniReader:
    """One pass over the lines. A group may be used before its own section comes; in the end each must have one."""

    def __init__(self, path: Path, inventory: Inventory) -> None:
        self._path = path
        self._inventory = inventory
        self._line = 0
        self._group = UNGROUPED
        self._read: Callable[[str], None] = self._read_host
        self._awaited: dict[str, int] = {}  # the line that uses a group which no section declared yet
        self._parents: dict[str, list[str]] = {}

    def read(self, text: str) -> None:
        for number, line in enumerate(text.splitlines(), 1):
            self._line = number
            if len(line) > _LONGEST_LINE:
                self._refuse(f"the line has more than {_LONGEST_LINE} characters")
            line = line.strip()
            if line and line[0] not in "#;":
                section = _SECTION.fullmatch(line)
                if section:
                    self._enter(section[1], section[2] or "hosts")
                else:
                    self._read(line)
        for name, number in self._awaited.items():
            self._line = number
            self._refuse(
                f"there is no group '{name}'",
                suggest(
                    name,
                    [known for known in self._inventory.groups if known not in self._awaited],
                    f"add a section [{name}]",
                ),
            )

    def _enter(self, group: str, kind: str) -> None:
        readers = {"hosts": self._read_host, "vars": self._read_variable, "children": self._read_child}
        if kind not in readers:
            self._refuse(f"section [{group}:{kind}] is not known", "use [GROUP], [GROUP:vars] or [GROUP:children]")
        self._group, self._read = group, readers[kind]
        if kind == "vars":
            if group not in self._inventory.groups:
                self._awaited.setdefault(group, self._line)
            self._inventory.add_group(group, self._place)
        else:
            self._declare(group)

    def _declare(self, group: str) -> None:
        self._inventory.add_group(group, self._place)
        self._awaited.pop(group, None)
        for parent in self._parents.pop(group, []):
            self._inventory.add_child(parent, group, self._place)

    def _read_child(self, line: str) -> None:
        found = _CHILD.fullmatch(line)
        if found is None:
            self._refuse(f"'{line}' is not the name of a group", "a section :children holds one name per line")
        elif found[1] in self._inventory.groups and found[1] not in self._awaited:
            self._inventory.add_child(self._group, found[1], self._place)
        else:
            self._awaited.setdefault(found[1], self._line)
            self._parents.setdefault(found[1], []).append(self._group)

    def _read_variable(self, line: str) -> None:
        name, separator, value = line.partition("=")
        if not separator or not name.strip():
            self._refuse(f"'{line}' should be NAME=VALUE")
        self._inventory.groups[self._group].variables[name.strip()] = self._origin(value.strip())

    def _read_host(self, line: str) -> None:
        if line.startswith("[") and line.endswith("]"):
            self._refuse(
                f"'{line}' is not a section", "write [GROUP], [GROUP:vars] or [GROUP:children], without spaces"
            )
        if line == "---":
            self._refuse("this looks like YAML", "give the file the ending .yml")
        try:
            written, *words = shlex.split(line, comments=True)
        except ValueError as error:
            self._refuse(f"the line cannot be split into words: {error}", "close the quotation mark")
        hosts, number = parse_hosts(written, self._place)
        variables: dict[str, Origin] = {}
        for word in words:
            name, separator, value = word.partition("=")
            if not separator or not name:
                self._refuse(f"'{word}' should be NAME=VALUE", "a comment begins with #")
            variables[name] = self._origin(value)
        port = None if number is None else Origin(number, str(self._path), self._line)
        for host in hosts:
            self._inventory.add_host(host, self._group, self._place, port=port)
            set_host_variables(self._inventory, host, variables)

    def _origin(self, written: str) -> Origin:
        return Origin(parse_value(written), str(self._path), self._line)

    @property
    def _place(self) -> str:
        return f"{self._path}:{self._line}"

    def _refuse(self, what: str, advice: str = "") -> NoReturn:
        raise UsageError(what, where=self._place, next=advice)


def hide_values(text: str) -> None:
    """Of a file that is encrypted as a whole: what is assigned in it, but no names and no short numbers."""
    for line in text.splitlines():
        words = [line.strip(), *line.split(), *_words(line)]
        for value in (word.partition("=")[2].strip() for word in words):
            bare = value.strip("\"'")
            if not (bare.isdigit() and len(bare) < _SECRET_DIGITS):
                REDACTOR.hide(bare)


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []


def parse_value(written: str) -> Any:
    """A literal of Python where it is one, else the text itself: `1` is a number, `True` true, `yes` a text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _plain(ast.literal_eval(written))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return written


def _plain(value: Any) -> Any:
    """What JSON and YAML know: no tuples, sets, bytes or complex numbers."""
    if isinstance(value, dict):
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(entry) for entry in value]
    if isinstance(value, bytes):
        return Unsafe(value.decode(errors="surrogateescape"))
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ValueError
    if value is ...:
        return "..."
    return str(value) if isinstance(value, complex) else value
