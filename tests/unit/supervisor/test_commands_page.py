"""The page of the commands and the table of the commands say the same."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from percore.supervisor.commands.registry import GROUPS, Command

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "commands.md"
COMMANDS = [command for commands in GROUPS.values() for command in commands]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.names.split()[0])
def test_each_command_and_alias_is_on_the_page_and_leads_to_a_function(command: Command) -> None:
    text = PAGE.read_text()
    missing = [name for name in command.names.split() if not re.search(rf"`{re.escape(name)}[ `]", text)]
    assert missing == []
    module, _, function = command.place.partition(":")
    assert callable(getattr(import_module(f"percore.supervisor.commands.{module}"), function))


def test_no_name_means_two_commands() -> None:
    names = [name for command in COMMANDS for name in command.names.split()]
    assert sorted(names) == sorted(set(names))
