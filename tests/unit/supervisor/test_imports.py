"""What stays in the supervisor's memory, and what a quick command waits for, is what they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import percore
from percore.common.typing import NamedTuple, Optional

# Each is a tenth of a megabyte to ten megabytes, or brings what is.
TOO_MUCH = {
    *(
        "argparse",
        "asyncio",
        "concurrent.futures",
        "dataclasses",
        "http",
        "importlib.metadata",
        "inspect",
        "logging",
        "pathlib",
    ),
    *(
        "platform",
        "psutil",
        "random",
        "shutil",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "traceback",
        "typing",
        "yaml",
    ),
}
IMPORTS = {
    "the supervisor": "percore.supervisor.daemon",
    "percore daemon": "percore.supervisor.cli, percore.supervisor.commands.startup, percore.supervisor.daemon",
    "jlist": "percore.supervisor.cli, percore.supervisor.commands.pm2_json",
    "list": "percore.supervisor.cli, percore.supervisor.commands.list",
    "ping": "percore.supervisor.cli, percore.supervisor.commands.lifecycle",
}


@pytest.mark.parametrize("who", IMPORTS)
def test_only_what_is_needed_is_imported(who: str) -> None:
    root = str(Path(percore.__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {root!r}); import {IMPORTS[who]}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not TOO_MUCH.intersection(done.stdout.split())


def test_the_supervisor_loads_nothing_that_only_commands_need() -> None:
    root = str(Path(percore.__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {root!r}); import percore.supervisor.daemon; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    loaded = [name.removeprefix("percore.supervisor.") for name in done.stdout.split()]
    assert not {"client", "commands", "config.options", "config.process_file", "config.formats"}.intersection(loaded)


class Point(NamedTuple):
    """A place."""

    x: int
    y: int = 2
    name: Optional[str] = None

    @property
    def sum(self) -> int:
        return self.x + self.y

    @classmethod
    def at_zero(cls) -> Point:
        return cls(0, 0)


def test_our_named_tuple_is_as_that_of_typing() -> None:
    assert Point(1) == (1, 2, None)
    assert Point(1).sum == 3
    assert Point.at_zero()._replace(name="z") == Point(0, 0, "z")
    assert Point._field_defaults == {"y": 2, "name": None}
    assert repr(Point(1)) == "Point(x=1, y=2, name=None)"
    assert (Point.__doc__, Point.__module__) == ("A place.", __name__)
    with pytest.raises(TypeError):
        Point()  # type: ignore[call-arg]
