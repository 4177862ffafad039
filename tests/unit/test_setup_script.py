"""setup.sh: what it runs, and where. The commands are scripts that write down what they are told."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TELL = '#!/bin/sh\necho "$(basename "$PWD"): $(basename "$0") $*" >>"$TOLD"\n'


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    clone = tmp_path / "a clone's"
    (clone / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "setup.sh", clone)
    for name in ("run", ".venv/bin/percore", ".venv/bin/invoke"):
        (clone / name).write_text(TELL)
        (clone / name).chmod(0o755)
    (tmp_path / "my shop").mkdir()
    return clone


def run(clone: Path, *words: str, code: int = 0) -> list[str]:
    told = clone / "told"
    done = subprocess.run(
        ["sh", f"{clone}/setup.sh", *words], cwd=clone.parent, env={**os.environ, "TOLD": str(told)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return told.read_text().splitlines() if told.exists() else done.stderr.splitlines()


def test_without_an_app_the_example_is_deployed(clone: Path) -> None:
    assert run(clone) == ["a clone's: run deploy --env local"]


def test_an_app_gets_what_it_needs_and_is_deployed_from_its_directory(clone: Path) -> None:
    assert run(clone, "my shop") == [
        f"{clone.parent.name}: run --version",
        "my shop: percore init --env local",
        "my shop: invoke -c tasks deploy --env local",
    ]


def test_a_directory_that_does_not_exist_is_one_line(clone: Path) -> None:
    assert run(clone, "nowhere", code=2) == [
        "setup: nowhere: there is no such directory -> name the directory of your app"
    ]
