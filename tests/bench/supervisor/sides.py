"""The two that are compared, behind the same few verbs. Each has a home of its own that is gone afterwards."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from percore.errors import PreflightError
from tests.bench.supervisor import proc
from tests.waiting import free_port, wait_for

APPS = Path(__file__).with_name("apps")
PROJECT = Path(__file__).resolve().parents[3]
CACHE = Path("~/.cache/percore/bench").expanduser()
_MARK = "PERCORE_BENCH"


class Side:
    """A supervisor that understands PM2's commands and process files."""

    name: str
    command: tuple[str, ...]

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="percore-bench-"))
        self.home = self.folder / "home"
        self.port = free_port()
        self._mark = uuid.uuid4().hex
        for app in APPS.iterdir():
            shutil.copy(app, self.folder)

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**kept, "HOME": str(self.folder), _MARK: self._mark}

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.command, *arguments], env=self.environment(), cwd=self.folder, text=True, timeout=180,
            stdin=subprocess.DEVNULL, capture_output=True,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise RuntimeError(
                f"{self.name} {' '.join(arguments)} ended with {done.returncode}: {done.stderr}{done.stdout}"
            )
        return done

    def timed(self, *arguments: str) -> float:
        """Seconds that the command takes."""
        start = time.perf_counter()
        self.run(*arguments)
        return time.perf_counter() - start

    def start(self, *apps: dict[str, Any]) -> None:
        """Returns when every worker is online and, where an app has a PORT, answers."""
        self.run("start", str(self.write(*apps)))
        wait_for(lambda: all(status == "online" for status in self.statuses()), f"all workers of {self.name}")
        for app in apps:
            if "PORT" in app.get("env", {}):
                wait_for(lambda: get(self.port), f"an answer through {self.name}")

    def write(self, *apps: dict[str, Any]) -> Path:
        path = self.folder / "ecosystem.json"
        path.write_text(json.dumps({"apps": apps}))
        return path

    def web(self, script: str, **fields: Any) -> dict[str, Any]:
        """An app of two clustered workers on the side's port, which only its environment names."""
        env = {"PORT": str(self.port), **fields.pop("env", {})}
        return {"name": "web", "script": script, "instances": 2, "exec_mode": "cluster", "env": env, **fields}

    def release(self, script: str, *, over: str) -> None:
        """The next `reload` finds this content in place of `over`."""
        shutil.copy(APPS / script, self.folder / over)

    def listed(self) -> list[dict[str, Any]]:
        workers: list[dict[str, Any]] = json.loads(self.run("jlist").stdout)
        return workers

    def statuses(self) -> list[str]:
        return [worker["pm2_env"]["status"] for worker in self.listed()]

    def pids(self) -> list[int]:
        return [worker["pid"] for worker in self.listed()]

    @property
    def daemon_pid(self) -> int:
        raise NotImplementedError

    def come_back(self) -> None:
        """What has to be done after the daemon was killed, so that everything runs again."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends the daemon and whatever outlived it."""
        self.run("kill", check=False)
        for pid in proc.with_variable(_MARK, self._mark):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not proc.with_variable(_MARK, self._mark), f"the end of {self.name}")
        shutil.rmtree(self.folder)


class Percore(Side):
    name = "percore"
    command = (str(CACHE / "installed/bin/percore"),)

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PERCORE_HOME": str(self.home)}

    @property
    def daemon_pid(self) -> int:
        return int(self.run("ping").stdout.split()[-1])

    def come_back(self) -> None:
        self.run("ping")


class Pm2(Side):
    name = "pm2"
    command = ("node", str(CACHE / "node_modules/pm2/bin/pm2"))

    def environment(self) -> dict[str, str]:
        quiet = {"PM2_DISABLE_VERSION_CHECK": "true", "PM2_DISCRETE_MODE": "true"}
        return {**super().environment(), **quiet, "PM2_HOME": str(self.home)}

    @property
    def daemon_pid(self) -> int:
        return int((self.home / "pm2.pid").read_text())

    def come_back(self) -> None:
        self.run("resurrect")


def install_pm2() -> str:
    """The version of PM2 in the cache folder; npm brings it the first time. Raises PreflightError."""
    need_programs(node="nodejs", npm="npm")
    manifest = CACHE / "node_modules/pm2/package.json"
    if not manifest.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        _install("pm2", ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(CACHE), "pm2@7"])
    return str(json.loads(manifest.read_text())["version"])


def need_programs(**packages: str) -> None:
    for program, package in packages.items():
        if shutil.which(program) is None:
            raise PreflightError(f"the benchmark needs {program}", next=f"apt install {package}")


def install_percore() -> None:
    """This checkout as a user gets it by pip: the link to a checkout that developers have makes every command slower."""
    place = CACHE / "installed"
    shutil.rmtree(place, ignore_errors=True)
    _install("a virtual environment", [sys.executable, "-m", "venv", str(place)])
    with tempfile.TemporaryDirectory() as wheels:
        build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, str(PROJECT)]
        _install("percore's wheel", build)
        (wheel,) = Path(wheels).iterdir()
        _install("percore", [str(place / "bin/python"), "-m", "pip", "install", str(wheel)])


def _install(what: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise PreflightError(f"{what} could not be installed: {done.stderr.strip()}", where=str(CACHE))


def get(port: int, path: str = "/", timeout: float = 5.0) -> bytes:
    """The body of the answer; empty when there was none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        connection.close()
