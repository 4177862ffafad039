"""From the command to a running program: what is started, as whom, and what is said when it cannot be."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from percore.supervisor.process.spawn import STORE_FDS
from tests.supervisor.conftest import Supervisor
from tests.waiting import wait_for

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose who a worker is")

SLOW = """
setTimeout(() => require('http').createServer((request, response) => response.end('{}')).listen(process.env.PORT), 700);
"""


def test_a_program_with_a_port_of_its_own_is_ready_when_it_listens_there(supervisor: Supervisor) -> None:
    (supervisor.folder / "slow.js").write_text(SLOW)
    supervisor.apply(supervisor.api(script="slow.js", share_port=False, mode="fork", instances=1, port=supervisor.port))
    assert supervisor.get() == {}  # at once: `apply` has waited for it


def test_a_program_that_is_none_is_named(supervisor: Supervisor) -> None:
    (supervisor.folder / "none").write_text("\x7fELF and then nothing\n")
    (supervisor.folder / "none").chmod(0o755)
    result = supervisor.apply(supervisor.singleton(script="none", interpreter="none", args=[]), check=False)
    assert "none: Exec format error" in result["error"]


def test_a_worker_leads_its_own_session_holds_no_descriptor_of_ours_and_ignores_no_signal(
    supervisor: Supervisor,
) -> None:
    supervisor.apply(supervisor.singleton())
    [pid] = supervisor.pids("tick")
    assert os.getsid(pid) == pid
    assert {int(name) for name in os.listdir(f"/proc/{pid}/fd")} <= {0, 1, 2, *STORE_FDS}
    ignored = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn"))
    assert int(ignored.split()[1], 16) & 0x7FFFFFFF == 0, "none but the C library's own two"


@as_root
def test_a_worker_may_be_another_user_and_a_folder_that_is_closed_to_it_is_told(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.singleton(user="nobody", cwd="/"))
    [pid] = supervisor.pids("tick")
    assert Path(f"/proc/{pid}").owner() == "nobody"
    closed = supervisor.folder / "closed"
    closed.mkdir(mode=0o700)
    failed = supervisor.apply(supervisor.singleton(user="nobody", cwd=str(closed)), release="r2", check=False)
    assert f"cannot change to directory {closed}: Permission denied" in failed["error"]


def test_a_program_that_is_slower_than_its_time_limit_goes_on_and_serves(supervisor: Supervisor) -> None:
    slow = "require('fs').watch('.', () => require('fs').existsSync('go') && process.send('ready')); setInterval(() => {}, 999);"
    (supervisor.folder / "slow.js").write_text(slow)
    app = [{"name": "slow", "script": "slow.js", "instances": 1, "wait_ready": True, "listen_timeout": 300}]
    (supervisor.folder / "slow.json").write_text(json.dumps(app))
    done = supervisor.run("start", "slow.json", check=False)
    assert done.returncode != 0
    assert "not ready within 0.3 s (it waited for the ready message); it goes on" in done.stderr
    [before] = supervisor.pids("slow")
    (supervisor.folder / "go").touch()
    wait_for(lambda: [one["state"] for one in supervisor.workers("slow")] == ["running"], "it to serve")
    assert supervisor.pids("slow") == [before]
