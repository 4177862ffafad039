"""The table of the commands."""

from __future__ import annotations

from importlib import import_module

import pytest

from percore.errors import UsageError
from percore.supervisor.cli import run
from percore.supervisor.commands.registry import GROUPS, Verb, place_of

COMMANDS = [command for commands in GROUPS.values() for command in commands]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.names.split()[0])
def test_each_command_leads_to_a_function(command: Verb) -> None:
    module, function = place_of(command)
    assert callable(getattr(import_module(module), function))


def test_no_name_means_two_commands() -> None:
    names = [name for command in COMMANDS for name in command.names.split()]
    assert sorted(names) == sorted(set(names))


def test_commands_that_read_nothing_in_the_home_are_those_of_root_and_of_no_supervisor() -> None:
    free = {command.names.split()[0] for command in COMMANDS if not command.reads_home}
    assert free == {"startup", "unstartup", "completion", "init", "pm2-alias"}


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.is_plain], ids=lambda each: each.names)
def test_a_command_without_arguments_refuses_one_before_it_does_anything(command: Verb) -> None:
    with pytest.raises(UsageError, match="an unexpected argument"):
        run([command.names.split()[0], "x"])
