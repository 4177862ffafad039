"""docs/how-to/from-pm2.md: its project is tried as the page says, and what it says to type exists."""

from __future__ import annotations

import re
from pathlib import Path

from percore.supervisor.commands.registry import find, instead_of
from tests.supervisor.conftest import Supervisor
from tests.supervisor.reading import try_it

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "from-pm2.md").read_text()


def test_a_project_of_pm2_runs_as_the_page_says(supervisor: Supervisor) -> None:
    try_it(supervisor, PAGE, {})


def test_every_command_of_the_page_exists_and_every_missing_one_of_pm2_is_told_what_to_type() -> None:
    here = re.findall(r"`(?:sudo )?percore ([\w:-]+)", PAGE)
    assert len(here) > 10
    assert [name for name in here if find(name) is None] == []
    missing = re.findall(r"\| (`pm2 .*?) \|", PAGE.split("## What is missing")[1])
    names = {word for row in missing for word in re.findall(r"`(?:pm2 )?([\w:]+)", row)} - {"reload", "io"}
    assert [name for name in names if find(name) is None and not instead_of(name)] == []
