"""A clustered app that runs as another user: its workers reach the supervisor, and outlive it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.conftest import SERVER, Load, Supervisor
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts workers as another user")
USER = "nobody"
OUTSIDE = Path("/var/lib/percore-users")


@pytest.fixture
def app(supervisor: Supervisor) -> Iterator[dict[str, Any]]:
    """Its folder can be read by its user; everything else of the test cannot."""
    folder = Path("/var/tmp") / f"percore-test-{os.getpid()}-{supervisor.port}"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "server.js").write_text(SERVER)
    yield supervisor.api(cwd=str(folder), user=USER)
    shutil.rmtree(folder)


def test_its_workers_share_the_port_and_a_reload_loses_nothing(supervisor: Supervisor, app: dict[str, Any]) -> None:
    supervisor.apply(app)
    for pid in supervisor.pids("api"):
        assert os.stat(f"/proc/{pid}").st_uid == pwd.getpwnam(USER).pw_uid
    assert {supervisor.get()["slot"] for _ in range(40)} == {"0", "1"}
    with Load(supervisor.port) as load:
        supervisor.run("reload", "api")
    assert load.failures == []
    outside = OUTSIDE / f"{zlib.crc32(os.fsencode(str(supervisor.home))):08x}"
    door = (outside / f"worker-{pwd.getpwnam(USER).pw_uid}.sock").stat()
    assert (door.st_uid, door.st_mode & 0o777) == (pwd.getpwnam(USER).pw_uid, 0o600)  # to no other user
    supervisor.run("kill")
    wait_for(lambda: not outside.exists(), "the folder outside the home to go")


def test_no_request_is_lost_when_the_supervisor_is_killed_with_no_worker_of_its_own(
    supervisor: Supervisor, app: dict[str, Any]
) -> None:
    supervisor.apply(app)
    before = supervisor.pids("api")
    with Load(supervisor.port) as load:
        for _ in range(2):
            supervisor.kill_daemon()
            supervisor.run("ping")
            wait_for(lambda: supervisor.pids("api") == before, "adoption")
        supervisor.run("reload", "api")
    assert load.failures == []
    assert not set(before) & set(supervisor.pids("api"))
    for slot in (0, 1):
        assert {supervisor.get(source=f"127.77.0.{slot + 1}")["slot"] for _ in range(5)} == {str(slot)}


def test_it_says_that_it_is_ready_in_systemds_words(supervisor: Supervisor, app: dict[str, Any]) -> None:
    script = Path(app["cwd"]) / "ready.py"
    script.write_text(
        "import os, socket, time\n"
        "with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:\n"
        "    notify.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])\n"
        "time.sleep(1000)\n"
    )
    supervisor.apply(app | {"interpreter": "/usr/bin/python3", "script": "ready.py", "wait_ready": True})
    assert [worker["state"] for worker in supervisor.workers("api")] == ["running"] * 2


def test_its_token_is_worth_nothing_to_another_user(supervisor: Supervisor, app: dict[str, Any]) -> None:
    supervisor.apply(app)
    environ = Path(f"/proc/{supervisor.pids('api')[0]}/environ").read_text().split("\0")
    token = next(entry.partition("=")[2] for entry in environ if entry.startswith("PERCORE_TOKEN="))
    path = next(entry.partition("=")[2] for entry in environ if entry.startswith("PERCORE_SOCKET="))
    ask = (
        "import os, socket, sys\n"
        "os.setuid(int(sys.argv[3]))\n"
        "with socket.socket(socket.AF_UNIX) as door:\n"
        "    door.connect(sys.argv[1])\n"
        "    door.sendall(f'bind {sys.argv[2]} 1 2 1 0 0200{sys.argv[4]}7f000001\\n'.encode())\n"
        "    print(door.recv(100))\n"
    )
    port = supervisor.port.to_bytes(2, "big").hex()
    asked = [
        subprocess.run(
            [sys.executable, "-c", ask, path, token, str(uid), port], capture_output=True, text=True, check=False
        )
        for uid in (pwd.getpwnam(USER).pw_uid, 1)
    ]
    assert "fail" in asked[0].stdout  # it overlaps with [::]: understood, and refused for that reason
    assert "fail" not in asked[1].stdout
