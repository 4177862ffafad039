"""Reloads that something comes in between: another wish, a death, a slow client; of one worker and of many."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.supervisor.conftest import Load, Supervisor
from tests.supervisor.faults.tools import becomes_sound, lost_nothing, plain, processes_of
from tests.waiting import wait_for

SLOW = """
const http = require('http');
const server = http.createServer((request, response) => {
  if (request.url.startsWith('/slow')) {
    console.log('asked');
    setTimeout(() => response.end(String(process.pid)), Number(request.url.slice(5)));
  }
  else response.end(JSON.stringify({ pid: process.pid, release: process.env.PERCORE_RELEASE || '' }));
});
server.on('upgrade', (request, socket) => {
  socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: echo\\r\\nConnection: Upgrade\\r\\n\\r\\n');
  socket.on('data', (data) => socket.write(data));
  socket.on('error', () => {});
});
setTimeout(() => server.listen(process.env.PORT), Number(process.env.BOOT || 0));
"""


@pytest.fixture
def slow(supervisor: Supervisor) -> Supervisor:
    (supervisor.folder / "slow.js").write_text(SLOW)
    return supervisor


@contextmanager
def command(supervisor: Supervisor, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """One that goes on while the test does."""
    with subprocess.Popen(
        [sys.executable, "-m", "percore.supervisor.cli", *arguments], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "PERCORE_HOME": str(supervisor.home)}, cwd=supervisor.folder,
    ) as process:  # fmt: skip
        yield process


def begins(supervisor: Supervisor, app: str = "api", step: str = "starting") -> Callable[[], bool]:
    """A question: has this step been taken since now? The log remembers it, however short it was."""
    sentence = f"{app} 0: {step}"
    before = supervisor.log().count(sentence)
    return lambda: supervisor.log().count(sentence) > before


def test_a_reload_asked_for_during_a_reload_follows_it(slow: Supervisor) -> None:
    app = slow.api(script="slow.js", env={"BOOT": "600"})
    slow.apply(app)
    before = slow.pids("api")
    has_begun = begins(slow)
    with Load(slow.port) as load, command(slow, "reload", "api") as first:
        wait_for(has_begun, "the first one to begin")
        with command(slow, "reload", "api") as second:
            assert first.wait(60) == 0
            between = slow.pids("api")
            assert second.wait(60) == 0
    lost_nothing(load)
    becomes_sound(slow, app)
    assert not set(before) & set(between)
    assert set(between) != set(slow.pids("api"))


@pytest.mark.parametrize("count", ["4", "1"])
def test_another_number_asked_for_during_a_reload_is_what_is_there_afterwards(slow: Supervisor, count: str) -> None:
    app = slow.api(script="slow.js", env={"BOOT": "600"})
    slow.apply(app)
    has_begun = begins(slow)
    with Load(slow.port) as load, command(slow, "reload", "api") as reload:
        wait_for(has_begun, "it to begin")
        assert slow.run("scale", "api", count).returncode == 0
        assert reload.wait(60) == 0
    lost_nothing(load)
    becomes_sound(slow, {**app, "instances": int(count)})


def test_an_app_deleted_during_its_reload_is_gone_with_all_its_workers(slow: Supervisor) -> None:
    slow.apply(slow.api(script="slow.js", env={"BOOT": "1500"}))
    has_begun = begins(slow)
    with command(slow, "reload", "api") as reload:
        wait_for(has_begun, "it to begin")
        slow.run("delete", "api")
        assert reload.wait(60) == 1
        assert reload.stderr
        assert "was cancelled by 'delete" in reload.stderr.read()
    assert slow.workers("api") == []
    assert processes_of(slow) == []


def test_an_app_that_a_deploy_removes_during_its_reload_is_gone_after_it(slow: Supervisor) -> None:
    app = slow.api(script="slow.js", env={"BOOT": "500"})
    slow.apply(app, slow.singleton(args=["exec sleep 1000"]))
    has_begun = begins(slow)
    with command(slow, "reload", "api") as reload:
        wait_for(has_begun, "it to begin")
        slow.apply(slow.singleton(args=["exec sleep 1000"]), release="r2")
        assert reload.wait(60) == 0
    assert slow.workers("api") == []
    wait_for(lambda: processes_of(slow, "api") == [], "its workers to be gone")


def test_a_restart_goes_on_after_the_stop_of_another_app(slow: Supervisor) -> None:
    stubborn = slow.singleton(args=["trap '' INT; while :; do sleep 0.05; done"], kill_timeout=1.0)
    other = slow.singleton(name="other", args=["exec sleep 1000"])
    slow.apply(stubborn, other)
    [before] = slow.pids("tick")
    has_begun = begins(slow, "tick", "stopping")
    with command(slow, "restart", "tick") as restart:
        wait_for(has_begun, "it to begin")
        slow.run("stop", "other")
        assert restart.wait(60) == 0
    wait_for(lambda: slow.workers("tick")[0]["state"] == "running", "it to run again")
    assert slow.pids("tick") != [before]
    assert slow.workers("other")[0]["state"] == "stopped"


def test_a_reload_goes_on_when_the_command_that_asked_for_it_is_killed(slow: Supervisor) -> None:
    app = slow.api(script="slow.js", env={"BOOT": "600"})
    slow.apply(app)
    before = slow.pids("api")
    has_begun = begins(slow)
    with Load(slow.port) as load, command(slow, "reload", "api") as reload:
        wait_for(has_begun, "it to begin")
        reload.kill()
        wait_for(lambda: not set(before) & set(slow.pids("api")), "both workers to be new")
    lost_nothing(load)
    becomes_sound(slow, app)


def test_a_stop_of_the_supervisor_during_a_reload_ends_everything_and_forgets_nothing(slow: Supervisor) -> None:
    app = slow.api(script="slow.js", env={"BOOT": "800"})
    slow.apply(app)
    daemon = slow.daemon_pid()
    has_begun = begins(slow)
    with command(slow, "reload", "api"):
        wait_for(has_begun, "it to begin")
        os.kill(daemon, signal.SIGTERM)
        wait_for(lambda: not os.path.exists(f"/proc/{daemon}"), "its end")
    assert processes_of(slow) == []
    becomes_sound(slow, app)


@pytest.mark.parametrize("count", [1, 64])
def test_a_reload_of_any_number_of_workers_loses_nothing(supervisor: Supervisor, count: int) -> None:
    app = plain(supervisor, instances=count, min_uptime=0.2)
    supervisor.apply(app)
    before = supervisor.pids("api")
    with Load(supervisor.port, keeping=0, closing=4) as load:
        supervisor.run("reload", "api")
    lost_nothing(load)
    assert len(supervisor.pids("api")) == count
    assert not set(before) & set(supervisor.pids("api"))
    becomes_sound(supervisor, app)


def test_a_release_that_is_never_ready_costs_its_time_limit_and_nothing_else(slow: Supervisor) -> None:
    good = slow.api(script="slow.js")
    slow.apply(good)
    before = slow.pids("api")
    with Load(slow.port) as load:
        never = slow.api(script="slow.js", env={"BOOT": "600000"}, listen_timeout=0.7)
        result = slow.apply(never, release="never", check=False)
    assert result["exit_code"] == 4
    assert "not ready within 0.7 s" in result["error"]
    lost_nothing(load)
    assert slow.pids("api") == before


def ask_slowly(port: int, milliseconds: int) -> bytes:
    """The answer, or nothing where the connection was cut off."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", f"/slow{milliseconds}")
        return connection.getresponse().read()
    except (http.client.HTTPException, ConnectionError):
        return b""
    finally:
        connection.close()


def wait_until_asked(supervisor: Supervisor) -> None:
    log = supervisor.home / "logs" / "api-out-0.log"
    wait_for(lambda: "asked" in log.read_text(), "the request to arrive")


def test_a_request_that_takes_seconds_is_finished_by_the_old_worker(slow: Supervisor) -> None:
    slow.apply(slow.api(script="slow.js", instances=1))
    [old] = slow.pids("api")
    with ThreadPoolExecutor() as background:
        answer = background.submit(ask_slowly, slow.port, 2500)
        wait_until_asked(slow)
        slow.run("reload", "api")
        assert answer.result() == str(old).encode()
    assert slow.pids("api") != [old]


def test_what_lasts_longer_than_the_drain_limit_ends_with_its_worker_and_costs_nobody_else_a_request(
    slow: Supervisor,
) -> None:
    slow.apply(slow.api(script="slow.js", instances=1))
    [old] = slow.pids("api")
    with (
        socket.create_connection(("127.0.0.1", slow.port), timeout=30) as websocket,
        ThreadPoolExecutor() as background,
    ):
        websocket.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        assert b"101" in websocket.recv(1000)
        answer = background.submit(ask_slowly, slow.port, 40000)
        wait_until_asked(slow)
        with Load(slow.port) as load, command(slow, "reload", "api") as reload:
            wait_for(lambda: any(worker["state"] == "stopping" for worker in slow.workers("api")), "the drain")
            websocket.sendall(b"still there")
            assert websocket.recv(1000) == b"still there"
            assert reload.wait(60) == 0
        assert answer.result() == b""
        with contextlib.suppress(ConnectionError):
            assert websocket.recv(1000) == b""
    lost_nothing(load)
    assert slow.pids("api") != [old]
