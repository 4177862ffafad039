"""A real supervisor in a folder of its own, with real programs; the load that judges it."""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from percore.supervisor.base.home import Home
from percore.supervisor.client import request
from tests.waiting import free_port, wait_for

SERVER = """
const http = require('http');
if (process.env.FAIL === 'throw') throw new Error('the release is broken');
const server = http.createServer((request, response) => {
  if (request.url === '/crash') process.exit(3);
  if (request.url === '/leak') { global.kept = Buffer.alloc(200 * 1024 * 1024, 1); }
  response.statusCode = process.env.FAIL === 'unhealthy' ? 500 : 200;
  const { NODE_APP_INSTANCE: slot, PERCORE_RELEASE: release } = process.env;
  response.end(JSON.stringify({ pid: process.pid, slot, release: release || '' }));
});
if (process.env.FAIL === 'silent') setInterval(() => {}, 1000);
else server.listen(process.env.PORT, () => console.log('listening'));
"""


class Supervisor:
    """`percore` with a home of its own; ended, with all its workers, when the test is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.port = free_port()
        self.started: list[subprocess.Popen[bytes]] = []  # supervisors that a test started by itself
        self.prefix: list[str] = []  # what runs the command, where a test needs something to
        (folder / "server.js").write_text(SERVER)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.prefix, sys.executable, "-m", "percore.supervisor.cli", *arguments],
            capture_output=True, text=True, timeout=120,
            env={**os.environ, "PERCORE_HOME": str(self.home)}, cwd=self.folder,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(
                f"percore {' '.join(arguments)} ended with {done.returncode}: {done.stderr}{self.log()}"
            )
        return done

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """The result line of an operation, without the command line."""
        *_, result = request(Home(str(self.home)), op, **fields)
        return result

    def log(self) -> str:
        path = self.home / "logs" / "percore.log"
        return path.read_text() if path.exists() else ""

    def api(self, **fields: Any) -> dict[str, Any]:
        """A clustered app of two workers on a port that is declared nowhere but in its own environment."""
        env = {"PORT": str(self.port), **fields.pop("env", {})}
        return {"name": "api", "script": "server.js", "cwd": str(self.folder), "interpreter": "node", "mode": "cluster",
                "instances": 2, "env": env, "listen_timeout": 10.0, **fields}  # fmt: skip

    def singleton(self, **fields: Any) -> dict[str, Any]:
        script = "echo start $$ $PERCORE_RELEASE; trap 'echo end $$; exit 0' INT TERM; while :; do sleep 0.05; done"
        return {
            "name": "tick",
            "script": "-c",
            "args": [script],
            "interpreter": "sh",
            "cwd": str(self.folder),
            **fields,
        }

    def apply(self, *apps: dict[str, Any], release: str = "r1", check: bool = True) -> dict[str, Any]:
        """The result line of `percore apply --json` for a release record of these apps."""
        place = self.folder / "releases" / release
        place.mkdir(parents=True, exist_ok=True)
        record = {"version": 1, "release": release, "apps": list(apps)}
        (place / ".percore.json").write_text(json.dumps(record))
        done = self.run("apply", str(place / ".percore.json"), "--json", check=check)
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        result["exit_code"] = done.returncode
        return result

    def workers(self, app: str) -> list[dict[str, Any]]:
        status = json.loads(self.run("status", "--json").stdout)
        return next((entry["workers"] for entry in status["apps"] if entry["name"] == app), [])

    def pids(self, app: str) -> list[int]:
        return [worker["pid"] for worker in self.workers(app)]

    def daemon_pid(self) -> int:
        return int(self.run("ping").stdout.split()[-1])

    def kill_daemon(self) -> None:
        """kill -9, and returns when it is gone: a process that was told to die still accepts for a moment."""
        self._end_daemon(signal.SIGKILL)

    def stop_daemon(self) -> None:
        """As systemd stops it, such as before a boot."""
        self._end_daemon(signal.SIGTERM)

    def _end_daemon(self, number: signal.Signals) -> None:
        pid = self.daemon_pid()
        with open(os.pidfd_open(pid)) as pidfd:
            os.kill(pid, number)
            assert select.select([pidfd], [], [], 10)[0]

    def get(self, path: str = "/", source: str = "127.0.0.1") -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=8, source_address=(source, 0))
        connection.request("GET", path, headers={"Connection": "close"})
        with connection.getresponse() as response:
            answer: dict[str, Any] = json.loads(response.read())
        connection.close()
        return answer


@pytest.fixture(autouse=True, scope="session")
def others_may_pass(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Into pytest's own folders, which are private: some tests are somebody else for a while."""
    base = tmp_path_factory.getbasetemp()
    for folder in (base, *base.parents):
        if folder.name.startswith(("pytest-", "popen-")):
            folder.chmod(0o755)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    with ended_supervisor(tmp_path) as made:
        yield made


@contextlib.contextmanager
def ended_supervisor(folder: Path) -> Iterator[Supervisor]:
    """Ended, with all that it started, when its user is done; what outlives that is an error."""
    made = Supervisor(folder)
    yield made
    made.run("kill", check=False)
    for daemon in made.started:
        daemon.kill()
        daemon.wait()
    for path in (Path("/proc", pid, "environ") for pid in os.listdir("/proc") if pid.isdigit()):
        try:
            is_left = f"PERCORE_HOME={made.home}".encode() in path.read_bytes().split(b"\0")
        except OSError:
            continue
        if is_left:
            os.kill(int(path.parent.name), signal.SIGKILL)
            raise AssertionError(f"process {path.parent.name} outlived its supervisor")


class Load:
    """Clients that keep asking, some over one connection, some with one for each request; every answer is counted."""

    def __init__(
        self, port: int, keeping: int = 3, closing: int = 3, *, retries: bool = False, path: str = "/"
    ) -> None:
        """With `retries`, a kept connection that was closed instead of answering is asked anew, as browsers and NGINX do."""
        self.port = port
        self._retries = retries
        self._path = path
        self.counts: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(True,)) for _ in range(keeping)]
        self._threads += [threading.Thread(target=self._ask, args=(False,)) for _ in range(closing)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        wait_for(lambda: self.counts["ok"] >= 20, "the load to run")
        return self

    def __exit__(self, *_: object) -> None:
        before = self.counts["ok"]
        try:
            wait_for(lambda: self.counts["ok"] >= before + 50, "answers after the last event")
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _ask(self, keeps: bool) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            is_reused = connection is not None
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=8)
                connection.request("GET", self._path, headers={} if keeps else {"Connection": "close"})
                response = connection.getresponse()
                response.read()
                self.counts["ok" if response.status == 200 else "bad"] += 1
                if response.will_close or not keeps:  # bun and gevent do not repeat that they close
                    connection.close()
                    connection = None
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                if self._retries and is_reused:
                    self.counts["asked again"] += 1
                else:
                    self._failed("lost", error)
                connection = None
            except OSError as error:
                self._failed("hung" if isinstance(error, TimeoutError) else "lost", error)
                connection = None
            except http.client.HTTPException as error:
                self._failed("lost", error)
                connection = None
            time.sleep(0.002)
        if connection:
            connection.close()

    def _failed(self, kind: str, error: Exception) -> None:
        self.counts[kind] += 1
        self.failures.append(repr(error))
