"""The test command: every stage runs, the last line is the sum, and the exit code is of all of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stages import ROOT, Commands, Pytest, Stage, run_stages
from tests.waiting import wait_for

MIXED = """
import pytest
def test_one(): pass
def test_two(): pass
def test_bad(): assert 1 == 2, 'one is\\nnot two'
class TestOf:
    @pytest.mark.parametrize("word", ["a b"])
    def test_in_class(self, word): raise ValueError(word)
@pytest.fixture
def broken(): raise OSError('no room')
def test_setup(broken): pass
@pytest.fixture
def untidy():
    yield
    raise OSError('left behind')
def test_teardown(untidy): pass
@pytest.mark.skip
def test_later(): pass
"""


def run(*stages: Stage) -> tuple[bool, list[str]]:
    said: list[str] = []
    return run_stages(stages, said.append), said


def suite(tmp_path: Path, source: str, words: str = "") -> Pytest:
    (tmp_path / "test_some.py").write_text(source)
    # Another run of pytest would close the directory of temporary files that this one shares with it.
    # Names in a report count from its root, which pytest would otherwise choose by where this checkout lies.
    place = f"--rootdir={tmp_path} --basetemp={tmp_path}/base {tmp_path}/test_some.py"
    return Pytest("unit", 5, f"{words} {place}")


def test_a_stage_that_fails_does_not_stop_the_next_and_the_last_line_is_the_sum(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lint = Commands("lint", 40, ["python -c 'raise SystemExit(3)'", "python -c 'print(\"the second command\")'"])
    is_ok, said = run(lint, suite(tmp_path, MIXED, "-n 2"), Commands("last", 300, ["python -c 0"]))
    assert not is_ok
    assert said[-1] == "lint failed, unit 2 + 4 failed + 1 skipped, last ok"
    assert said[0] == "3 stages, about 6 minutes on two cores"
    assert "stage 2 of 3: unit, about 5 s" in said
    assert "stage 3 of 3: last, about 5 minutes" in said
    shown = capfd.readouterr().out
    assert "the second command" in shown
    assert "not two" in shown  # pytest's own account, in full


def test_what_failed_is_named_again_at_the_end_as_pytest_takes_it(tmp_path: Path) -> None:
    _, said = run(Commands("lint", 1, ["python -c 'raise SystemExit(3)'"]), suite(tmp_path, MIXED))
    failed = [line for line in said if line.startswith("failed in ")]
    assert failed[0] == "failed in lint: python -c 'raise SystemExit(3)' (exit code 3)"
    bad, in_class, setup, teardown = failed[1:]
    assert bad.startswith("failed in unit: test_some.py::test_bad - AssertionError: one is not two")
    assert in_class == "failed in unit: test_some.py::TestOf::test_in_class[a b] - ValueError: a b"
    assert "test_some.py::test_setup - " in setup
    assert "no room" in setup
    assert "test_some.py::test_teardown - " in teardown
    assert said[-5:-1] == failed[1:]


def test_a_program_that_is_missing_is_a_failure_of_its_stage(tmp_path: Path) -> None:
    _, said = run(Commands("lint", 1, ["no-such-linter .", "python -c 0"]), Commands("last", 1, ["python -c 0"]))
    assert said[-2:] == ["failed in lint: no-such-linter . (exit code 127)", "lint failed, last ok"]


def test_when_nothing_failed_all_is_ok(tmp_path: Path) -> None:
    is_ok, said = run(suite(tmp_path, "def test_one(): pass"), Commands("lint", 1, ["python -c 0"]))
    assert is_ok
    assert said[-2:] == ["", "unit 1, lint ok"]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import os\nos._exit(7)", "pytest ended with exit code 7 and counted nothing"),
        ("import no_such_module", "failed in unit: test_some.py - collection failure"),
        ("", "pytest ended with exit code 5"),
        ("import pytest\ndef test_one(): pytest.exit('enough', 9)", "pytest ended with exit code 9"),
    ],
    ids=["pytest dies", "a file that cannot be read", "no tests", "pytest gives up"],
)
def test_a_run_of_pytest_that_fails_without_a_failed_test_is_a_failure(tmp_path: Path, source: str, told: str) -> None:
    is_ok, said = run(suite(tmp_path, source))
    assert not is_ok
    assert told in said[-2]
    assert "failed" in said[-1]


WORKING = """\
import pathlib, signal, sys, time
here = pathlib.Path(sys.argv[1])
(here / 'begun').touch()
try:
    time.sleep(60)
finally:
    (here / 'cleared').touch()
"""
TOLD = """\
import sys
from percore.deploy.interrupts import unwind_when_told
from tests.stages import Commands, run_stages
unwind_when_told()
stages = [Commands("first", 1, ["python -c 0"]), Commands("second", 60, [f"python {sys.argv[1]}/work.py {sys.argv[1]}"])]
run_stages(stages, lambda line: print(line, flush=True))
"""


def test_a_run_that_is_told_to_end_lets_its_stage_clear_away_and_sums_up_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WORKING)
    running = subprocess.Popen(
        [sys.executable, "-c", TOLD, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        wait_for((tmp_path / "begun").exists, "the second stage")
        running.send_signal(signal.SIGTERM)
        said, _ = running.communicate(timeout=20)
    finally:
        running.kill()
    assert (tmp_path / "cleared").exists()
    assert said.splitlines()[-1] == "first ok, second interrupted"


SMALL = """
LINT = Commands("lint", 1, ["python -c 'raise SystemExit({lint})'"])
UNIT = Commands("unit", 1, ["python -c 0"])
"""


@pytest.mark.parametrize(("lint", "told"), [(0, "lint ok, unit ok"), (1, "lint failed, unit ok")])
def test_the_task_ends_with_an_exit_code_that_tells_whether_anything_failed(
    tmp_path: Path, lint: int, told: str
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").touch()
    shutil.copy(ROOT / "tasks.py", tmp_path)
    (tmp_path / "tests" / "stages.py").write_text((ROOT / "tests" / "stages.py").read_text() + SMALL.format(lint=lint))
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "check"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == lint, done.stderr
    assert done.stdout.splitlines()[-1] == told
