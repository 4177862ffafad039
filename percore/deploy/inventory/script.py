"""Dynamic inventories: a program that prints Ansible's JSON for `--list`, and for `--host NAME` where it has no `_meta`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from percore.common.bounds import DEEPEST_YAML
from percore.common.passwords import for_programs
from percore.deploy.inventory.model import Inventory, set_host_variables
from percore.deploy.schema import MAPPING, checked, is_text
from percore.deploy.yaml_files import Origin, from_json
from percore.errors import UsageError

SECONDS = 120
NAMES = checked("a list of names", lambda value: isinstance(value, list) and all(map(is_text, value)))
SECTIONS = ("hosts", "vars", "children")


def read_script(path: Path, inventory: Inventory) -> None:
    place = f"{path} --list"
    groups = dict(MAPPING.read(_run(path, "--list"), "the output", place))
    meta = groups.pop("_meta", None)
    for name, body in groups.items():
        _read_group(inventory, name, body, place)
    if meta is not None and "hostvars" in MAPPING.read(meta, "_meta", place):
        given = MAPPING.read(meta["hostvars"], "_meta.hostvars", place)
        for host in inventory.host_variables:
            if host in given:
                set_host_variables(inventory, host, _origins(given[host], place, f"_meta.hostvars.{host}"))
        return
    for host in list(inventory.host_variables):
        said = _run(path, "--host", host)
        set_host_variables(inventory, host, _origins(said, f"{path} --host {host}", "the output"))


def _read_group(inventory: Inventory, name: str, body: object, place: str) -> None:
    if isinstance(body, list):
        body = {"hosts": body}
    sections = MAPPING.read(body, name, place)
    if not any(key in sections for key in SECTIONS):
        # The oldest form: a name with variables and nothing else is a host in a group of its own name.
        sections = {"hosts": [name], "vars": sections}
    group = inventory.add_group(name, place)
    for host in _names(sections.get("hosts"), place, f"{name}.hosts"):
        inventory.add_host(host, name, place)
    group.variables.update(_origins(sections.get("vars") or {}, place, f"{name}.vars"))
    for child in _names(sections.get("children"), place, f"{name}.children"):
        inventory.add_child(name, child, place)


def _refuse_depth(value: object, where: str) -> None:
    """What is read from here on walks values by recursion."""
    level = [value]
    for _ in range(DEEPEST_YAML):
        level = [entry for found in level if isinstance(found, (dict, list)) for entry in _entries(found)]
    if level:
        raise UsageError(f"the inventory program's output is nested deeper than {DEEPEST_YAML} levels", where=where)


def _entries(value: dict[str, object] | list[object]) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value


def _run(path: Path, *words: str) -> Any:
    where = f"{path} {' '.join(words)}"
    try:
        done = subprocess.run(
            [str(path.absolute()), *words],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env=for_programs(),
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"the inventory program printed nothing within {SECONDS} s", where=where) from None
    except OSError as error:
        raise UsageError(f"the inventory program cannot be run: {error.strerror}", where=where) from None
    except UnicodeDecodeError:
        raise UsageError("the inventory program's output is not UTF-8", where=where) from None
    if done.returncode != 0:
        raise UsageError(f"the inventory program ended with {done.returncode}", where=where, detail=done.stderr)
    try:
        said = json.loads(done.stdout) if done.stdout.strip() else {}
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"the inventory program's output is not JSON: {error}", where=where, detail=done.stderr
        ) from None
    _refuse_depth(said, where)
    return said


def _origins(value: object, place: str, path: str) -> dict[str, Origin]:
    return {name: Origin(from_json(entry, place), place) for name, entry in MAPPING.read(value, path, place).items()}


def _names(value: object, place: str, path: str) -> list[str]:
    return [] if value is None else NAMES.read(value, path, place)
