"""The commands of `percore`: what `percore COMMAND --help` shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

from percore.supervisor.commands.arguments import ArgumentHelp, CommandHelp, all_commands
from tests.reference.markdown import code, sentence, table

_HELP = "-h"


@cache
def _commands() -> Sequence[CommandHelp]:
    return all_commands()


def of_group(*words: str) -> Iterator[str]:
    """An overview, then each command."""
    group = " ".join(words)
    found = [command for command in _commands() if command.group == group]
    assert found, group
    links = [(f"[`{each.name}`](#percore-{each.name.lower()})", each.summary) for each in found]
    yield from table(("Command", "What it does"), links)
    for command in found:
        yield from ("", *_section(command))


def _section(command: CommandHelp) -> Iterator[str]:
    aliases = f" Also called {' and '.join(map(code, command.aliases))}." if command.aliases else ""
    yield from (f"### percore {command.name}", "", "```text", command.usage, "```", "")
    yield f"{sentence(command.summary)} {command.more}".strip() + aliases
    rows = [(_spelled(each), each.help) for each in (*command.words, *command.options) if _is_shown(each)]
    if rows:
        yield from ("", *table(("Argument or option", "Meaning"), rows))
    if any(each.section for each in command.options):
        yield from ("", "Every key of a [process file](process-file.md) is an option as well.")
    if command.codes:
        yield from ("", f"Exit code {'; '.join(command.codes)}.")


def _is_shown(argument: ArgumentHelp) -> bool:
    return _HELP not in argument.spellings and not argument.section


def _spelled(argument: ArgumentHelp) -> str:
    if not argument.spellings:
        return code(argument.value)
    value = f" {argument.value}" if argument.value else ""
    return ", ".join(code(f"{spelling}{value}") for spelling in argument.spellings)
