"""`percore completion`: the lines that make a shell complete commands, options and the names of apps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from percore.common.printable import printable
from percore.errors import PercoreError
from percore.supervisor.client import select_workers
from percore.supervisor.commands.arguments import CommandHelp, all_commands, make_parser
from percore.supervisor.commands.completions.bash import bash_script
from percore.supervisor.commands.completions.fish import fish_script
from percore.supervisor.commands.completions.zsh import zsh_script


def print_completion(arguments: list[str]) -> int:
    parser = make_parser("completion")
    choices = [*_SHELLS, *_LISTS]
    parser.add_argument("what", choices=choices, help="the shell; names, ids: those of all apps, for the shell")
    what = parser.parse_args(arguments).what
    if what in _LISTS:
        print("\n".join(_LISTS[what]()))
    else:
        print(script_of(what, all_commands()), end="")
    return 0


def script_of(shell: str, commands: Sequence[CommandHelp]) -> str:
    return _SHELLS[shell](commands)


def names() -> list[str]:
    """Also namespaces; those that can be typed as one word. An error must not appear in the prompt."""
    found = {name for worker in _workers() for name in (worker["name"], worker["namespace"])}
    return ["all", *sorted(name for name in found if name == printable(name) and not any(map(str.isspace, name)))]


def ids() -> list[str]:
    return [str(worker["id"]) for worker in _workers()]


def _workers() -> list[dict[str, Any]]:
    try:
        return select_workers()
    except PercoreError:
        return []


_SHELLS: dict[str, Callable[[Sequence[CommandHelp]], str]] = {
    "bash": bash_script,
    "zsh": zsh_script,
    "fish": fish_script,
}
_LISTS: dict[str, Callable[[], list[str]]] = {"names": names, "ids": ids}
