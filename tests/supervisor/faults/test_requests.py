"""What is asked, however it is asked, is answered in one line that an operator can read; and nobody waits for ever."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from percore.supervisor.base.home import connect
from percore.supervisor.config.app import AppConfig
from percore.supervisor.control_operations import OPERATIONS
from tests.supervisor.conftest import Supervisor
from tests.supervisor.faults.test_containment import same_daemon
from tests.supervisor.faults.tools import resident_kb, start_daemon
from tests.waiting import wait_for


@pytest.fixture
def running(supervisor: Supervisor) -> Iterator[Supervisor]:
    supervisor.run("ping")
    with same_daemon(supervisor):
        yield supervisor


class Line:
    """One connection, and what comes back over it."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.sock = connect(str(supervisor.home / "run" / "control.sock"))
        self.sock.settimeout(30)
        self.replies = self.sock.makefile("rb")

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.replies.close()
        self.sock.close()

    def ask(self, request: Any) -> dict[str, Any]:
        """The result."""
        self.sock.sendall(json.dumps(request).encode() + b"\n")
        while True:
            reply: dict[str, Any] = json.loads(self.replies.readline())
            if reply["event"] == "result":
                return reply


# -- requests of any shape -------------------------------------------------------------------------------------------

MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"op": "describe", "selector": {"a": 1}}, "'selector' should be text"),
    ({"op": "describe", "selector": None}, "'selector' should be text"),
    ({"op": "describe", "selectors": "all"}, "'selectors' should be a list of texts"),
    ({"op": "describe", "selectors": [["all"]]}, "'selectors' should be text"),
    ({"op": "describe", "selectors": ["x" * 5000]}, "'selectors' should be text of at most 4096"),
    ({"op": "describe"}, "'selectors' should be there"),
    ({"op": "describe", "selector": "all", "with_env": "yes"}, "'with_env' should be true or false"),
    ({"op": ["describe"]}, "'op' should be text"),
    ({"op": "signal", "selector": "all", "number": 1e9}, "'number' should be the number of a signal"),
    ({"op": "signal", "selector": "all", "number": 65}, "'number' should be the number of a signal"),
    ({"op": "signal", "selector": "all", "number": True}, "'number' should be the number of a signal"),
    ({"op": "scale", "name": "tick", "count": {}}, "'count' should be"),
    ({"op": "scale", "name": "tick", "count": "9" * 5000}, "'count' should be"),
    ({"op": "scale", "name": 5, "count": 1}, "'name' should be text"),
    ({"op": "watch", "selector": "all", "on": 1}, "'on' should be true or false"),
    ({"op": "dump", "force": "x"}, "'force' should be true or false"),
    ({"op": "start", "apps": {"name": "x"}}, "'apps' should be a list of apps"),
    ({"op": "start", "apps": [5]}, "'apps' should be"),
    ({"op": "start", "apps": [], "how": "somehow"}, "'how' should be start, restart or reload"),
    ({"op": "start", "apps": [], "env": {"A": 5}}, "'env' should be a mapping of names to texts"),
    ({"op": "start", "apps": [], "env": {"A=B": "x"}}, "'env' should be a mapping of names to texts"),
    ({"op": "start", "apps": [], "env": {"": "x"}}, "'env' should be a mapping of names to texts"),
    ({"op": "start", "apps": [], "env": {"A": "x\0y"}}, "'env' should be a mapping of names to texts"),
    ({"op": "start", "apps": [], "env": [["A", "x"]]}, "'env' should be a mapping of names to texts"),
    ({"op": "apply", "apps": [], "release": 5, "owner": ""}, "'release' should be text"),
    ({"op": "apply", "apps": [], "release": ""}, "'owner' should be there"),
    ({"op": "compare", "apps": [], "owner": []}, "'owner' should be text"),
    ({"op": "restart", "selector": "all", "changes": []}, "'changes' should be a mapping"),
    ({"op": "restart", "selector": "all", "base_env": {"A": None}}, "'base_env' should be a mapping"),
    ({"op": "update", "root": 5, "python": "/nope"}, "'root' should be"),
    ({"op": "nothing"}, "knows no operation 'nothing'"),
]


def test_a_request_of_the_wrong_shape_is_told_which_field_should_be_what(running: Supervisor) -> None:
    running.apply(running.singleton())
    before = running.pids("tick")
    with Line(running) as line:
        for request, reason in MALFORMED:
            answer = line.ask({"version": 1, **request})
            assert answer["ok"] is False, request
            assert reason in str(answer["error"]), (request, answer)
            assert answer["exit_code"] == 2, (request, answer)
    assert running.pids("tick") == before
    assert running.ask("ping")["faults"]["count"] == 0


numbers = st.sampled_from([0, 1, 2, -1, 1 << 31, 1 << 63, -(1 << 70)])
words = st.sampled_from(["all", "tick", "0", "²", "/(a+)+$/", "/[/", "1", "-1", "\0", "\ud800", "9" * 400])
scalars = st.one_of(st.none(), st.booleans(), numbers, st.floats(), st.text(max_size=8), words)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
# Whatever else is asked for, no test makes a hundred workers.
BOUNDED = {"instances": st.integers(-1, 2) | st.text(max_size=3), "interpreter": st.just("sleep")}
configs = st.fixed_dictionaries(
    {"name": scalars, "script": st.just("600"), "cwd": st.just("/"), **BOUNDED},
    optional={field: values for field in AppConfig._fields if field not in (*BOUNDED, "name", "script", "cwd")},
)
# What ends the supervisor, answers when something happens, or is the business of other tests.
ENDS = ("kill", "leave", "update", "farewells")


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    op = draw(st.sampled_from([op for op in OPERATIONS if op not in ENDS]))
    names = [field.name for field in OPERATIONS[op]]
    known = {name: values | st.lists(configs, max_size=2) if name == "apps" else values for name in names}
    request = draw(st.fixed_dictionaries({}, optional={**known, "selector": values}))
    return {"version": 1, **draw(st.dictionaries(st.text(max_size=5), values, max_size=2)), **request, "op": op}


def test_whatever_is_asked_is_answered_in_one_line_without_a_traceback(running: Supervisor) -> None:
    running.apply(running.singleton(interpreter="sleep", script="600", args=[]))
    with Line(running) as line:

        @settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(requests())
        def ask(request: dict[str, Any]) -> None:
            answer = line.ask(request)
            assert isinstance(answer["ok"], bool)
            if not answer["ok"]:
                assert answer["error"]
                assert "\n" not in answer["error"]
                assert "Traceback" not in answer["error"]

        ask()
    running.run("delete", "all", check=False)


@pytest.mark.parametrize("selector", ["²", "9" * 400, "-1", "", "/[/", "/(/", f"/{'(' * 300}/", "\x1b[2J"])
def test_a_selector_that_means_nothing_is_refused(running: Supervisor, selector: str) -> None:
    running.apply(running.singleton())
    answer = running.ask("stop", selector=selector)
    assert answer["ok"] is False
    assert "internal" not in answer["error"]


def test_an_expression_that_takes_years_to_match_holds_nobody_up(running: Supervisor) -> None:
    running.apply(running.singleton(name="a" * 60 + "!"))
    answer = running.ask("stop", selector="/^(a+)+$/")
    assert "takes longer than 1 s to compare" in answer["error"]


# -- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["513", "+512", "100000", "999999999", "99999999999999999999"])
def test_more_workers_than_one_app_can_have_are_refused_with_the_bound(running: Supervisor, count: str) -> None:
    running.apply(running.singleton(autostart=False))
    done = running.run("scale", "tick", count, check=False)
    assert done.returncode == 2
    assert "512 is the maximum" in done.stderr or "nine digits at most" in done.stderr
    answer = running.ask("start", apps=[running.singleton(name="many", autostart=False, instances=int(count) + 1)])
    assert "512 is the maximum" in answer["error"] or "'instances'" in answer["error"]
    assert running.workers("many") == []
    assert len(running.workers("tick")) == 1


def test_workers_that_would_get_a_port_above_the_highest_are_refused(running: Supervisor) -> None:
    app = running.api(port=65530, port_per_worker=True, instances=7, autostart=False, env={})
    assert "the last one would get port 65536" in running.ask("start", apps=[app])["error"]
    assert running.ask("start", apps=[{**app, "instances": 6}])["ok"] is True
    assert "the last one would get port 65536" in running.ask("scale", name="api", count="+1")["error"]


def test_as_many_workers_as_one_app_can_have_are_made_within_seconds(running: Supervisor) -> None:
    running.apply(running.singleton(autostart=False))
    began = time.monotonic()
    assert running.ask("scale", name="tick", count="512")["workers"] == 512
    assert time.monotonic() - began < 10
    assert len({worker["id"] for worker in running.workers("tick")}) == 512


# -- answers ---------------------------------------------------------------------------------------------------------


def make_many(supervisor: Supervisor) -> int:
    """Stopped workers that take megabytes to be described with their variables; returns how many there are."""
    env = {f"VARIABLE_{number}": "x" * 1000 for number in range(100)}
    answer = supervisor.ask("start", apps=[supervisor.singleton(autostart=False, instances=150)], env=env)
    assert answer["ok"] is True
    return 150


def test_an_answer_of_many_megabytes_arrives_whole_also_at_a_slow_client(running: Supervisor) -> None:
    count = make_many(running)
    with Line(running) as slow:
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = {"version": 1, "op": "describe", "selector": "all", "with_env": True}
        slow.sock.sendall((json.dumps(request) + "\n").encode() * 3)
        assert running.run("ping").returncode == 0  # nobody waits for the slow one
        for _ in range(3):
            line = slow.replies.readline()
            assert len(line) > 12 << 20
            assert len(json.loads(line)["workers"]) == count
    for _ in range(3):
        assert len(json.loads(running.run("jlist").stdout)) == count


def test_requests_of_a_client_that_never_reads_wait_and_it_loses_the_connection(supervisor: Supervisor) -> None:
    start_daemon(supervisor, "from percore.supervisor import control_server as server; server._PATIENCE_SECONDS = 0.5")
    with same_daemon(supervisor) as daemon:
        make_many(supervisor)
        supervisor.ask("describe", selector="all", with_env=True)
        before = resident_kb(daemon)
        with Line(supervisor) as deaf:
            request = {"version": 1, "op": "describe", "selector": "all", "with_env": True}
            text = (json.dumps(request) + "\n").encode()
            deaf.sock.sendall(text * (60_000 // len(text)))
            wait_for(lambda: is_hung_up_on(deaf.sock), "the connection to be closed")
            assert resident_kb(daemon) < before + 60_000  # one answer, not six hundred
        wait_for(lambda: resident_kb(daemon) < before + 12_000, "its memory to be given back")


def is_hung_up_on(sock: socket.socket) -> bool:
    """What was sent before can still be read."""
    try:
        sock.send(b" ")
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


# -- silence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["list"], ["ping"], ["stop", "all"], ["jlist"], ["describe", "tick"]])
def test_a_command_does_not_wait_for_a_supervisor_that_does_not_answer(running: Supervisor, command: list[str]) -> None:
    running.apply(running.singleton())
    daemon = running.daemon_pid()
    os.kill(daemon, signal.SIGSTOP)
    try:
        began = time.monotonic()
        done = running.run(*command, check=False)
        assert time.monotonic() - began < 30
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert done.returncode == 1
    assert f"the supervisor (pid {daemon}) does not answer -> kill -CONT {daemon}" in done.stderr.replace(
        f"{running.home}: ", ""
    )


def test_a_command_does_not_wait_either_where_nobody_accepts_any_more(running: Supervisor) -> None:
    daemon = running.daemon_pid()
    os.kill(daemon, signal.SIGSTOP)
    waiting = []
    try:
        for _ in range(200):
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            waiting.append(sock)
            if sock.connect_ex(str(running.home / "run" / "control.sock")):
                break
        done = running.run("list", check=False)
    finally:
        os.kill(daemon, signal.SIGCONT)
        for sock in waiting:
            sock.close()
    assert done.returncode == 1
    assert "does not answer" in done.stderr


def test_a_job_that_takes_longer_than_silence_lasts_is_waited_for(running: Supervisor) -> None:
    running.apply(running.singleton(args=["trap '' INT; while :; do sleep 0.05; done"], kill_timeout=12.0))
    began = time.monotonic()
    assert running.run("stop", "tick").returncode == 0
    assert time.monotonic() - began > 11


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b'{"event": "result", "ok": tr', "was cut off"),
        (b'{"event": "resul\n', "cannot be read"),
        (b"[]\n", "cannot be read"),
        (b'{"event": 5}\n', "cannot be read"),
        (b"\xff\xfe\n", "cannot be read"),
        (b"", "closed the connection"),
    ],
)
def test_an_answer_that_is_none_is_told_without_a_traceback(supervisor: Supervisor, said: bytes, reason: str) -> None:
    (supervisor.home / "run").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(supervisor.home / "run" / "control.sock"))
        server.listen()
        with subprocess.Popen(
            [sys.executable, "-m", "percore.supervisor.cli", "jlist"], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PERCORE_HOME": str(supervisor.home)},
        ) as command:  # fmt: skip
            with server.accept()[0] as client:
                client.recv(4096)
                client.sendall(said)
            assert command.stderr
            told = command.stderr.read()
    os.unlink(supervisor.home / "run" / "control.sock")
    assert command.returncode == 1
    assert reason in told
    assert len(told.splitlines()) == 1


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["-x", "--name", "a b", "1"])
def test_an_app_whose_name_looks_like_something_else_is_reached_behind_two_dashes(
    running: Supervisor, name: str
) -> None:
    file = running.folder / "apps.json"
    file.write_text(json.dumps([{"name": name, "script": "sleep", "args": "600", "interpreter": "none"}]))
    running.run("start", str(file))
    for command in ("describe", "restart", "reload", "stop", "reset", "delete"):
        done = running.run(command, "--", name)
        assert done.returncode == 0
    assert running.workers(name) == []


@pytest.mark.parametrize(
    "name", ["all", "-", "ecosystem.config.js", "a.json", "a.yml", "/x/", "a\nb", "\x1b[2J", "", "\x7f"]
)
def test_an_app_cannot_be_called_as_something_else_is(running: Supervisor, name: str) -> None:
    answer = running.ask("start", apps=[running.singleton(name=name)])
    assert answer["ok"] is False
    assert "cannot be called" in answer["error"] or "not a text of printable characters" in answer["error"]
    assert "\x1b" not in answer["error"]
    running.apply(running.singleton())
    assert running.ask("restart", selector="tick", changes={"name": name})["ok"] is False
    assert running.pids("tick")[0]
    file = running.folder / "apps.json"
    file.write_text(json.dumps([{"name": name, "script": "sleep", "args": "600"}]))
    done = running.run("start", str(file), check=False)
    if name:  # without one it is called as its script
        assert done.returncode == 2
        assert "must be" in done.stderr


def test_a_number_that_is_an_id_and_the_name_of_another_app_is_refused(running: Supervisor) -> None:
    running.ask(
        "start", apps=[running.singleton(name="one"), running.singleton(name="two"), running.singleton(name="0")]
    )
    answer = running.ask("stop", selector="0")
    assert answer["error"] == "'0' is an id of 'one', and the name of another app -> /^0$/ means the name"
    assert running.ask("stop", selector="/^0$/")["ok"] is True
    assert [running.pids(name)[0] > 0 for name in ("one", "two", "0")] == [True, True, False]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"name": "a-b"}, {"name": "a/b"}),
        ({"name": "a"}, {"name": "a-out", "log_file": ""}),
        ({"name": "a-error", "log_file": ""}, {"name": "a"}),
    ],
)
def test_two_apps_whose_logs_would_be_one_file_are_refused_and_both_are_named(
    running: Supervisor, first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert running.ask("start", apps=[running.singleton(**first)])["ok"] is True
    error = running.ask("start", apps=[running.singleton(**second)])["error"]
    assert f"'{first['name']}'" in error
    assert f"'{second['name']}'" in error
    mine = {"out_file": "mine.log", "error_file": "mine.log", "log_file": None}
    assert running.ask("start", apps=[running.singleton(**{**second, **mine})])["ok"] is True


def test_no_app_writes_into_the_supervisors_own_log(running: Supervisor) -> None:
    error = running.ask("start", apps=[running.singleton(name="percore", log_file="")])["error"]
    assert "'percore' and of the supervisor itself would be the same file, percore.log" in error
