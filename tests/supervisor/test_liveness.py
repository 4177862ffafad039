"""A worker that runs and does not serve gets no new clients, and in the end a successor."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.supervisor.conftest import Load, Supervisor
from tests.waiting import free_port, wait_for

SICK = """
const http = require('http');
let isSick = false;
http.createServer((request, response) => {
  if (request.url === '/sicken') isSick = true;
  response.statusCode = isSick && request.url === '/health' ? 503 : 200;
  response.end(JSON.stringify({ pid: process.pid, slot: process.env.NODE_APP_INSTANCE }));
}).listen(process.env.PORT);
"""


def test_new_clients_go_to_the_worker_whose_queue_is_shorter(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(liveness_timeout=0.0))
    frozen, other = supervisor.pids("api")
    os.kill(frozen, signal.SIGSTOP)
    waiting = []
    try:
        # One client that waits in the frozen worker's queue is all that the supervisor needs to see.
        waiting.append(socket.create_connection(("127.0.0.1", supervisor.port), source_address=("127.77.0.1", 0)))
        wait_for(lambda: "accepts no connections" in supervisor.log(), "the stuck queue to be seen")
        began = time.monotonic()
        assert {supervisor.get()["pid"] for _ in range(40)} == {other}
        assert time.monotonic() - began < 8, "none of them waited for the frozen worker"
    finally:
        os.kill(frozen, signal.SIGCONT)
        for client in waiting:
            client.close()
    wait_for(lambda: frozen in {supervisor.get()["pid"] for _ in range(8)}, "the thawed worker to serve again")


def test_a_worker_that_accepts_nothing_is_replaced_and_its_queue_served(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(liveness_timeout=1.5, kill_timeout=0.3))
    frozen, other = supervisor.pids("api")
    os.kill(frozen, signal.SIGSTOP)
    with socket.create_connection(("127.0.0.1", supervisor.port), source_address=("127.77.0.1", 0)) as client:
        client.settimeout(60)
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        wait_for(lambda: frozen not in supervisor.pids("api"), "the frozen worker to be replaced", seconds=30)
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert other in supervisor.pids("api")
    assert "it accepts no connections, for 1.5 s" in supervisor.log()


def test_a_worker_that_fails_its_health_check_is_steered_away_from_and_replaced(supervisor: Supervisor) -> None:
    (supervisor.folder / "sick.js").write_text(SICK)
    supervisor.apply(supervisor.api(script="sick.js", health="/health", health_interval=0.2, liveness_timeout=1.0))
    sick, other = supervisor.pids("api")
    with Load(supervisor.port) as load:
        supervisor.get("/sicken", source="127.77.0.1")
        wait_for(lambda: "GET /health answered 503; new connections" in supervisor.log(), "the check to fail")
        assert {supervisor.get()["pid"] for _ in range(30)} <= {other, *supervisor.pids("api")} - {sick}
        wait_for(lambda: sick not in supervisor.pids("api"), "the sick worker to be replaced", seconds=30)
    assert load.failures == []
    assert other in supervisor.pids("api")


def test_a_quiet_supervisor_is_not_woken(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    for _ in range(20):
        supervisor.get()
    daemon = supervisor.daemon_pid()
    quiet_since = time.monotonic()
    seen = wakeups(daemon)

    def has_been_quiet() -> bool:
        nonlocal seen, quiet_since
        now = wakeups(daemon)
        if now != seen:
            seen, quiet_since = now, time.monotonic()
        return time.monotonic() - quiet_since > 3

    wait_for(has_been_quiet, "three seconds in a row without a wake-up", seconds=20)


def wakeups(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)


NOTIFIES = """
import os, socket, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
address = os.environ["NOTIFY_SOCKET"]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.sendto(b"STATUS=warm\\nREADY=1\\n", address.replace("@", "\\0", 1))
time.sleep(1000)
"""


def test_a_program_is_ready_when_it_says_so_in_systemds_words_even_below_a_shell(supervisor: Supervisor) -> None:
    (supervisor.folder / "notifies.py").write_text(NOTIFIES)
    go = supervisor.folder / "go"
    command = f"{sys.executable} notifies.py {go}; true"
    with ThreadPoolExecutor() as background:
        applied = background.submit(
            supervisor.apply,
            {"name": "warm", "script": "-c", "args": [command], "interpreter": "sh", "cwd": str(supervisor.folder),
             "wait_ready": True, "min_uptime": 0.1},
        )  # fmt: skip
        try:
            wait_for(lambda: [w["state"] for w in supervisor.workers("warm")] == ["starting"], "it to start")
        finally:
            go.touch()
        assert applied.result()["ok"]
    assert [worker["state"] for worker in supervisor.workers("warm")] == ["running"]


def test_a_worker_of_several_ports_that_is_stuck_is_seen_although_nobody_waits_at_the_others(
    supervisor: Supervisor,
) -> None:
    (supervisor.folder / "two.js").write_text(
        "require('http').createServer((q, r) => r.end()).listen(process.env.SECOND);\n"
        + (supervisor.folder / "server.js").read_text()
    )
    supervisor.apply(supervisor.api(script="two.js", env={"SECOND": str(free_port())}, liveness_timeout=0.0))
    frozen = supervisor.pids("api")[0]
    os.kill(frozen, signal.SIGSTOP)
    try:
        with socket.create_connection(("127.0.0.1", supervisor.port), source_address=("127.77.0.1", 0)):
            wait_for(lambda: "accepts no connections" in supervisor.log(), "the stuck queue to be seen")
    finally:
        os.kill(frozen, signal.SIGCONT)
