"""Workers that behave badly, each in its own way: their siblings and their clients do not pay for it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.conftest import Load, Supervisor
from tests.supervisor.faults.tools import becomes_sound, is_running, lost_nothing, plain, processes_of
from tests.waiting import free_port, wait_for


def write(supervisor: Supervisor, text: str) -> dict[str, Any]:
    """An app of two Node workers that run this."""
    (supervisor.folder / "bad.js").write_text(text)
    return supervisor.api(script="bad.js")


SERVE = "require('http').createServer((q, r) => r.end(JSON.stringify({ pid: process.pid }))).listen(process.env.PORT"


@pytest.mark.parametrize(
    ("end", "told"),
    [("exit 0", "exited with code 0"), ("exit 1", "exited with code 1"), ("kill -SEGV $$", "killed by SIGSEGV")],
)
def test_a_worker_that_ends_in_any_way_is_started_again(supervisor: Supervisor, end: str, told: str) -> None:
    once = supervisor.folder / "once"
    app = supervisor.singleton(args=[f"test -e {once} && sleep 1000; touch {once}; sleep 0.3; {end}"], min_uptime=0.1)
    supervisor.apply(app, check=False)
    wait_for(lambda: f"tick 0: backoff: {told}" in supervisor.log(), "its end to be told")
    wait_for(lambda: [worker["state"] for worker in supervisor.workers("tick")] == ["running"], "the next one")


def test_a_worker_that_dies_just_after_it_was_ready_does_not_pass_for_a_good_release(supervisor: Supervisor) -> None:
    good = supervisor.api()
    supervisor.apply(good, release="good")
    before = supervisor.pids("api")
    bad = write(supervisor, SERVE + ", () => setTimeout(() => process.exit(1), 60));")
    with Load(supervisor.port) as load:
        result = supervisor.apply(bad, release="bad", check=False)
    assert result["exit_code"] == 4
    assert "exited with code 1" in result["error"]
    lost_nothing(load)
    assert supervisor.pids("api") == before


def test_a_worker_that_ignores_every_polite_signal_is_stopped_all_the_same(supervisor: Supervisor) -> None:
    script = "trap '' INT TERM HUP QUIT USR1 USR2; echo deaf; while :; do sleep 0.05; done"
    supervisor.apply(supervisor.singleton(args=[script], kill_timeout=0.3))
    log = supervisor.home / "logs" / "tick-out.log"
    wait_for(lambda: "deaf" in log.read_text(), "it to be deaf")
    supervisor.run("stop", "tick")
    assert processes_of(supervisor) == []


def test_a_frozen_worker_is_stopped_too(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.singleton(kill_timeout=0.3))
    os.kill(supervisor.pids("tick")[0], signal.SIGSTOP)
    supervisor.run("stop", "tick")
    assert processes_of(supervisor) == []


# Daemons of the old school: two forks, a session of its own, all descriptors closed.
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 64)
        time.sleep(1000)
    os._exit(0)
os.wait()
print("left", flush=True)
time.sleep(1000)
"""


# It never stays one process for long, so that whoever is found has a successor by the time it is killed.
RESTLESS = DAEMON.replace(
    "        time.sleep(1000)\n",
    """        while True:
            time.sleep(0.2)
            if os.fork() > 0:
                os._exit(0)
            os.setsid()
""",
    1,
)


@pytest.mark.parametrize("adopted", [False, True], ids=["", "of a worker that was adopted"])
@pytest.mark.parametrize("program", [DAEMON, RESTLESS], ids=["", "and goes on forking"])
def test_what_forks_twice_into_a_session_of_its_own_is_stopped_with_its_worker(
    supervisor: Supervisor, program: str, adopted: bool
) -> None:
    (supervisor.folder / "daemon.py").write_text(program)
    app = supervisor.singleton(interpreter=sys.executable, script="daemon.py", args=[])
    supervisor.apply(app)
    log = supervisor.home / "logs" / "tick-out.log"
    wait_for(lambda: "left" in log.read_text(), "its daemon")
    if adopted:
        supervisor.kill_daemon()
        supervisor.run("ping")
    supervisor.run("stop", "tick")
    assert [processes_of(supervisor) for _ in range(3)] == [[]] * 3  # one that just forks is not in every look


@pytest.mark.parametrize("adopted", [False, True], ids=["", "adopted"])
def test_a_killed_worker_takes_its_whole_tree_along_before_its_successor_starts(
    supervisor: Supervisor, adopted: bool
) -> None:
    (supervisor.folder / "daemon.py").write_text(DAEMON)
    app = supervisor.singleton(interpreter=sys.executable, script="daemon.py", args=[])
    supervisor.apply(app)
    wait_for(lambda: len(processes_of(supervisor)) == 2, "its daemon")
    before = processes_of(supervisor)
    if adopted:
        supervisor.kill_daemon()
        supervisor.run("ping")
    os.kill(supervisor.pids("tick")[0], signal.SIGKILL)
    wait_for(lambda: not any(map(is_running, before)), "both of the old ones to be gone")
    wait_for(lambda: len(processes_of(supervisor)) == 2, "the next worker and its daemon")


def test_zombies_of_a_worker_are_gone_with_it_and_its_orphans_are_reaped_while_it_runs(supervisor: Supervisor) -> None:
    script = "import os, time\nfor _ in range(20):\n    if os.fork() == 0: os._exit(0)\ntime.sleep(1000)"
    orphans = "for i in 1 2 3 4 5; do (sh -c 'sleep 0.05' &) ; done; exec sleep 1000"
    (supervisor.folder / "zombies.py").write_text(script)
    supervisor.apply(
        supervisor.singleton(interpreter=sys.executable, script="zombies.py", args=[]),
        supervisor.singleton(name="orphans", args=[orphans]),
    )
    daemon = supervisor.daemon_pid()
    children = Path(f"/proc/{daemon}/task/{daemon}/children")
    wait_for(lambda: len(children.read_text().split()) == 2, "nothing but its workers below the supervisor")
    supervisor.run("delete", "all")
    wait_for(lambda: children.read_text() == "", "nothing at all below it")


def test_a_worker_that_closes_its_output_goes_on(supervisor: Supervisor) -> None:
    app = write(supervisor, "for (const fd of [1, 2]) require('fs').closeSync(fd);\n" + SERVE + ");")
    supervisor.apply(app)
    with Load(supervisor.port) as load:
        supervisor.run("reload", "api")
    lost_nothing(load)
    becomes_sound(supervisor, app)


def test_a_worker_that_listens_late_is_waited_for_and_its_clients_are_served_by_the_others(
    supervisor: Supervisor,
) -> None:
    supervisor.apply(supervisor.api(), release="early")
    late = write(supervisor, f"setTimeout(() => {SERVE}), 1200);")
    with Load(supervisor.port) as load:
        assert supervisor.apply(late, release="late")["ok"]
    lost_nothing(load)


def test_a_worker_that_never_listens_is_given_up_at_its_time_limit(supervisor: Supervisor) -> None:
    never = {**write(supervisor, "setInterval(() => {}, 1000);"), "port": supervisor.port, "listen_timeout": 0.8}
    result = supervisor.apply(never, check=False)
    assert result["exit_code"] == 4
    assert "not ready within 0.8 s" in result["error"]
    assert processes_of(supervisor) == []


def test_a_worker_that_listens_twice_on_one_port_shares_it_with_itself(supervisor: Supervisor) -> None:
    """Fastify does: once for each address that a name has."""
    app = write(supervisor, f"{SERVE}, '0.0.0.0');\n{SERVE}, '0.0.0.0').on('error', (e) => console.log(e.code));")
    supervisor.apply(app)
    with Load(supervisor.port) as load:
        supervisor.run("reload", "api")
    lost_nothing(load)


def test_a_worker_that_also_listens_elsewhere_has_that_port_shared_too(supervisor: Supervisor) -> None:
    other = free_port()
    app = write(supervisor, SERVE + f");\n{SERVE.replace('process.env.PORT', str(other))});")
    supervisor.apply(app)
    with Load(other) as load:
        supervisor.run("reload", "api")
        supervisor.kill_daemon()
        supervisor.run("ping")
        supervisor.run("reload", "api")
    lost_nothing(load)


def test_a_worker_whose_event_loop_is_blocked_gets_no_new_clients_and_its_queue_is_served(
    supervisor: Supervisor,
) -> None:
    text = (
        "require('http').createServer((q, r) => {\n"
        "  if (q.url === '/block') for (const end = Date.now() + 60000; Date.now() < end; );\n"
        "  r.end(JSON.stringify({ pid: process.pid }));\n"
        "}).listen(process.env.PORT);"
    )
    app = {**write(supervisor, text), "liveness_timeout": 1.5, "kill_timeout": 0.3}
    supervisor.apply(app)
    blocked = supervisor.pids("api")[0]
    with Load(supervisor.port, keeping=0, closing=4) as load:
        with pytest.raises(OSError, match=r"reset|timed out|closed"):
            supervisor.get("/block", source="127.77.0.1")
        wait_for(lambda: blocked not in supervisor.pids("api"), "the blocked worker to be replaced", seconds=30)
    lost_nothing(
        load, resets=4
    )  # Node may have accepted one of each client before it came to the request that blocks it


def test_all_workers_down_at_once_refuse_nobody(supervisor: Supervisor) -> None:
    app = plain(supervisor)
    supervisor.apply(app)
    with Load(supervisor.port, keeping=0, closing=6) as load:
        for _ in range(3):
            before = supervisor.pids("api")
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda before=before: not set(before) & set(supervisor.pids("api")), "their successors")
            becomes_sound(supervisor, app)
    lost_nothing(load, resets=3 * 2)
