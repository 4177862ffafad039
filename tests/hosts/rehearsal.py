"""A small fleet to break: an app that is deployed in seconds, and places where a deploy stands still until it may go on.

A deploy stops in a hook of the control machine (`before_stage`), or on a host at one of `GATES`, in the middle of what the agent
does there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from percore.lab import Lab
from percore.lab.host import LabHost
from tests.hosts.conftest import ROOT, Project, set_variables, wait_for

GATES = ("stage", "activate", "health")
SERVER = """\
const fs = require('fs'), http = require('http'), GATE = '/srv/gates/health';
const holds = () => fs.existsSync(GATE) && fs.readFileSync(GATE, 'utf8') === 'VERSION';
const answer = (response) => response.end(JSON.stringify({ release: process.env.PERCORE_RELEASE }));
const server = http.createServer((request, response) => {
  if (request.url !== '/health' || !holds()) return answer(response);
  fs.writeFileSync('/srv/gates/at', 'health');
  const wait = () => (holds() ? setTimeout(wait, 20) : answer(response));
  wait();
});
server.listen(process.env.PORT);
"""
# `gate NAME` stands still while the file of that name is there.
GATE = """\
#!/bin/sh
[ -e /srv/gates/$1 ] || exit 0
echo $1 >/srv/gates/at
while [ -e /srv/gates/$1 ]; do sleep 0.05; done
"""
ROLE = {
    "description": "a file that differs in each release, and the places where an agent stops",
    "requires": ["app"],
    "files": [
        {"path": "/etc/rehearsal.conf", "content": "{{ version }}\n", "validate": "/usr/local/bin/gate stage %s"},
    ],
    "commands": [{"run": "/usr/local/bin/gate activate"}],
}


class Rehearsal(Project):
    """`version` makes a new release; `start` begins a deploy and stops it somewhere; `settled` tells what every host is on."""

    @classmethod
    def make(cls, folder: Path, lab: Lab) -> Rehearsal:
        made = cls(folder, lab)
        shutil.copy(ROOT / "tasks.py", folder)
        for name in ("roles", "templates"):
            shutil.copytree(ROOT / name, folder / name)
        (folder / "roles" / "rehearsal").mkdir()
        (folder / "roles" / "rehearsal" / "role.yml").write_text(yaml.safe_dump(ROLE))
        app = folder / "app"
        app.mkdir()
        web = {
            "name": "web",
            "script": "./web.js",
            "instances": 2,
            "exec_mode": "cluster",
            "listen_timeout": 20000,
            "min_uptime": 100,
        }
        (app / "ecosystem.json").write_text(json.dumps({"apps": [web]}))
        (app / "package.json").write_text('{"name": "web"}')
        set_variables(
            made, app_name="web", app_path="app", health_path="/health", health_seconds=30, roles=["rehearsal"],
            confirm_seconds=3, probe_max_slowdown=0, probe_max_failed_percentage=100, hooks={},
            ansible_ssh_extra_args="-o ServerAliveInterval=2 -o ServerAliveCountMax=3 -o ConnectTimeout=2",
        )  # fmt: skip
        made.version("first")
        for host in lab.hosts:
            gate = host.root / "usr" / "local" / "bin" / "gate"
            gate.write_text(GATE)
            gate.chmod(0o755)
            made.gates(host).mkdir()
            made.gates(host).chmod(0o777)
        return made

    def variable(self, name: str) -> Any:
        path = self.folder / "inventories" / f"{self.env}.yml"
        return yaml.safe_load(path.read_text())["all"]["vars"][name]

    @property
    def wanted(self) -> str:
        """The version that the next deploy brings."""
        return str(self.variable("version"))

    def version(self, text: str, *, server: str = SERVER) -> None:
        (self.folder / "app" / "web.js").write_text(server.replace("VERSION", text))
        set_variables(self, version=text)

    # -- a deploy that stands still ----------------------------------------------------------------------------------

    def gates(self, host: LabHost) -> Path:
        return host.root / "srv" / "gates"

    @property
    def _hook_gate(self) -> Path:
        return self.folder / "gate"

    @contextlib.contextmanager
    def stopped(
        self, place: str, host: str = "node1", *, words: Sequence[str] = ("deploy",)
    ) -> Iterator[subprocess.Popen[str]]:
        """A deploy that stands at `place`. After the block, which may have ended it, the way is free again."""
        try:
            if place in GATES:
                stand = self.gates(self.lab.host(host))
                (stand / place).write_text(self.wanted)  # only this version's health waits
                reached: Callable[[], bool] = (stand / "at").exists
            else:
                gate = self._hook_gate
                set_variables(self, hooks={place: f"touch {gate}; while [ -e {gate} ]; do sleep 0.05; done"})
                reached = gate.exists
            running = self.start(*words)
            try:
                wait_for(lambda: reached() or running.poll() is not None, f"the deploy at {place}", seconds=60)
                assert running.poll() is None, self.output()
                yield running
            finally:
                running.kill()
                running.wait()
        finally:
            self.free()

    def free(self) -> None:
        """Whatever stands still goes on."""
        self._hook_gate.unlink(missing_ok=True)
        set_variables(self, hooks={})
        for host in self.lab.hosts:
            for name in (*GATES, "at"):
                (self.gates(host) / name).unlink(missing_ok=True)

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "invoke", *words, "--env", self.env]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """In a process group of its own, as a shell starts a command; what it says is in `output`."""
        with (self.folder / "deploy.log").open("w") as log:
            return subprocess.Popen(
                self.words(*words), cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                # Where the tests themselves run in the background, Ctrl-C would be ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip

    def output(self) -> str:
        return (self.folder / "deploy.log").read_text()

    def ended(self, running: subprocess.Popen[str]) -> int:
        """Its exit code; what it says of itself is one line, never a traceback."""
        code = running.wait(120)
        assert "Traceback" not in self.output(), self.output()
        return code

    # -- what the hosts are on ---------------------------------------------------------------------------------------

    def current(self, host: LabHost) -> str:
        return os.path.basename(os.readlink(host.root / "srv/web/current"))

    def currents(self) -> set[str]:
        return {self.current(host) for host in self.lab.hosts}

    def settled(self, version: str) -> bool:
        """Every host is wholly on this version: the link, the file, no switch unfinished, and the workers that answer."""
        return all(self.is_on(host, version) for host in self.lab.hosts)

    def is_on(self, host: LabHost, version: str) -> bool:
        if (host.root / "srv/web/.pending").exists() or self.configured(host) != version:
            return False
        answer = self.lab.inside(["curl", "-sf", "-m", "2", f"http://{host.address}/"])
        return bool(answer.stdout) and json.loads(answer.stdout)["release"] == self.current(host)

    def configured(self, host: LabHost) -> str:
        return (host.root / "etc/rehearsal.conf").read_text().strip()

    def deployed(self) -> str:
        """Deploys whatever the version is now, and returns it: every host is on it."""
        self.deploy()
        version = self.wanted
        assert self.settled(version)
        assert len(self.currents()) == 1
        return version
