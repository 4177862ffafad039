"""docs/tutorial/this-machine.md: followed to the letter, except that percore is the one of this checkout."""

from __future__ import annotations

from pathlib import Path

from tests.supervisor.conftest import Supervisor
from tests.supervisor.reading import try_it

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial" / "this-machine.md").read_text()


def test_a_stranger_who_follows_the_tutorial_of_this_machine_sees_what_it_says(supervisor: Supervisor) -> None:
    instead = {"python3 -m venv .venv && . .venv/bin/activate": "true", "pip install percore": "true"}
    try_it(supervisor, PAGE, instead)
