"""As many hosts as one likes: one real sshd on this machine answers for all of them, and each has an agent that remembers."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from percore.deploy.rollout.scope import Scope
from tests.deploy.ssh_server import SshServer, running_server

SOURCE = Path(__file__).resolve().parents[2]
AGENT = Path(__file__).with_name("agent.py")
ENV = "fleet"
VARIABLES = {
    "app_name": "web", "app_path": "app", "port": 5000, "health_path": "/health", "service_manager": "process",
    "percore_user": "", "nginx": False, "deploy_to": "/srv/web", "percore_home": "/srv/web/home",
    "package_path": "/srv/web/package",
    "launcher_path": "/srv/web/percore", "ansible_host": "127.0.0.1",
}  # fmt: skip


class SimulatedFleet:
    """A project whose hosts are simulated. `say` changes its inventory."""

    def __init__(self, folder: Path, server: SshServer) -> None:
        self.folder, self.server = folder, server
        self.project, self.state = folder / "project", folder / "state"
        for made in (self.project, self.state, self.project / "app", self.project / "inventories"):
            made.mkdir()
        for name in ("roles", "templates"):
            (self.project / name).symlink_to(SOURCE / name)
        apps = [{"name": "web", "script": "./web.js", "instances": 1, "exec_mode": "cluster"}]
        (self.project / "app" / "ecosystem.json").write_text(json.dumps({"apps": apps}))
        (self.project / "app" / "package.json").write_text('{"name": "web"}')
        (self.project / "tasks.py").write_text(
            "from percore.tasks import make_namespace\n\nnamespace = make_namespace(__file__)\n"
        )
        self.write("one")

    def write(self, text: str) -> None:
        """A new version of the app."""
        (self.project / "app" / "web.js").write_text(f"// {text}\n")

    def have(self, count: int, **variables: object) -> None:
        """So many hosts. The file of known hosts names them all, as that of a real fleet does."""
        config = self.server.address().ssh.arguments[1]
        key = self.server.host_key()
        others = [f"10.0.{number >> 8}.{number & 255} {key}" for number in range(count)]
        self.server.know(*others, f"{self.server.name} {key}")
        hosts = {
            f"web{number}": {"ansible_python_interpreter": f"{sys.executable} -I -S {AGENT} {self.state} web{number}"}
            for number in range(1, count + 1)
        }
        options = {"ansible_port": self.server.port, "ansible_ssh_common_args": f"-F {config}"}
        inventory = {"all": {"hosts": hosts, "vars": {**VARIABLES, **options, **variables}}}
        path = self.project / "inventories" / f"{ENV}.yml"
        path.write_text(yaml.safe_dump(inventory, sort_keys=False))

    @property
    def scope(self) -> Scope:
        return Scope(ENV, self.project)

    def releases(self) -> list[str | None]:
        """What runs, host by host."""
        return [json.loads(path.read_text())["current"] for path in self.state.glob("*.json")]

    def forget(self) -> None:
        """Nothing was ever deployed."""
        for path in self.state.glob("*.json"):
            path.unlink()


@contextlib.contextmanager
def simulated_fleet(folder: Path, *, at_once: str = "1000") -> Iterator[SimulatedFleet]:
    """`at_once`: how many connections sshd lets in before they are logged in, its MaxStartups."""
    folder.joinpath("sshd").mkdir()
    with running_server(folder / "sshd", max_startups=at_once) as server:
        yield SimulatedFleet(folder, server)
