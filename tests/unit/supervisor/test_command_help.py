"""`percore --help`: each command, each word and each option says what it is for, and no typing error goes unnamed."""

from __future__ import annotations

import pytest

from percore.errors import UsageError
from percore.supervisor import cli
from percore.supervisor.commands.arguments import CommandHelp, all_commands, parser_of
from percore.supervisor.commands.registry import GROUPS, all_names, find

COMMANDS = all_commands()
each_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)


def test_all_commands_are_those_of_the_registry_in_its_order() -> None:
    assert [name for command in COMMANDS for name in (command.name, *command.aliases)] == all_names()
    assert [command.group for command in COMMANDS] == [group for group, verbs in GROUPS.items() for _ in verbs]


@each_command
def test_each_word_and_each_option_of_a_command_has_a_help_text(command: CommandHelp) -> None:
    assert command.usage.startswith(f"percore {command.name}")
    assert [argument for argument in (*command.words, *command.options) if not argument.help.strip()] == []


@each_command
def test_help_shows_what_is_described_whichever_way_it_is_asked_for(
    command: CommandHelp, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    for words in (["help", command.name], [command.name, "--help"], [command.name, "-h"]):
        with pytest.raises(SystemExit) as ended:
            cli.run(words)
        assert ended.value.code == 0
        shown.append(capsys.readouterr().out)
    assert shown == [shown[0]] * 3
    text = without_blanks(shown[0])
    assert text.startswith(without_blanks(f"usage: {command.usage} {command.summary}"))
    for argument in (*command.words, *command.options):
        assert without_blanks(argument.help) in text
        assert all(spelling in text for spelling in argument.spellings)


def without_blanks(text: str) -> str:
    """However its lines are broken."""
    return "".join(text.split())


@each_command
def test_an_unknown_option_is_named_whatever_else_is_missing(command: CommandHelp) -> None:
    with pytest.raises(UsageError, match=r"there is no option '--hlep' -> did you mean --help\?"):
        cli.run([command.name, "--hlep"])


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["start", "--max-memory-restrat", "300M"], "--max-memory-restart"),
        (["stop", "--onyl", "api"], "--only"),
        (["logs", "--sicne=10m"], "--since"),
        (["startOrReload", "--update-evn"], "--update-env"),
    ],
)
def test_an_unknown_option_names_the_one_that_was_meant(words: list[str], meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean {meant}"):
        cli.run(words)


def test_the_parser_is_found_under_each_alias() -> None:
    verb = find("gracefulReload")
    assert verb
    assert parser_of(verb).prog == "percore reload"
