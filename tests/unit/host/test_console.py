"""A command that is talked to while it runs: real programs, with lines and on a terminal."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from percore.common.procfs import start_time_of
from tests.unit.host.test_app_command import Place
from tests.unit.host.test_messages import RELEASE
from tests.waiting import wait_for


class Operator:
    """The control side of an agent's process."""

    def __init__(self, place: Place) -> None:
        (place.deploy_to / "current").symlink_to(f"releases/{RELEASE}")
        self._target = place.target
        code = "from percore.host.agent import main; main()"
        self.agent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.shown = b""
        self.result: dict[str, Any] = {}

    def say(self, **message: Any) -> None:
        assert self.agent.stdin
        self.agent.stdin.write(json.dumps(message).encode() + b"\n")
        self.agent.stdin.flush()

    def type(self, data: bytes) -> None:
        self.say(op="input", data=base64.b64encode(data).decode())

    def run(self, *words: str, terminal: dict[str, Any] | None = None) -> None:
        """To the moment from which input is taken."""
        self.say(op="run", target=self._target, words=words, terminal=terminal)
        self.read_until(lambda event: event["event"] == "started")

    def read_until(self, is_last: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        assert self.agent.stdout
        for line in self.agent.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "line":
                self.shown += event["text"].encode() + b"\n"
            elif event["event"] == "output":
                self.shown += base64.b64decode(event["data"])
            if is_last(event):
                return event
        raise AssertionError("the agent ended")

    def read_text(self, text: bytes) -> None:
        self.read_until(lambda _: text in self.shown)

    def code(self) -> int:
        result = self.read_until(lambda event: event["event"] == "result")
        assert result["ok"], result
        return int(result["code"])


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    found = Operator(Place(tmp_path))
    try:
        yield found
    finally:
        found.agent.kill()
        found.agent.communicate()


TERMINAL = {"rows": 33, "columns": 77, "kind": "xterm"}


def test_a_command_runs_in_the_current_release_and_ends_with_its_code(operator: Operator) -> None:
    operator.run("echo $MOOD; echo wrong >&2; pwd; exit 7")
    assert operator.code() == 7
    mood, wrong, place = operator.shown.decode().split()
    assert (mood, wrong) == ("sunny", "wrong")
    assert place.endswith(f"/releases/{RELEASE}")


def test_words_reach_the_command_as_they_are(operator: Operator) -> None:
    operator.run(sys.executable, "-c", "import sys; print(sys.argv[1:])", "$HOME", "a b", "")
    assert operator.code() == 0
    assert operator.shown == b"['$HOME', 'a b', '']\n"


def test_input_reaches_it_to_its_end(operator: Operator) -> None:
    operator.run("wc -c")
    for _ in range(20):
        operator.type(b"x" * 20_000)
    operator.type(b"")
    assert operator.code() == 0
    assert operator.shown.strip() == b"400000"


def test_a_command_that_reads_no_input_ends_all_the_same(operator: Operator) -> None:
    operator.run("exec <&-; echo started; read line; exit 0")
    operator.read_text(b"started")
    operator.type(b"x\n" * 10_000)
    assert operator.code() == 0


def test_a_command_that_closed_its_output_is_waited_for(operator: Operator, tmp_path: Path) -> None:
    operator.run(f"exec >&- 2>&-; sleep 0.5; touch {tmp_path}/done; exit 3")
    assert operator.code() == 3
    assert (tmp_path / "done").exists()


def test_a_terminal_is_one_with_its_size_its_kind_and_its_signals(operator: Operator) -> None:
    operator.run("trap 'echo caught; exit 5' INT; tty; stty size; echo $TERM; read line", terminal=TERMINAL)
    operator.read_text(b"xterm")
    assert b"/dev/pts/" in operator.shown
    assert b"33 77" in operator.shown
    operator.type(b"\x03")
    assert operator.code() == 5
    assert b"caught" in operator.shown


def test_a_terminal_echoes_what_is_typed_and_follows_its_size(operator: Operator) -> None:
    operator.run("echo ready; while read line; do stty size; done; echo bye", terminal=TERMINAL)
    operator.read_text(b"ready")
    operator.say(op="resize", rows=10, columns=20)
    operator.type(b"hello\n")
    operator.read_text(b"10 20")
    assert b"hello" in operator.shown
    operator.type(b"")
    assert operator.code() == 0
    assert b"bye" in operator.shown


@pytest.mark.parametrize("terminal", [None, TERMINAL], ids=["lines", "terminal"])
@pytest.mark.parametrize("says_goodbye", [True, False])
def test_a_command_ends_with_the_connection(
    operator: Operator, terminal: dict[str, Any] | None, says_goodbye: bool
) -> None:
    operator.run("echo pid $$ end; exec sleep 600", terminal=terminal)
    operator.read_text(b"end")
    pid = int(operator.shown.split()[1])
    born = start_time_of(pid)
    if says_goodbye:
        operator.say(op="bye")
    assert operator.agent.stdin
    operator.agent.stdin.close()
    wait_for(lambda: start_time_of(pid) != born, "the end of the command")
    assert operator.agent.wait(30) == 0
    operator.agent.stdin = None


@pytest.mark.parametrize("message", [{"op": "input", "data": 1}, {"op": "input", "data": "%"}, {"op": "input"}])
def test_input_that_makes_no_sense_ends_the_command(operator: Operator, message: dict[str, Any]) -> None:
    operator.run("exec sleep 600")
    operator.say(**message)
    result = operator.read_until(lambda event: event["event"] == "result")
    assert "the agent was told 'input'" in result["error"]["what"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root takes another user's rights")
def test_a_terminal_belongs_to_the_apps_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    found = Operator(Place(tmp_path, user="nobody"))
    try:
        found.run("stat -c '%U %a' $(tty); echo written > $(tty); id -un", terminal=TERMINAL)
        assert found.code() == 0
        assert found.shown.split() == [b"nobody", b"600", b"written", b"nobody"]
    finally:
        found.agent.kill()
        found.agent.communicate()
