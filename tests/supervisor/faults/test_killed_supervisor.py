"""kill -9 of the supervisor, wherever it is: nobody notices, nothing runs twice, nothing is forgotten."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from percore.common.procfs import state_of
from tests.supervisor.conftest import Load, Supervisor
from tests.supervisor.faults.tools import (
    NOW,
    becomes_sound,
    lost_nothing,
    pidfd_of,
    plain,
    processes_of,
    start_daemon,
)
from tests.waiting import wait_for

# Where a supervisor that starts two apps may be when it dies.
WHILE_STARTING = {
    "after the fork, before the state is written": f"""
from percore.supervisor.state.state_file import StateFile
save = StateFile.save
def dies(self, content):
    if any(slot["workers"] for app in content["apps"] if app["config"]["name"] == "tick" for slot in app["slots"]): {NOW}
    save(self, content)
StateFile.save = dies
""",
    "between the two files of the state": f"""
from percore.supervisor.state import state_file
write = state_file._write
def dies(path, content):
    if path.endswith("state.json") and "tick" in str(content): {NOW}
    write(path, content)
state_file._write = dies
""",
    "before the new state takes the old one's place": f"""
rename = os.rename
def dies(source, target, **directories):
    if target.endswith("state.json") and "tick" in open(source).read(): {NOW}
    rename(source, target, **directories)
os.rename = dies
""",
    "in the child, before it executes its program": """
execve = os.execve
def dies(*arguments):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(0.5)
    execve(*arguments)
os.execve = dies
""",
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose who a worker runs as")
@pytest.mark.parametrize("patch", WHILE_STARTING.values(), ids=WHILE_STARTING.keys())
def test_killed_while_it_starts_a_singleton(supervisor: Supervisor, patch: str) -> None:
    # A worker with a user of its own is forked, not spawned, so that it is there for a while before it executes.
    app, tick = supervisor.api(), supervisor.singleton(user="root", args=["exec sleep 1000"])
    supervisor.apply(app)
    before = supervisor.pids("api")
    supervisor.kill_daemon()
    daemon = start_daemon(supervisor, patch)
    with Load(supervisor.port) as load:
        supervisor.apply(app, tick, check=False)
        assert daemon.wait(60) == -signal.SIGKILL
        becomes_sound(supervisor, app)
        supervisor.apply(app, tick)
        becomes_sound(supervisor, app, tick)
    lost_nothing(load)
    assert supervisor.pids("api") == before


# Where a supervisor may be in a reload of two workers. `slot` is what the reload is at.
WHILE_RELOADING = {
    "before the new worker is ready": f"""
from percore.supervisor.core.endpoints.client import WorkerClient
listens = WorkerClient.listens
def dies(self, *arguments):
    if self.worker.role.value == "incoming": {NOW}
    listens(self, *arguments)
WorkerClient.listens = dies
""",
    "before new connections go to the new worker": f"""
from percore.supervisor.core.slot import Slot
def dies(self): {NOW}
Slot.promote = dies
""",
    "after new connections go to the new worker": f"""
from percore.supervisor.core import replace
def dies(slots):
    if any(slot.outgoing for slot in slots): {NOW}
    yield from ()
replace._until_drained = dies
""",
    "while the old worker drains": f"""
from percore.supervisor.core.worker import drain
look, looks = drain.look, []
def dies(*arguments):
    looks.append(arguments)
    if len(looks) > 4: {NOW}
    look(*arguments)
drain.look = dies
""",
    "between the two workers": f"""
from percore.supervisor.core.slot import Slot
begin, begun = Slot.begin_reload, []
def dies(self, config):
    begun.append(self)
    if len(begun) > 1: {NOW}
    return begin(self, config)
Slot.begin_reload = dies
""",
}


WHILE_THE_SECOND_STARTS = f"""
from percore.supervisor.core.slot import Slot
begin, begun = Slot.begin_reload, []
def dies():
    {NOW}
def dies_soon(self, config):
    begun.append(self)
    if len(begun) > 1: self._runtime.loop.later(0.01, dies)  # the state on disk tells of the first one by then
    return begin(self, config)
Slot.begin_reload = dies_soon
"""


@pytest.mark.parametrize("patch", WHILE_RELOADING.values(), ids=WHILE_RELOADING.keys())
def test_killed_while_it_reloads(supervisor: Supervisor, patch: str) -> None:
    app = supervisor.api()
    supervisor.apply(app)
    supervisor.kill_daemon()
    daemon = start_daemon(supervisor, patch)
    with Load(supervisor.port) as load:
        assert supervisor.run("reload", "api", check=False).returncode != 0
        assert daemon.wait(60) == -signal.SIGKILL
        becomes_sound(supervisor, app)
        supervisor.run("reload", "api")
        becomes_sound(supervisor, app)
    lost_nothing(load)
    assert "lost with the last supervisor" not in supervisor.log()


def test_a_deploy_that_was_cut_off_by_a_kill_is_taken_back_by_applying_the_former_release(
    supervisor: Supervisor,
) -> None:
    """Some workers run the new release by then, and the app itself is still called the former one."""
    app = supervisor.api(env={"MOOD": "calm"})
    supervisor.apply(app)
    supervisor.kill_daemon()
    daemon = start_daemon(supervisor, WHILE_THE_SECOND_STARTS)
    with Load(supervisor.port) as load:
        assert supervisor.apply({**app, "env": {**app["env"], "MOOD": "wild"}}, release="r2", check=False)["exit_code"]
        assert daemon.wait(60) == -signal.SIGKILL
        becomes_sound(supervisor, app)
        assert {worker["release"] for worker in supervisor.workers("api")} == {"r1", "r2"}
        supervisor.apply({**app, "release": "r1"})
        assert {worker["release"] for worker in supervisor.workers("api")} == {"r1"}
        assert len({worker["env_hash"] for worker in supervisor.workers("api")}) == 1
    lost_nothing(load)


def test_the_store_alone_keeps_the_clients_of_an_app_that_has_no_worker_left(supervisor: Supervisor) -> None:
    """No worker holds these sockets that they could be taken out of; another app's worker holds the store."""
    app, tick = plain(supervisor), supervisor.singleton(args=["exec sleep 1000"])
    supervisor.apply(app, tick)
    before = supervisor.pids("tick")
    with ThreadPoolExecutor(8) as background:
        daemon = supervisor.daemon_pid()
        with pidfd_of(daemon) as has_ended:
            workers = supervisor.pids("api")
            os.kill(daemon, signal.SIGSTOP)
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            # A process that was told to die still accepts for a moment.
            wait_for(lambda: {state_of(pid) for pid in workers} == {"Z"}, "the end of the workers")
            clients = [background.submit(supervisor.get) for _ in range(8)]
            wait_for(lambda: waiting_clients(supervisor.port) == 8, "all of them to wait")
            os.kill(daemon, signal.SIGKILL)
            wait_for(has_ended, "its end")
        supervisor.run("ping")
        assert {client.result()["slot"] for client in clients} <= {"0", "1"}
    becomes_sound(supervisor, app, tick)
    assert supervisor.pids("tick") == before


def waiting_clients(port: int) -> int:
    """Of all sockets that listen there: the second number of a listening socket's row is the length of its queue."""
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return sum(int(row[4].partition(":")[2], 16) for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A")


def test_killed_again_while_it_takes_over(supervisor: Supervisor) -> None:
    """Twice within a tenth of a second: the second one dies with the sockets in its hands, and the third has them all."""
    app = supervisor.api()
    supervisor.apply(app, supervisor.singleton(args=["exec sleep 1000"]))
    before = supervisor.pids("api") + supervisor.pids("tick")
    with Load(supervisor.port) as load:
        for patch in (
            f"from percore.supervisor.state import set_aside\ndef dies(*_): {NOW}\nset_aside.open_unadopted = dies",
            f"from percore.supervisor.state.fd_store import FdStore\ndef dies(*_): {NOW}\nFdStore._send = dies",
            f"from percore.supervisor.state.fd_store import FdStore\ndef dies(*_): {NOW}\nFdStore._drop = dies",
            f"from percore.supervisor.base import systemd\ndef dies(*_): {NOW}\nsystemd.notify = dies",
        ):
            supervisor.kill_daemon()
            assert start_daemon(supervisor, patch).wait(60) == -signal.SIGKILL
            supervisor.run("ping")
    lost_nothing(load)
    assert supervisor.pids("api") + supervisor.pids("tick") == before
    assert "lost with the last supervisor" not in supervisor.log()
    supervisor.run("reload", "api")


def test_killed_again_and_again_under_load_at_any_moment(supervisor: Supervisor) -> None:
    app = supervisor.api()
    supervisor.apply(app, supervisor.singleton(args=["exec sleep 1000"]))
    before = supervisor.pids("api") + supervisor.pids("tick")
    with Load(supervisor.port) as load:
        for number in range(int(os.environ.get("PERCORE_TEST_KILLS", "25"))):
            daemon = start_daemon(supervisor) if number else None
            if daemon is None:
                supervisor.kill_daemon()
                continue
            supervisor.get()
            daemon.kill()
            daemon.wait(60)
        supervisor.run("ping")
        assert supervisor.pids("api") + supervisor.pids("tick") == before
        supervisor.run("reload", "api")
    lost_nothing(load)


def test_killed_in_a_back_off_the_worker_is_tried_again_by_the_next(supervisor: Supervisor) -> None:
    go = supervisor.folder / "go"
    app = supervisor.singleton(args=[f"test -e {go} || exit 3; exec sleep 1000"], restart_delay=600.0)
    supervisor.apply(app, supervisor.api(), check=False)
    path = supervisor.folder / "one.json"
    path.write_text(json.dumps({"apps": [{"name": "tick", "script": "-c", "args": app["args"], "interpreter": "sh",
                                          "restart_delay": 600000}]}))  # fmt: skip
    supervisor.run("start", str(path), check=False)
    wait_for(lambda: supervisor.workers("tick")[0]["state"] == "backoff", "the back-off")
    supervisor.kill_daemon()
    go.touch()
    becomes_sound(supervisor, {**app, "instances": 1})


def test_killed_while_it_restarts_a_singleton_the_next_one_starts_it(supervisor: Supervisor) -> None:
    tick = supervisor.singleton(args=["exec sleep 1000"])
    supervisor.apply(tick)
    supervisor.kill_daemon()
    daemon = start_daemon(supervisor, f"""
from percore.supervisor.core import replace
def dies(*_, **__): {NOW}
replace.bring_up = dies
""")  # fmt: skip
    supervisor.run("restart", "tick", check=False)
    assert daemon.wait(60) == -signal.SIGKILL
    becomes_sound(supervisor, tick)


def test_killed_while_a_stop_waits_the_next_one_ends_it(supervisor: Supervisor) -> None:
    stubborn = supervisor.singleton(args=["trap '' INT; while :; do sleep 0.05; done"], kill_timeout=1.0)
    supervisor.apply(stubborn, supervisor.api())
    supervisor.kill_daemon()
    daemon = start_daemon(supervisor, f"""
from percore.supervisor.process.child import Child
def dies(_): {NOW}
Child.kill = dies
""")  # fmt: skip
    supervisor.run("stop", "tick", check=False)
    assert daemon.wait(60) == -signal.SIGKILL
    supervisor.run("ping")
    wait_for(lambda: supervisor.workers("tick")[0]["state"] == "stopped", "the end of the stop")
    assert processes_of(supervisor, "tick") == []


def test_killed_while_a_worker_starts_it_is_not_taken_for_ready(supervisor: Supervisor) -> None:
    go = supervisor.folder / "go"
    (supervisor.folder / "late.js").write_text(
        f"const wait = setInterval(() => {{ if (require('fs').existsSync('{go}')) {{ clearInterval(wait); serve(); }} }}, 20);\n"
        f"function serve() {{ {(supervisor.folder / 'server.js').read_text()} }}"
    )
    app = supervisor.api(script="late.js", instances=1, port=supervisor.port, listen_timeout=60.0)
    with ThreadPoolExecutor() as background:
        background.submit(supervisor.apply, app, check=False)
        wait_for(lambda: [worker["state"] for worker in supervisor.workers("api")] == ["starting"], "it to start")
        [pid] = supervisor.pids("api")
        supervisor.kill_daemon()
    supervisor.run("ping")
    [worker] = supervisor.workers("api")
    assert (worker["pid"], worker["state"]) == (pid, "starting")
    go.touch()
    becomes_sound(supervisor, app)
    assert supervisor.pids("api") == [pid]
