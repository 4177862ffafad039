"""`percore monit` in a real terminal."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from percore.common.connections import count_connections
from tests.supervisor.conftest import Supervisor
from tests.terminal import Terminal
from tests.waiting import wait_for

TICKER = "console.log('first line'); setInterval(() => console.log('tick \\x1b[2J ' + process.pid), 100);"


def monit(supervisor: Supervisor, columns: int = 150, lines: int = 30) -> Terminal:
    return Terminal(
        [sys.executable, "-m", "percore.supervisor.cli", "monit", "--interval", "0.3"],
        env={**os.environ, "PERCORE_HOME": str(supervisor.home)}, cwd=str(supervisor.folder), columns=columns, lines=lines,
    )  # fmt: skip


@pytest.fixture
def two_apps(supervisor: Supervisor) -> Supervisor:
    (supervisor.folder / "ticker.js").write_text(TICKER)
    ticker = {
        "name": "ticker",
        "script": "ticker.js",
        "cwd": str(supervisor.folder),
        "interpreter": "node",
        "min_uptime": 0.1,
    }
    supervisor.apply(supervisor.api(), ticker)
    return supervisor


def test_it_shows_every_worker_its_connections_and_the_log_of_the_selected_one(two_apps: Supervisor) -> None:
    with monit(two_apps) as terminal:
        screen = terminal.wait_for("listening")  # what the first worker wrote
        assert screen.splitlines()[1].split() == [
            "id", "name", "mode", "pid", "status", "cpu", "mem", "↺", "up", "accepted", "conns", "queue",
        ]  # fmt: skip
        for pid in (*two_apps.pids("api"), *two_apps.pids("ticker")):
            terminal.wait_for(str(pid))
        assert "host: cpu" in screen
        assert "memory" in screen
        with socket.create_connection(("127.0.0.1", two_apps.port), source_address=("127.77.0.1", 0)):
            wait_for(lambda: terminal.read().splitlines()[2].split()[-2] == "1", "the connection to be counted")
        terminal.type("\x1bOB\x1bOB")  # down
        terminal.wait_for("log of ticker 0")
        terminal.wait_for("tick")  # and its escape sequence did not clear the screen
        assert "log of ticker 0" in terminal.wait_for("ticker 0")


PYTHON_SERVER = """
import http.server, os, socketserver
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.mark.parametrize("language", ["node", "python"])
def test_every_connection_that_a_worker_takes_is_counted(supervisor: Supervisor, language: str) -> None:
    (supervisor.folder / "server.py").write_text(PYTHON_SERVER)
    script = {} if language == "node" else {"script": "server.py", "interpreter": sys.executable}
    supervisor.apply(supervisor.api(**script))

    def accepted() -> list[int]:
        counted = count_connections(supervisor.workers("api"))
        return [counted[number].accepted or 0 for number in (0, 1)]

    before = accepted()
    assert min(before) >= 1, "the check by which each was found ready"
    for _ in range(50):
        supervisor.get(source="127.77.0.1")
    after = accepted()
    # A few checks of the supervisor itself may come in between.
    assert 50 <= after[0] - before[0] < 60
    assert after[1] - before[1] < 10


def test_keys_reload_restart_stop_start_and_scale(two_apps: Supervisor) -> None:
    before = two_apps.pids("api")
    with monit(two_apps) as terminal:
        terminal.wait_for(str(before[0]))
        terminal.type("l")
        terminal.wait_for("done")
        after = two_apps.pids("api")
        assert after[0] not in (before[0], 0)
        assert after[1:] == before[1:]
        terminal.type("S")
        terminal.wait_for("stop api? y/n")
        terminal.type("n")
        terminal.wait_until_gone("y/n")
        terminal.type("S")
        terminal.wait_for("stop api? y/n")
        terminal.type("y")
        wait_for(lambda: two_apps.pids("api") == [0, 0], "the app to be stopped")
        terminal.wait_for("stopped")
        terminal.type("T")
        wait_for(lambda: all(worker["state"] == "running" for worker in two_apps.workers("api")), "it to run again")
        terminal.type("+")
        wait_for(lambda: len(two_apps.workers("api")) == 3, "a third worker")
        terminal.wait_for("api 2")


def test_filter_sort_and_help(two_apps: Supervisor) -> None:
    with monit(two_apps) as terminal:
        terminal.wait_for("ticker 0")
        terminal.type("/tick")
        terminal.wait_until_gone("api 0")
        terminal.type("\r")
        terminal.wait_for("filter: tick")
        terminal.type("\x1b")
        terminal.wait_for("api 0")
        terminal.type("o")
        terminal.wait_for("sort: name")
        terminal.type("?")
        terminal.wait_for("select a worker")
        terminal.type("?")
        terminal.wait_until_gone("select a worker")


def test_it_follows_the_size_of_the_terminal_down_to_a_few_cells(two_apps: Supervisor) -> None:
    with monit(two_apps) as terminal:
        terminal.wait_for("ticker 0")
        terminal.resize(40, 8)
        wait_for(lambda: "mode" not in terminal.read() and "status" in terminal.read(), "fewer columns")
        assert "api 0" in terminal.read()
        terminal.resize(3, 2)
        wait_for(lambda: "api" not in terminal.read(), "next to nothing")
        terminal.resize(120, 20)
        terminal.wait_for("ticker 0")
        terminal.type("q")
        assert terminal.wait_for_end() == 0


def test_what_did_not_change_is_not_drawn_again(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.singleton())
    with monit(supervisor) as terminal:
        terminal.wait_for("tick 0")
        drawn = len(terminal.raw)
        wait_for(lambda: "2s" in terminal.read(), "some seconds to pass")
        assert len(terminal.raw) - drawn < 150 * 30, "less than one whole screen in several looks"
        assert terminal.raw.count(b"\x1b[2J") + terminal.raw.count(b"\x1b[J") <= 3


@pytest.mark.parametrize("end", ["q", "\x03", signal.SIGTERM])
def test_the_terminal_is_as_before_however_it_ends(supervisor: Supervisor, end: object) -> None:
    with monit(supervisor) as terminal:
        terminal.wait_for("no supervisor runs")
        assert b"\x1b[?1049h" in terminal.raw
        if isinstance(end, str):
            terminal.type(end)
        else:
            os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.wait_for_end() == 0
        assert b"\x1b[?1049l" in terminal.raw
        assert b"Traceback" not in terminal.raw


def test_a_supervisor_that_comes_and_goes_is_seen(supervisor: Supervisor) -> None:
    with monit(supervisor) as terminal:
        terminal.wait_for("no supervisor runs")
        supervisor.apply(supervisor.singleton())
        terminal.wait_for("online")
        supervisor.run("kill")
        terminal.wait_for("no supervisor runs")


def test_without_a_terminal_it_says_what_to_type(supervisor: Supervisor, tmp_path: Path) -> None:
    done = supervisor.run("monit", check=False)
    assert done.returncode == 2
    assert done.stderr == "percore: monit needs a terminal -> percore list, or percore jlist for programs\n"
