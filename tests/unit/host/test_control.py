"""What the agent of root believes: a supervisor of the right user, an answer with an end, a pid that it looked at itself."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from percore.errors import RolloutError
from percore.host import output
from percore.host.output import Output, TooMuch
from percore.host.supervisor import control
from percore.host.supervisor.answers import is_progress, parse_status
from percore.host.supervisor.supervisor import Supervisor
from tests.waiting import wait_for

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
NOBODY = pwd.getpwnam("nobody").pw_uid

# A process that says of itself what a supervisor's command line says, and answers with what it is told to.
IMPOSTOR = """
import os, socket, sys, time
path, uid, mode, text = sys.argv[1:5]
server = socket.socket(socket.AF_UNIX)
server.bind(path)
os.setuid(int(uid))
server.listen()  # whose it is, is noted here
while True:
    link = server.accept()[0]
    link.recv(65536)
    try:
        if mode == "once":
            link.sendall(text.encode() + b"\\n")
        while mode == "stream":
            link.sendall(b"x" * 65536)
        while mode == "alive":
            link.sendall(b'{"event": "alive"}\\n')
            time.sleep(0.01)
        if mode == "silent":
            time.sleep(60)
    except OSError:
        pass
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir(mode=0o777)
    for folder in (tmp_path, tmp_path / "run"):
        folder.chmod(0o777)
    return tmp_path


@contextlib.contextmanager
def listening(home: Path, mode: str, text: str = "", *, uid: int, words: str = "percore daemon") -> Iterator[int]:
    path = home / "run" / "control.sock"
    child = subprocess.Popen([sys.executable, "-c", IMPOSTOR, str(path), str(uid), mode, text, *words.split()])
    try:
        wait_for(lambda: path.exists() and can_connect(path), "the socket")
        yield child.pid
    finally:
        child.kill()
        child.wait()
        path.unlink()


def can_connect(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as link:
        return link.connect_ex(str(path)) == 0


def ask(home: Path, *, uid: int, seconds: float = 5.0) -> Any:
    return control.ask(str(home), "ping", uid=uid, seconds=seconds)


PONG = json.dumps({"event": "result", "ok": True, "pid": 1, "version": "9"})


def test_the_supervisor_is_the_process_that_listens_and_not_the_one_that_the_answer_names(home: Path) -> None:
    with listening(home, "once", PONG, uid=os.geteuid()) as pid:
        found = ask(home, uid=os.geteuid())
        assert (found.daemon.pid, found.result["pid"]) == (pid, 1)


@AS_ROOT
def test_a_socket_of_another_user_than_the_supervisors_is_refused(home: Path) -> None:
    with listening(home, "once", PONG, uid=NOBODY), pytest.raises(RolloutError, match="not the supervisor's"):
        ask(home, uid=0)


@AS_ROOT
def test_a_process_of_root_is_no_supervisor_of_an_ordinary_user(home: Path) -> None:
    """The user put a link to another socket there, such as that of root's own supervisor."""
    with listening(home, "once", PONG, uid=0), pytest.raises(RolloutError, match="not the supervisor's"):
        ask(home, uid=NOBODY)


def test_a_process_that_is_no_supervisor_is_refused_though_it_is_of_the_right_user(home: Path) -> None:
    with (
        listening(home, "once", PONG, uid=os.geteuid(), words="some program"),
        pytest.raises(RolloutError, match="not the supervisor's"),
    ):
        ask(home, uid=os.geteuid())


@pytest.mark.parametrize("mode", ["alive", "silent"])
def test_an_answer_that_never_comes_is_given_up(home: Path, mode: str) -> None:
    began = time.monotonic()
    with listening(home, mode, uid=os.geteuid()), pytest.raises(RolloutError, match="does not answer"):
        ask(home, uid=os.geteuid(), seconds=0.5)
    assert time.monotonic() - began < 20


def test_an_answer_without_an_end_is_refused_before_it_takes_our_memory(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "LONGEST_LINE", 1 << 20)
    with listening(home, "stream", uid=os.geteuid()), pytest.raises(RolloutError, match="longer than"):
        ask(home, uid=os.geteuid(), seconds=60)


def test_text_that_is_no_answer_is_none(home: Path) -> None:
    with listening(home, "once", "[" * 100_000, uid=os.geteuid()):
        assert ask(home, uid=os.geteuid()) is None


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "percore", "daemon"])
    wait_for(lambda: b"daemon" in Path(f"/proc/{child.pid}/cmdline").read_bytes(), "its command line")
    yield child
    child.kill()
    child.wait()


def test_only_the_very_process_that_was_seen_is_ended(bystander: subprocess.Popen[bytes]) -> None:
    seen = control._look_at(bystander.pid, os.geteuid())
    assert seen is not None
    seen._replace(start_time=seen.start_time - 1).kill()  # its pid was another process's then
    seen._replace(uid=seen.uid + 1).kill()
    assert bystander.poll() is None
    seen.kill()
    assert bystander.wait(5) == -signal.SIGKILL


@AS_ROOT
def test_a_process_that_has_rights_of_another_user_is_not_looked_at_twice(bystander: subprocess.Popen[bytes]) -> None:
    assert control._look_at(bystander.pid, NOBODY) is None
    assert control._look_at(1, 0) is None
    assert control._look_at(os.getpid(), 0) is None


@AS_ROOT
def test_where_no_deploy_has_succeeded_the_logs_of_one_that_failed_are_named(tmp_path: Path) -> None:
    supervisor = Supervisor([str(tmp_path / "percore")], str(tmp_path), None, "")
    with pytest.raises(RolloutError, match=r"^no deploy has succeeded here yet -> deploy first$"):
        supervisor.start("logs")
    (tmp_path / "logs").mkdir()
    with pytest.raises(RolloutError, match=f"what the apps of a failed deploy wrote is in {tmp_path}/logs"):
        supervisor.start("logs")


def test_no_process_of_another_user_is_ended_when_the_supervisor_is_replaced(
    home: Path, bystander: subprocess.Popen[bytes]
) -> None:
    """The reported fault: the answer of `ping` named a pid, or -1 for all processes, and root killed it."""
    program = home / "percore"
    program.write_text(f"#!/bin/sh\necho pong {bystander.pid}\n")
    program.chmod(0o755)
    reply = json.dumps({"event": "result", "ok": True, "pid": bystander.pid, "daemon": True})
    supervisor = Supervisor([str(program)], str(home), None, str(home))
    with (
        listening(home, "once", reply, uid=NOBODY) as impostor,
        pytest.raises(RolloutError, match="not the supervisor's"),
    ):
        supervisor.replace(lambda event: None, always=True)
    assert bystander.poll() is None
    assert impostor


def status(**changes: Any) -> dict[str, Any]:
    worker = {"slot": 0, "pid": 12, "state": "running", "release": None, "port": 5000}
    app = {"name": "api", "mode": "cluster", "wanted": 1, "port": 5000, "workers": [worker]}
    return {"release": None, "daemon": True, "apps": [{**app, **changes}]}


def test_a_status_of_the_right_kinds_is_taken_with_what_is_new_in_it() -> None:
    assert parse_status({**status(novelty={"a": 1}), "more": 2})["more"] == 2


@pytest.mark.parametrize(
    "broken",
    [
        [], None, {}, {"apps": {}}, {"release": None, "apps": [1]}, status(workers={}), status(wanted="2"),
        status(wanted=-1), status(wanted=10**9), status(port=99999), status(port="22"), status(name=["x"]),
        status(workers=[{"slot": 10**9, "pid": 1, "state": "running", "release": None, "port": 1}]),
        status(workers=[{"slot": 0, "pid": "1", "state": "running", "release": None, "port": 1}]),
        status(workers=[{"slot": 0, "pid": 1, "state": {}, "release": None, "port": 1}]),
        status(workers=[{"slot": 0}]), status(workers=[None]),
    ],
)  # fmt: skip
def test_a_status_of_the_wrong_kind_is_an_error_in_words(broken: Any) -> None:
    with pytest.raises(RolloutError, match="makes no sense"):
        parse_status(broken)


def test_the_supervisor_cannot_speak_to_the_control_side_in_the_agents_name(tmp_path: Path) -> None:
    program = tmp_path / "percore"
    worker = {"event": "worker", "app": "api", **status()["apps"][0]["workers"][0]}
    events = [{"event": "need", "parts": ["0" * 64]}, {"event": "facts"}, worker, {"event": "worker"}, {"event": []}]
    result = {"event": "result", "ok": True, "changes": []}
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{json.dumps(event)}'\n" for event in [*events, result]))
    program.chmod(0o755)
    said: list[dict[str, Any]] = []
    assert Supervisor([str(program)], str(tmp_path), None, "").apply("record", "r1", said.append) == []
    assert said == [worker]
    assert not is_progress({"event": "worker", "state": 1})


@pytest.fixture
def talker() -> Iterator[Any]:
    made: list[subprocess.Popen[bytes]] = []

    def start(script: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        made.append(subprocess.Popen(["sh", "-c", script], stdout=pipe, stderr=pipe, start_new_session=True))
        return made[-1]

    yield start
    for child in made:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def test_a_program_that_left_another_one_behind_with_its_pipe_is_over_when_it_ends(talker: Any) -> None:
    reader = Output(talker("echo words; sleep 60 &"), seconds=30)
    assert (list(reader.lines()), reader.code()) == ([b"words"], 0)


def test_a_program_that_writes_without_an_end_is_ended(talker: Any) -> None:
    child = talker("exec cat /dev/zero")
    with pytest.raises(TooMuch):
        Output(child, seconds=30).all(most=1 << 20)
    assert child.returncode == -signal.SIGKILL


def test_a_program_that_does_not_end_in_time_is_ended(talker: Any) -> None:
    child = talker("echo words; kill -STOP $$")
    with pytest.raises(TooMuch):
        list(Output(child, seconds=0.5).lines())
    assert child.returncode == -signal.SIGKILL


def test_a_line_without_an_end_comes_in_pieces(talker: Any) -> None:
    pieces = list(Output(talker("head -c 1000000 /dev/zero; echo; echo last"), seconds=30).lines(longest=100_000))
    assert pieces[-1] == b"last"
    assert sum(map(len, pieces[:-1])) == 1_000_000
    assert max(map(len, pieces)) < 100_000 + output._PIECE_BYTES
