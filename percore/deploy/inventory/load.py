"""Where an environment's inventory is, and which reader each of its files needs."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from percore.common import names
from percore.deploy.command_line import relative, to_type
from percore.deploy.inventory.ansible_cfg import NAME as ANSIBLE_CFG
from percore.deploy.inventory.ansible_cfg import inventory_in
from percore.deploy.inventory.ini import IniReader, hide_values
from percore.deploy.inventory.model import Inventory
from percore.deploy.inventory.script import read_script
from percore.deploy.inventory.vars_files import DEEPEST_DIRECTORY
from percore.deploy.inventory.yaml import read_yaml
from percore.deploy.schema import suggest
from percore.deploy.shipped import shipped_directory
from percore.deploy.yaml_files import Document, read_text
from percore.errors import UsageError

YAML_ENDINGS = (".yml", ".yaml", ".json")
_USUAL = ("hosts", "inventory")
"""Names of inventories that say nothing: their directory is the environment."""

VARIABLE_DIRECTORIES = ("group_vars", "host_vars", "vars_plugins")
# What Ansible leaves out of a directory.
LEFT_OUT = (".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg", ".retry")


def find_inventory(env: str, directory: str | Path = "inventories") -> Path:
    """The file or directory `<directory>/<env>`, with any ending; raises UsageError that names the known environments."""
    if not names.is_path_word(env):
        raise UsageError(f"{ascii(env)[:80]} cannot be the name of an environment", next=f"use {names.PATH_WORD}")
    base = Path(directory)
    entries = _entries(base) if base.is_dir() else []
    found = [path for path in entries if env in (path.name, path.stem)]
    if len(found) == 1:
        return found[0]
    if found:
        choices = ", ".join(path.name for path in found)
        raise UsageError(f"environment '{env}' could be any of {choices}", where=str(base), next="rename all but one")
    known = environments(base)
    advice = suggest(env, known, f"known: {', '.join(known) or 'none'}; make it: {to_type(f'init --env {env}')}")
    if env == "lab" and base.resolve().parent == shipped_directory():
        advice = f"start the lab first: {to_type('lab.up')}"
    if other := inventory_in(base.resolve().parent):
        advice = f"{ANSIBLE_CFG} names an inventory: {to_type(f'inventory --env {other}')}"
    raise UsageError(f"there is no environment '{env}'", where=str(base), next=advice)


def name_of(path: Path) -> str:
    """The environment of an inventory that is given by its path: `deploy/staging/hosts.yml` is staging."""
    path = path.absolute()
    word = path.parent.name if path.stem in _USUAL and not path.is_dir() else path.stem
    if not path.exists():
        raise UsageError("there is no such file or directory", where=str(path), next=to_type("inventory --env NAME"))
    if not names.is_path_word(word):
        raise UsageError(f"{ascii(word)[:80]} cannot be the name of an environment", where=str(path), next="rename it")
    return word


def environments(directory: Path) -> list[str]:
    """The names of all environments of a project."""
    return sorted({path.stem for path in _entries(directory)}) if directory.is_dir() else []


def load_inventory(path: str | Path) -> Inventory:
    """Raises UsageError with file and line for what cannot be read."""
    path = Path(path)
    inventory = Inventory(path, path if path.is_dir() else path.parent)
    try:
        _read(path, inventory)
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror}", where=str(error.filename or path)) from None
    return inventory.finish()


def _read(path: Path, inventory: Inventory, depth: int = 0) -> None:
    if depth > DEEPEST_DIRECTORY:
        raise UsageError(f"it lies more than {DEEPEST_DIRECTORY} directories deep", where=str(path))
    if path.is_dir():
        for entry in _entries(path):
            _read(entry, inventory, depth + 1)
    else:
        inventory.source = path
        read = read_script if _is_program(path) else _read_file
        read(path, inventory)


def _entries(directory: Path) -> list[Path]:
    return sorted(
        (
            path
            for path in directory.iterdir()
            if not path.name.startswith(".")
            and path.name not in VARIABLE_DIRECTORIES
            and not path.name.endswith(LEFT_OUT)
        ),
        key=lambda path: path.name,
    )


def _is_program(path: Path) -> bool:
    """As Ansible, but that an executable bit alone makes no program: some file systems set it on every file."""
    try:
        if not path.is_file():  # a pipe would wait for its writer
            return False
        with path.open("rb") as source:
            begin = source.read(4)
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror}", where=str(path)) from None
    has_interpreter = begin.startswith(b"#!")
    if has_interpreter and not os.access(path, os.X_OK):
        raise UsageError("it is a program that may not be run", where=str(path), next=f"chmod +x {path}")
    return os.access(path, os.X_OK) and (has_interpreter or begin == b"\x7fELF")


def _read_file(path: Path, inventory: Inventory) -> None:
    if path.suffix == ".toml":
        raise UsageError("inventories in TOML are not read", where=str(path), next="write it as YAML")
    text = read_text(path, hide_other=hide_values)
    if path.suffix in (".yml", ".yaml") and _begins_a_section(text):
        ini = relative(path.with_suffix(".ini"))
        raise UsageError("this is INI, and its ending says YAML", where=f"{relative(path)}:1", next=f"call it {ini}")
    if path.suffix in YAML_ENDINGS or (not path.suffix and _holds_a_mapping(path, text)):
        read_yaml(Document(path, text), inventory)
    else:
        IniReader(path, inventory).read(text)


def _begins_a_section(text: str) -> bool:
    """The first line that is no comment is `[NAME]`."""
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith(("#", ";"))), "")
    return first.startswith("[") and first.partition("#")[0].strip().endswith("]")


def _holds_a_mapping(path: Path, text: str) -> bool:
    """A file without an ending is YAML where it can be, else INI."""
    try:
        return isinstance(Document(path, text).root, yaml.MappingNode)
    except UsageError:
        return False
