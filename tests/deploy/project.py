"""A project that is deployed to this machine, with the real supervisor and a small real app."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from percore.deploy.report import Report
from percore.deploy.rollout import hosts as fleet
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.verbs import rollout
from tests.waiting import free_port

SOURCE = Path(__file__).resolve().parents[2]
APP = """
const http = require('http');
const release = process.env.PERCORE_RELEASE;
const server = http.createServer((request, response) => {
  response.statusCode = request.url === '/health' && HEALTH ? 500 : 200;
  response.end(JSON.stringify({ release, pid: process.pid, text: TEXT }));
});
server.listen(process.env.PORT, () => console.log(`listening in ${release}`));
"""
SINGLETON = "setInterval(() => {}, 1000);"


class Project:
    """A project of its own: the shipped roles and templates, an inventory for this machine, and one app."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        for name in ("roles", "templates"):
            (folder / name).symlink_to(SOURCE / name)
        self.app = folder / "app"
        self.app.mkdir()
        apps = [
            {"name": "web", "script": "./web.js", "instances": 2, "exec_mode": "cluster", "listen_timeout": 3000},
            {"name": "tick", "script": "./tick.js"},
        ]
        (self.app / "ecosystem.json").write_text(json.dumps({"apps": apps}))
        (self.app / "package.json").write_text('{"name": "web"}')
        (self.app / "tick.js").write_text(SINGLETON)
        self.write("one")
        local = yaml.safe_load((SOURCE / "inventories" / "local.yml").read_text())
        app = {"app_name": "web", "app_path": "app", "port": self.port, "health_path": "/health"}
        local["all"]["vars"].update(app)
        (folder / "inventories").mkdir()
        (folder / "inventories" / "local.yml").write_text(yaml.safe_dump(local))

    @property
    def scope(self) -> Scope:
        """That of a run of its own, which reads the inventory anew."""
        return Scope("local", self.folder)

    def write(self, text: str, *, health: bool = True, prefix: str = "") -> None:
        """A new version of the app that answers `text`."""
        source = APP.replace("TEXT", json.dumps(text)).replace("HEALTH", "false" if health else "true")
        (self.app / "web.js").write_text(prefix + source)

    def deploy(self) -> None:
        rollout.deploy(self.scope, Report())

    def ask(self, path: str = "/") -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def percore(self, *words: str) -> str:
        """The command on the host."""
        env = {**os.environ, "PERCORE_HOME": str(self.folder / ".percore" / "home")}
        command = [self.folder / ".percore" / "bin" / "percore", *words]
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout

    def pids(self) -> set[int]:
        """The pids of all workers, as the supervisor tells them."""
        hosts = fleet.load_hosts(self.scope)
        assert not fleet.connect_all(hosts)
        try:
            apps = hosts[0].ask("status")["status"]["apps"]
        finally:
            fleet.close_all(hosts)
        return {worker["pid"] for app in apps for worker in app["workers"]}

    def releases(self) -> list[str]:
        return sorted(os.listdir(self.folder / ".percore" / "releases"))

    @property
    def current(self) -> str:
        return os.readlink(self.folder / ".percore" / "current").rsplit("/", 1)[-1]

    def mark_of(self, release: str) -> str:
        return str(json.loads((self.folder / ".percore" / "releases.json").read_text())[release]["mark"])

    @contextlib.contextmanager
    def load(self) -> Iterator[list[object]]:
        """Requests without a pause; yields the list of what went wrong."""
        faults: list[object] = []
        ended = threading.Event()

        def run() -> None:
            while not ended.is_set():
                try:
                    self.ask()
                except (OSError, http.client.HTTPException, ValueError) as error:
                    faults.append(error)
                time.sleep(0.003)

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield faults
        finally:
            ended.set()
            for thread in threads:
                thread.join()
