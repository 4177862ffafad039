"""The tasks of `invoke`: what `invoke --help TASK` shows."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from invoke.collection import Collection

from percore.tasks import make_namespace
from percore.tasks.decorators import HELP, SCOPE
from tests.reference.markdown import code, sentence, table

COMMON = ("env", "limit", "forks", "verbose")


@cache
def namespace() -> Collection:
    return make_namespace(str(Path(__file__).resolve().parents[2] / "tasks.py"))


@cache
def arguments_of(name: str) -> Sequence[Any]:
    """Of a copy: a task gives its help away."""
    return list(copy.deepcopy(namespace()[name]).get_arguments())


def of_names(*names: str) -> Iterator[str]:
    """An overview, then each of these tasks."""
    yield from table(
        ("Task", "What it does"), [(f"[`{name}`](#invoke-{_anchor(name)})", _summary(name)) for name in names]
    )
    for name in names:
        yield from ("", *_section(name))


def common_options() -> Iterator[str]:
    spelled = {
        "env": "`--env ENV`",
        "limit": "`--limit PATTERN`",
        "forks": "`--forks N`",
        "verbose": "`-v`, `-vv`, `-vvv`",
    }
    defaults = {"env": "", "limit": str(SCOPE["limit"]), "forks": str(SCOPE["forks"]), "verbose": ""}
    yield from table(
        ("Option", "Meaning", "Default"), [(spelled[name], HELP[name], code(defaults[name])) for name in COMMON]
    )


def _anchor(name: str) -> str:
    return name.replace(".", "").lower()


def _summary(name: str) -> str:
    return (inspect.getdoc(namespace()[name].body) or "").partition("\n")[0]


def _section(name: str) -> Iterator[str]:
    task = namespace()[name]
    aliases = "".join(f" Also called `{alias}`." for alias in task.aliases)
    yield from (f"### invoke {name}", "", f"{sentence(_summary(name))}{aliases}")
    names = {each.name for each in arguments_of(name)}
    arguments = [each for each in arguments_of(name) if each.name not in COMMON]
    if arguments:
        yield from ("", *table(("Option", "Meaning", "Default"), [_row(each) for each in arguments]))
    if "limit" in names:
        yield from (
            "",
            "And the [options of every task that talks to hosts](#options-of-every-task-that-talks-to-hosts).",
        )
    elif "env" in names:
        yield from ("", f"`--env ENV`: {HELP['env']}.")


def _row(argument: Any) -> Sequence[str]:
    names = [f"`--{name}`" if len(name) > 1 else f"`-{name}`" for name in sorted(argument.names, key=len, reverse=True)]
    value = "" if argument.kind is bool else f" {_unit(argument)}"
    default = "" if argument.default in (None, "", False) else code(str(argument.default))
    needed = "required" if argument.positional else default
    return ", ".join(names) + (f" `{value.strip()}`" if value else ""), argument.help or "", needed


def _unit(argument: Any) -> str:
    return {int: "N", float: "N"}.get(argument.kind, "TEXT")
