"""The stages of `check` and `test`. Every stage runs, even after a failed one; the last line is the summary."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from xml.etree import ElementTree

from percore.deploy.connection import bootstrap
from percore.deploy.interrupts import Interrupted

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """`count` is of what passed, where that is counted; `word` where it is not."""

    failures: Sequence[str] = ()
    count: int | None = None
    skipped: int = 0
    word: str = ""

    def __str__(self) -> str:
        if self.count is None:
            return self.word or ("failed" if self.failures else "ok")
        parts = [str(self.count)]
        parts += [f"{len(self.failures)} failed"] if self.failures else []
        parts += [f"{self.skipped} skipped"] if self.skipped else []
        return " + ".join(parts)


INTERRUPTED = Result(word="interrupted")


class Stage(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def seconds(self) -> int:
        """About how long it takes, on two cores."""

    def run(self) -> Result: ...


@dataclass(frozen=True)
class Commands:
    """Programs of the environment that fail by their exit code."""

    name: str
    seconds: int
    lines: Sequence[str]

    def run(self) -> Result:
        return Result([f"{line} (exit code {code})" for line in self.lines if (code := run_program(line))])


@dataclass(frozen=True)
class Pytest:
    """One run of pytest."""

    name: str
    seconds: int
    words: str

    def run(self) -> Result:
        with tempfile.TemporaryDirectory(prefix="percore-stage-") as folder:
            report = Path(folder, "junit.xml")
            # This family of the format has the file of each test.
            code = run_program(f"pytest -q -o junit_family=xunit1 --junit-xml={report} {self.words}")
            return read_report(report, code)


def run_program(line: str) -> int:
    """The exit code; its output goes where ours goes. When interrupted, it cleans up before we go on."""
    program, *words = shlex.split(line)
    try:
        process = subprocess.Popen([str(BIN / program), *words], cwd=ROOT, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        return 127
    try:
        return process.wait()
    except KeyboardInterrupt as interrupt:
        if isinstance(interrupt, Interrupted):  # Ctrl-C reaches it by itself
            process.send_signal(signal.SIGINT)
        process.wait()
        raise


def read_report(path: Path, code: int) -> Result:
    """What pytest counted. If it failed without a failed test, its exit code is the failure."""
    if not path.exists():
        return Result([f"pytest ended with exit code {code} and counted nothing"])
    failures, others, skipped = [], 0, 0
    for case in ElementTree.parse(path).iter("testcase"):
        outcome = next((child for child in case if child.tag in ("failure", "error")), None)
        if outcome is not None:
            failures.append(f"{_test_id(case)} - {_shortened(outcome.get('message') or outcome.tag)}")
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            others += 1
    ended = [f"pytest ended with exit code {code}"] if code and not failures else []
    return Result([*failures, *ended], others, skipped)


def _test_id(case: ElementTree.Element) -> str:
    """As pytest's command line accepts it."""
    file, name, owner = (case.get(key) or "" for key in ("file", "name", "classname"))
    if not owner:  # of a file that could not be collected
        return file
    classes = owner.removeprefix(file.removesuffix(".py").replace("/", ".")).split(".")
    return "::".join(part for part in (file, *classes, name) if part)


def _shortened(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= 120 else f"{line[:117]}..."


def run_stages(stages: Sequence[Stage], say: Say) -> bool:
    """Whether every stage is ok."""
    results: dict[str, Result] = {}
    say(f"{len(stages)} stages, {about(sum(stage.seconds for stage in stages))} on two cores")
    try:
        for number, stage in enumerate(stages, 1):
            say(f"stage {number} of {len(stages)}: {stage.name}, {about(stage.seconds)}")
            started = time.monotonic()
            results[stage.name] = INTERRUPTED
            results[stage.name] = stage.run()
            say(f"{stage.name}: {results[stage.name]}, after {time.monotonic() - started:.0f} s")
            say("")
    finally:
        _print_summary(results, say)
    return not any(result.failures for result in results.values())


def _print_summary(results: dict[str, Result], say: Say) -> None:
    for name, result in results.items():
        for failure in result.failures:
            say(f"failed in {name}: {failure}")
    say(", ".join(f"{name} {result}" for name, result in results.items()))


def about(seconds: int) -> str:
    return f"about {seconds} s" if seconds < 90 else f"about {round(seconds / 60)} minutes"


_SHARED = " ".join(f"percore/{name}" for name in bootstrap.SHARED)
# What deploys also runs on Windows and macOS; to deploy to this very machine is refused there (connection/transport).
_CONTROL_SIDE = (
    "--cache-dir .mypy_cache/others --follow-imports silent --exclude connection/local.py"
    " percore/deploy percore/tasks percore/command.py"
)
LINT = Commands(
    "lint",
    60,
    [
        "ruff format --check .",
        "ruff check .",
        "mypy",
        *(f"mypy --platform {platform} {_CONTROL_SIDE}" for platform in ("win32", "darwin")),
        "lint-imports",
        f"vermin -q -t=3.9- --no-tips --violations percore/host percore/supervisor percore/web {_SHARED}",
        "python -m tests.site.build",
    ],
)
UNIT = Pytest("unit", 125, "-n 4 tests/unit")
# Programs that start, drain and end wait more than they work.
SUPERVISOR = Pytest("supervisor", 600, "-n 4 --dist worksteal tests/supervisor tests/oracle")
# Hosts mostly boot and wait as well. The tests of a file share their hosts; each process has labs of its own.
HOSTS = Pytest("hosts", 1900, "-n 3 --dist loadfile tests/hosts tests/deploy")
