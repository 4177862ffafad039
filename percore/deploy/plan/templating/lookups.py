"""`lookup(...)` in templates: environment variables and files of the control machine, and variables by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Undefined, pass_context
from jinja2.runtime import Context

from percore.deploy.yaml_files import read_text


class UnsetVariable(Undefined):
    """A variable of the environment that is not set: false and empty in a condition, the default with one; else an error."""

    __str__ = __iter__ = Undefined._fail_with_undefined_error

    def __eq__(self, other: object) -> bool:
        return other == ""

    def __ne__(self, other: object) -> bool:
        return other != ""

    __hash__ = Undefined.__hash__


@pass_context
def look_up(context: Context, kind: str, *terms: str, wantlist: bool = False, **options: Any) -> Any:
    name = str(kind).removeprefix("ansible.builtin.")
    if name not in LOOKUPS:
        raise ValueError(f"lookup('{name}') is not supported, only {', '.join(LOOKUPS)}")
    found = [LOOKUPS[name](context, str(term), options) for term in terms]
    if wantlist:
        return found
    return found[0] if len(found) == 1 else ",".join(map(str, found))


@pass_context
def query(context: Context, kind: str, *terms: str, **options: Any) -> Any:
    return look_up(context, kind, *terms, **{**options, "wantlist": True})


def _env(context: Context, name: str, options: Mapping[str, Any]) -> Any:
    if name in os.environ:
        return os.environ[name]
    if "default" in options:
        return options["default"]
    return UnsetVariable(hint=f"environment variable {name} is not set here")


def _file(context: Context, name: str, options: Mapping[str, Any]) -> str:
    """As Ansible: an absolute path, or one below the project's `files/` or the project."""
    project = str(context.resolve("playbook_dir"))
    places = [Path(project, "files", name), Path(project, name)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise ValueError(f"file {name} does not exist in {project}, or in files/ there")
    text = read_text(path)
    return text.rstrip() if options.get("rstrip", True) else text


def _vars(context: Context, name: str, options: Mapping[str, Any]) -> Any:
    found = context.resolve(name)
    return options["default"] if isinstance(found, StrictUndefined) and "default" in options else found


LOOKUPS: Mapping[str, Callable[[Context, str, Mapping[str, Any]], Any]] = {"env": _env, "file": _file, "vars": _vars}
