"""The tools that are compared, each doing the same work on the same hosts: percore, ansible-core, pyinfra, and bare connections.

All of them run inside the lab's network, so nothing stands between them and sshd. Ansible has pipelining and as many forks as
there are hosts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from percore.errors import PreflightError
from percore.lab.host import LabHost

ROOT = Path(__file__).resolve().parents[3]
CACHE = Path("~/.cache/percore/bench").expanduser()
FILE = "setting_{number} = {{{{ greeting }}}} {number}\n"


class Place(NamedTuple):
    """Where a tool finds a host: directly, or at the port of a slow link."""

    host: LabHost
    address: str
    port: int


class Work(NamedTuple):
    """`files` config files; with `service` also user, directories, artifact, link, env file, unit, NGINX site and service."""

    files: int
    service: bool


class Tool:
    name: str

    def __init__(self, folder: Path, places: Sequence[Place], work: Work) -> None:
        self.folder = folder / self.name
        self.folder.mkdir(parents=True)
        self.places = places
        self.work = work
        self.known_hosts = self.folder / "known_hosts"
        lines = [f"{known_name(place)} {place.host.host_key()}\n" for place in places]
        self.known_hosts.write_text("".join(lines))
        self.prepare()

    def prepare(self) -> None:
        raise NotImplementedError

    def command(self, *words: str) -> list[str]:
        """The deploy, or what else `words` say."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
        return {**kept, "PYTHONDONTWRITEBYTECODE": "", "NO_COLOR": "1"}

    def run(self, *words: str) -> float:
        """Seconds that one run takes."""
        start = time.perf_counter()
        done = subprocess.run(
            inside(self.places[0].host, self.command(*words)), cwd=self.folder, env=self.environment(), text=True,
            capture_output=True, stdin=subprocess.DEVNULL, timeout=600, check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        if done.returncode != 0:
            raise RuntimeError(f"{self.name} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return seconds

    def inventory(self, **variables: Any) -> str:
        """Ansible's form, which percore reads as well."""
        hosts = {place.host.name: {"ansible_host": place.address, "ansible_port": place.port} for place in self.places}
        common = {
            "ansible_user": "root", "ansible_ssh_private_key_file": str(self.places[0].host.key),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.known_hosts}", **variables,
        }  # fmt: skip
        return yaml.safe_dump({"all": {"children": {"app": {"hosts": hosts}}, "vars": common}}, width=1000)

    def render(self, number: int) -> str:
        return f"setting_{number} = hello {number}\n"


def known_name(place: Place) -> str:
    return place.address if place.port == 22 else f"[{place.address}]:{place.port}"


def inside(host: LabHost, command: Sequence[str]) -> list[str]:
    """The command in the lab's network."""
    return ["nsenter", f"--net=/run/netns/{host.namespace}", *command]


APP = """
const http = require('http');
http.createServer((request, response) => response.end('ok')).listen(process.env.PORT);
"""
ARTIFACT_BYTES = 2_000_000


def make_app(folder: Path) -> None:
    """A small service with two megabytes that do not compress."""
    folder.mkdir(parents=True)
    (folder / "server.js").write_text(APP)
    (folder / "package.json").write_text('{"name": "bench", "version": "1.0.0"}')
    (folder / "data.bin").write_bytes(os.urandom(ARTIFACT_BYTES))
    (folder / "ecosystem.config.js").write_text(
        "module.exports = { apps: [{ name: 'bench', script: 'server.js', exec_mode: 'cluster', instances: 1 }] };\n"
    )


class Percore(Tool):
    name = "percore"

    def prepare(self) -> None:
        make_app(self.folder / "app")
        shutil.copy(ROOT / "tasks.py", self.folder)
        for name in ("roles", "templates"):
            shutil.copytree(ROOT / name, self.folder / name)
        role = self.folder / "roles" / "settings"
        (role / "templates").mkdir(parents=True)
        files = [
            {"path": f"/etc/bench-{number}.conf", "template": f"{number}.conf.j2"} for number in range(self.work.files)
        ]
        for number in range(self.work.files):
            (role / "templates" / f"{number}.conf.j2").write_text(FILE.format(number=number))
        (role / "role.yml").write_text(yaml.safe_dump({"defaults": {"greeting": "hello"}, "files": files}))
        (self.folder / "inventories").mkdir()
        text = self.inventory(
            app_name="bench", app_path="app", roles=["settings", "app"], env={"MODE": "bench"}, canary=0
        )
        (self.folder / "inventories" / "bench.yml").write_text(text)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "invoke", *(words or ["deploy"]), "--env", "bench"]

    def count_messages(self) -> int:
        """To all hosts, in a run; each is answered before the next one, so this counts the round trips after the login."""
        done = subprocess.run(
            inside(self.places[0].host, [*self.command(), "-v"]), cwd=self.folder, env=self.environment(), text=True,
            capture_output=True, stdin=subprocess.DEVNULL, timeout=600, check=True,
        )  # fmt: skip
        return sum(" took " in line for line in done.stderr.splitlines())


class Ansible(Tool):
    name = "ansible"

    def prepare(self) -> None:
        make_app(self.folder / "app")
        subprocess.run(["tar", "czf", "../app.tar.gz", "."], cwd=self.folder / "app", check=True)
        (self.folder / "inventory.yml").write_text(self.inventory(greeting="hello"))
        (self.folder / "ansible.cfg").write_text(
            f"[defaults]\nforks = {max(50, len(self.places))}\nhost_key_checking = True\n"
            "[ssh_connection]\npipelining = True\n"
        )
        for number in range(self.work.files):
            (self.folder / f"{number}.conf.j2").write_text(FILE.format(number=number))
        (self.folder / "env.j2").write_text("MODE=bench\nPORT=5000\n")
        (self.folder / "bench.service.j2").write_text(UNIT)
        (self.folder / "site.j2").write_text(SITE)
        (self.folder / "playbook.yml").write_text(yaml.safe_dump(self.playbook(), sort_keys=False, width=1000))

    def playbook(self) -> list[dict[str, Any]]:
        files = [
            {"template": {"src": f"{number}.conf.j2", "dest": f"/etc/bench-{number}.conf", "mode": "0644"}}
            for number in range(self.work.files)
        ]
        # Percore's agent tells facts in every run as well.
        return [{"hosts": "all", "gather_facts": True, "tasks": [*files, *(SERVICE_TASKS if self.work.service else [])],
                 "handlers": HANDLERS}]  # fmt: skip

    def command(self, *words: str) -> list[str]:
        return [str(install("ansible-core") / "ansible-playbook"), "-i", "inventory.yml", "playbook.yml"]


UNIT = textwrap.dedent("""\
    [Service]
    User=bench
    WorkingDirectory=/opt/bench/current
    EnvironmentFile=/etc/bench.env
    ExecStart=/usr/bin/env node server.js
    [Install]
    WantedBy=multi-user.target
    """)
SITE = "server { listen 8081; location / { proxy_pass http://127.0.0.1:5000; } }\n"
SERVICE_TASKS: list[dict[str, Any]] = [
    {"user": {"name": "bench", "system": True, "shell": "/usr/sbin/nologin"}},
    {"file": {"path": "/opt/bench/releases/1", "state": "directory"}},
    {"unarchive": {"src": "app.tar.gz", "dest": "/opt/bench/releases/1", "creates": "/opt/bench/releases/1/server.js"}},
    {"file": {"src": "releases/1", "dest": "/opt/bench/current", "state": "link"}, "notify": "restart"},
    {"template": {"src": "env.j2", "dest": "/etc/bench.env", "mode": "0600"}, "notify": "restart"},
    {"template": {"src": "bench.service.j2", "dest": "/etc/systemd/system/bench.service"}, "notify": "restart"},
    {"template": {"src": "site.j2", "dest": "/etc/nginx/sites-available/bench"}, "notify": "reload nginx"},
    {"file": {"src": "/etc/nginx/sites-available/bench", "dest": "/etc/nginx/sites-enabled/bench", "state": "link"},
     "notify": "reload nginx"},
    {"command": "nginx -t", "changed_when": False},
    {"systemd": {"name": "bench.service", "state": "started", "enabled": True, "daemon_reload": True}},
]  # fmt: skip
HANDLERS: list[dict[str, Any]] = [
    {"name": "restart", "systemd": {"name": "bench.service", "state": "restarted", "daemon_reload": True}},
    {"name": "reload nginx", "systemd": {"name": "nginx.service", "state": "reloaded"}},
]


class Pyinfra(Tool):
    """Only the config files: the second judge of what many small files cost."""

    name = "pyinfra"

    def prepare(self) -> None:
        entries = [
            (place.host.name, {
                "ssh_hostname": place.address, "ssh_port": place.port, "ssh_user": "root", "ssh_key": str(place.host.key),
                "ssh_known_hosts_file": str(self.known_hosts), "greeting": "hello",
            })
            for place in self.places
        ]  # fmt: skip
        (self.folder / "inventory.py").write_text(f"hosts = {json.dumps(entries)}\nhosts = [tuple(h) for h in hosts]\n")
        lines = ["from pyinfra.operations import files", "from pyinfra import host"]
        for number in range(self.work.files):
            (self.folder / f"{number}.conf.j2").write_text(
                FILE.format(number=number).replace("greeting", "host.data.greeting")
            )
            lines.append(f"files.template(src='{number}.conf.j2', dest='/etc/bench-{number}.conf', mode='644')")
        (self.folder / "work.py").write_text("\n".join(lines) + "\n")

    def command(self, *words: str) -> list[str]:
        return [str(install("pyinfra") / "pyinfra"), "-y", "inventory.py", "work.py"]


BARE = """
import sys, threading
from fabric import Connection
from paramiko import RejectPolicy

def work(address, port):
    keys = {'key_filename': sys.argv[2], 'allow_agent': False, 'look_for_keys': False}
    connection = Connection(address, user='root', port=port, connect_kwargs=keys)
    connection.client.set_missing_host_key_policy(RejectPolicy())
    connection.client.load_system_host_keys(sys.argv[1])
    connection.run('true', hide=True)
    connection.close()

places = [place.rpartition(':') for place in sys.argv[3:]]
threads = [threading.Thread(target=work, args=(host, int(port))) for host, _, port in places]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


class Bare(Tool):
    """`fabric.Connection.run("true")` on all hosts at once: nothing over Fabric can be quicker."""

    name = "bare"

    def prepare(self) -> None:
        (self.folder / "bare.py").write_text(BARE)

    def command(self, *words: str) -> list[str]:
        places = [f"{place.address}:{place.port}" for place in self.places]
        return [sys.executable, "bare.py", str(self.known_hosts), str(self.places[0].host.key), *places]


def install(package: str) -> Path:
    """The `bin` folder of a virtual environment that holds the package, made once."""
    folder = CACHE / package
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(folder / "bin/pip"), "-q", "install", package],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise PreflightError(f"{package} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
        (folder / "ready").touch()
    return folder / "bin"
