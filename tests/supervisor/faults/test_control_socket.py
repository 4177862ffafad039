"""Whatever knocks at the control socket: nobody else is kept waiting, and the supervisor neither swells nor spins."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from percore.supervisor.base.home import connect
from tests.supervisor.conftest import Supervisor
from tests.supervisor.faults.tools import cpu_seconds, kill_now, resident_kb, start_daemon
from tests.waiting import wait_for


@pytest.fixture
def running(supervisor: Supervisor) -> Supervisor:
    supervisor.run("ping")
    return supervisor


@contextlib.contextmanager
def client(supervisor: Supervisor) -> Iterator[socket.socket]:
    with connect(str(supervisor.home / "run" / "control.sock")) as sock:
        sock.settimeout(20)
        yield sock


def answer(sock: socket.socket, text: bytes) -> dict[str, object]:
    sock.sendall(text)
    with sock.makefile("rb") as replies:
        result: dict[str, object] = json.loads(replies.readline())
    return result


def test_half_a_request_keeps_nobody_waiting_and_is_answered_when_it_is_whole(running: Supervisor) -> None:
    with client(running) as slow:
        slow.sendall(b'{"version": 1, "op"')
        assert running.run("ping").returncode == 0
        assert answer(slow, b': "ping"}\n')["ok"] is True


def test_requests_that_are_none_get_an_answer_and_the_connection_goes_on(running: Supervisor) -> None:
    with client(running) as sock:
        for text in (
            b"\n",
            b"[]\n",
            b"\xff\xfe\n",
            b'{"version": 1}\n',
            b'{"version": 1, "op": "apply"}\n',
            b"{" * 9999 + b"\n",
        ):
            assert answer(sock, text)["ok"] is False
        assert answer(sock, b'{"version": 1, "op": "ping"}\n')["ok"] is True


def test_a_request_of_ten_megabytes_is_answered_and_one_without_an_end_is_hung_up_on(running: Supervisor) -> None:
    daemon = running.daemon_pid()
    before = resident_kb(daemon)
    with client(running) as sock:
        text = json.dumps({"version": 1, "op": "ping", "more": "x" * 10_000_000}).encode()
        assert answer(sock, text + b"\n")["ok"] is True
    with client(running) as sock, contextlib.suppress(ConnectionError):
        for _ in range(40):
            sock.sendall(b"x" * 1_000_000)
        assert sock.recv(1) == b""
    assert running.daemon_pid() == daemon
    wait_for(lambda: resident_kb(daemon) < before + 4000, "the memory to be given back")


def test_a_thousand_idle_clients_keep_nobody_out_and_nothing_busy(running: Supervisor) -> None:
    daemon = running.daemon_pid()
    with contextlib.ExitStack() as idle:
        for _ in range(1000):
            idle.enter_context(client(running))
        assert running.run("ping").returncode == 0
        spent = cpu_seconds(daemon)
        assert running.run("list").returncode == 0
        assert cpu_seconds(daemon) - spent < 1
    assert len(os.listdir(f"/proc/{daemon}/fd")) < 400


def test_who_waits_for_a_job_is_not_hung_up_on_for_those_who_ask_nothing(running: Supervisor) -> None:
    running.apply(running.singleton(args=["trap '' INT; while :; do sleep 0.05; done"], kill_timeout=1.5))
    stop = subprocess.Popen(
        [sys.executable, "-m", "percore.supervisor.cli", "stop", "tick"], stdout=subprocess.DEVNULL,
        env={**os.environ, "PERCORE_HOME": str(running.home)},
    )  # fmt: skip
    wait_for(lambda: "tick 0: stopping" in running.log(), "the stop to begin")
    with contextlib.ExitStack() as idle:
        for _ in range(300):
            idle.enter_context(client(running))
        assert stop.wait(20) == 0


def test_a_client_that_never_reads_costs_itself_the_connection(supervisor: Supervisor) -> None:
    daemon = start_daemon(
        supervisor, "from percore.supervisor import control_server as server; server._PATIENCE_SECONDS = 1.0"
    )
    supervisor.apply(supervisor.singleton(instances=8))
    before = resident_kb(daemon.pid)
    question = b'{"version": 1, "op": "describe", "selector": "all"}\n'
    with client(supervisor) as reader:
        answer_size = len(json.dumps(answer(reader, question)))
    with client(supervisor) as deaf:
        deaf.settimeout(0.5)
        with contextlib.suppress(OSError):
            for _ in range(24_000_000 // answer_size):  # far more than anybody's answers may take
                deaf.sendall(question)
        assert supervisor.run("ping").returncode == 0
        wait_for(lambda: was_hung_up_on(deaf), "the supervisor to hang up")
        assert most_resident_kb(daemon.pid) < before + 12_000
    supervisor.run("kill")
    daemon.wait(60)


def was_hung_up_on(sock: socket.socket) -> bool:
    """Found without reading anything."""
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))


def most_resident_kb(pid: int) -> int:
    """At any time."""
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(row for row in rows if row.startswith("VmHWM")).split()[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_hung_up_on_even_where_the_folder_lets_him_in(running: Supervisor) -> None:
    path = running.home / "run" / "control.sock"
    for place in (path, path.parent, running.home, running.folder):
        place.chmod(0o777)
    code = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX)\n"
        "s.connect(sys.argv[1]); s.settimeout(20)\n"
        'try:\n    s.sendall(b\'{"version": 1, "op": "kill"}\\n\'); print(s.recv(100))\n'
        "except ConnectionError: print(b'')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("b''\n", "")
    refused = running.run("ping", check=False)
    assert (refused.returncode, "can be changed by other users" in refused.stderr) == (1, True)
    for place in (path.parent, running.home, running.folder):
        place.chmod(0o755)
    assert running.run("ping").returncode == 0


def test_a_deleted_socket_comes_back_with_the_next_command_that_needs_it(running: Supervisor) -> None:
    running.apply(running.api())
    daemon, before = running.daemon_pid(), running.pids("api")
    for name in ("control.sock", "worker.sock", "notify.sock"):
        (running.home / "run" / name).unlink(missing_ok=True)
    assert running.daemon_pid() == daemon
    assert running.pids("api") == before
    os.kill(before[0], signal.SIGKILL)  # its successor needs the workers' socket
    wait_for(lambda: all(worker["state"] == "running" for worker in running.workers("api")), "its successor")
    running.run("reload", "api")


def test_a_socket_file_left_by_a_dead_supervisor_is_no_obstacle(supervisor: Supervisor) -> None:
    daemon = start_daemon(supervisor)
    kill_now(daemon)
    assert (supervisor.home / "run" / "control.sock").exists()
    assert supervisor.daemon_pid() != daemon.pid


def test_a_second_supervisor_ends_with_a_sentence_and_the_first_one_goes_on(running: Supervisor) -> None:
    running.apply(running.api())
    daemon, before = running.daemon_pid(), running.pids("api")
    second = running.run("daemon", check=False)
    assert second.returncode == 1
    assert f"a supervisor already runs in {running.home} (pid {daemon})" in second.stderr
    assert running.daemon_pid() == daemon
    assert running.pids("api") == before
