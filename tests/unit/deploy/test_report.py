"""What the operator sees: colours and progress in a terminal, neither in a pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.terminal import Terminal

PROJECT = Path(__file__).resolve().parents[3]
SHOWN = """
from percore.deploy.report import Report, print_error
from percore.errors import UsageError
report = Report()
report.phase("plan", "2 hosts")
report.change("change /etc/x", "--- a\\n+++ b\\n@@ -1 +1 @@\\n-old\\n+new \\x1b[2J\\n same\\n")
report.change("remove /etc/y")
report.table(["host", "state"], [["web1", "running"], ["web2", "fatal"], ["web3", "failed, on its former release"]])
report.log("web1", "\\x1b[35mtheirs\\x1b[0m")
report.warn("careful")
print_error(UsageError("wrong"))
report.finish("done")
"""
PLAIN = """plan       2 hosts
           change /etc/x
             --- a
             +++ b
             @@ -1 +1 @@
             -old
             +new \\x1b[2J
              same
           remove /etc/y
  host  state
  web1  running
  web2  fatal
  web3  failed, on its former release
web1 | \x1b[35mtheirs\x1b[0m
done (0.0 s)
"""
SLOW = """
import signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
from percore.deploy import report as module
module.SILENCE_SECONDS = 0.1
report = module.Report(quiet="quiet" in sys.argv)
report.phase("build", "shop")
signal.sigwait({signal.SIGUSR1})
report.step("a step")
signal.sigwait({signal.SIGUSR2})
report.finish("done")
"""


def in_terminal(code: str, *words: str, **env: str) -> Terminal:
    known: Mapping[str, str] = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    return Terminal([sys.executable, "-c", code, *words], env={**known, **env}, cwd=str(PROJECT))


def test_a_terminal_gets_colours_for_differences_states_and_results() -> None:
    with in_terminal(SHOWN) as terminal:
        assert terminal.wait_for_end() == 0
        raw = terminal.raw.decode()
    for text, code in (("-old", 31), ("+new \\x1b[2J", 32), ("@@ -1 +1 @@", 36), ("running", 32), ("fatal", 31),
                       ("failed, on its former release", 31), ("warning: careful", 33), ("percore: wrong", 31)):  # fmt: skip
        assert f"\x1b[{code}m{text}" in raw.replace(f"m{' ' * 13}{text}", f"m{text}"), text
    assert "\x1b[33m           change /etc/x" in raw
    assert "\x1b[31m           remove /etc/y" in raw
    assert "\x1b[32mdone (" in raw


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}])
def test_no_colours_where_the_operator_wants_none(env: dict[str, str]) -> None:
    with in_terminal(SHOWN, **env) as terminal:
        assert terminal.wait_for_end() == 0
        raw = terminal.raw.decode().replace("\x1b[35mtheirs\x1b[0m", "").replace("\r\x1b[K", "")
    assert "\x1b[" not in raw
    assert "-old" in raw


def test_a_pipe_gets_plain_lines() -> None:
    done = subprocess.run([sys.executable, "-c", SHOWN], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == PLAIN
    assert done.stderr == "warning: careful\npercore: wrong\n"


@pytest.mark.parametrize("words", [[], ["quiet"]])
def test_what_takes_long_is_said_and_gives_way_to_the_next_line(words: list[str]) -> None:
    with in_terminal(SLOW, *words) as terminal:
        terminal.wait_for("... build shop, ")
        os.kill(terminal.pid, signal.SIGUSR1)
        terminal.wait_for("a step" if not words else "... build shop, ")
        os.kill(terminal.pid, signal.SIGUSR2)
        assert terminal.wait_for_end() == 0
        screen = terminal.read()
        assert "so far" not in screen
        assert ("done (" in screen) == (not words)


def test_a_pipe_gets_no_progress() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SLOW.replace("signal.sigwait", "time.sleep(0.8);")],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert [line.split(" (")[0] for line in done.stdout.splitlines()] == [
        "build      shop",
        "           a step",
        "done",
    ]
