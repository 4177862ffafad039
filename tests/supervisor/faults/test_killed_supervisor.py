"""kill -9 of the supervisor, wherever it is: nobody notices, nothing runs twice, nothing is forgotten."""

from __future__ import annotations

import os
import signal

import pytest

from tests.supervisor.conftest import Load, Supervisor
from tests.supervisor.faults.tools import NOW, becomes_sound, lost_nothing, start_daemon
from tests.waiting import wait_for

# Where a supervisor that starts two apps may be when it dies.
WHILE_STARTING = {
    "after the fork, before the state is written": f"""
from percore.supervisor.snapshot import StateFile
save = StateFile.save
def dies(self, content):
    if any(slot["worker"] for app in content["apps"] for slot in app["slots"]): {NOW}
    save(self, content)
StateFile.save = dies
""",
    "between the two files of the state": f"""
from percore.supervisor import snapshot
write = snapshot._write
def dies(path, content):
    if path.endswith("state.json") and "tick" in str(content): {NOW}
    write(path, content)
snapshot._write = dies
""",
    "before the new state takes the old one's place": f"""
rename = os.rename
def dies(source, target):
    if target.endswith("state.json") and "tick" in open(source).read(): {NOW}
    rename(source, target)
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
    app, tick = supervisor.api(), supervisor.singleton(user="root")
    supervisor.apply(app)
    before = supervisor.pids("api")
    supervisor.kill_daemon()
    daemon = start_daemon(supervisor, patch)
    with Load(supervisor.port) as load:
        supervisor.apply(app, tick, check=False)
        wait_for(lambda: daemon.poll() is not None, "its death")
        becomes_sound(supervisor, app)
        supervisor.apply(app, tick)
        becomes_sound(supervisor, app, tick)
    lost_nothing(load)
    assert supervisor.pids("api") == before


# Where a supervisor may be in a reload of two workers. `slot` is what the reload is at.
WHILE_RELOADING = {
    "before the new worker is ready": f"""
from percore.supervisor.worker import Worker
bound = Worker.bound
def dies(self, *arguments):
    if self.role.value == "incoming": {NOW}
    bound(self, *arguments)
Worker.bound = dies
""",
    "before new connections go to the new worker": f"""
from percore.supervisor.slot import Slot
def dies(self): {NOW}
Slot.promote = dies
""",
    "after new connections go to the new worker": f"""
from percore.supervisor.app import App
from percore.supervisor.slot import Slot
def dies(self, slots):
    if any(slot.outgoing for slot in slots): {NOW}
    yield from ()
App._until_drained = dies
""",
    "while the old worker drains": f"""
from percore.supervisor.slot import Slot
drain, looks = Slot._drain, []
def dies(self, *arguments):
    looks.append(self)
    if len(looks) > 4: {NOW}
    drain(self, *arguments)
Slot._drain = dies
""",
    "between the two workers": f"""
from percore.supervisor.slot import Slot
begin, begun = Slot.begin_reload, []
def dies(self, config):
    begun.append(self)
    if len(begun) > 1: {NOW}
    return begin(self, config)
Slot.begin_reload = dies
""",
}


@pytest.mark.parametrize("patch", WHILE_RELOADING.values(), ids=WHILE_RELOADING.keys())
def test_killed_while_it_reloads(supervisor: Supervisor, patch: str) -> None:
    app = supervisor.api()
    supervisor.apply(app)
    supervisor.kill_daemon()
    daemon = start_daemon(supervisor, patch)
    with Load(supervisor.port) as load:
        assert supervisor.run("reload", "api", check=False).returncode != 0
        assert daemon.wait() == -signal.SIGKILL
        becomes_sound(supervisor, app)
        supervisor.run("reload", "api")
        becomes_sound(supervisor, app)
    lost_nothing(load)
    assert "lost with the last supervisor" not in supervisor.log()
