"""As many hosts as one likes: each has an agent that remembers. One real sshd on this machine answers for all of them, or each is
a local connection, which costs a test less.
"""

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
AGENT = Path(__file__).with_name("fleet_agent.py")
ENV = "fleet"
VARIABLES = {
    "app_name": "web", "app_path": "app", "port": 5000, "health_path": "/health", "service_manager": "process",
    "percore_user": "", "nginx": False, "deploy_to": "/srv/web", "percore_home": "/srv/web/home",
    "package_path": "/srv/web/package",
    "launcher_path": "/srv/web/percore",
}  # fmt: skip


class SimulatedFleet:
    """A project whose hosts are simulated. `say` changes its inventory."""

    def __init__(self, folder: Path, server: SshServer | None = None) -> None:
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
        """So many hosts, `web1` and further."""
        python = f"{sys.executable} -I -S {AGENT} {self.state}"
        names = [f"web{number}" for number in range(1, count + 1)]
        hosts = {name: {"ansible_python_interpreter": f"{python} {name}"} for name in names}
        way = self._over_ssh(count) if self.server else {"ansible_connection": "local"}
        inventory = {"all": {"hosts": hosts, "vars": {**VARIABLES, **way, **variables}}}
        path = self.project / "inventories" / f"{ENV}.yml"
        path.write_text(yaml.safe_dump(inventory, sort_keys=False))

    def _over_ssh(self, count: int) -> dict[str, object]:
        """The file of known hosts has as many lines as that of a real fleet."""
        assert self.server
        config, key = self.server.address().ssh.arguments[1], self.server.host_key()
        others = [f"10.0.{number >> 8}.{number & 255} {key}" for number in range(count)]
        self.server.know(*others, f"{self.server.name} {key}")
        return {
            "ansible_host": "127.0.0.1", "ansible_port": self.server.port, "ansible_ssh_common_args": f"-F {config}",
        }  # fmt: skip

    @property
    def scope(self) -> Scope:
        """That of a run of its own, which reads the inventory anew."""
        return Scope(ENV, self.project)

    def says(self, host: str, op: str, answer: str, *, seconds: float = 0.0) -> None:
        """From now on this host answers an operation so, and after so long."""
        self.state.joinpath(f"{host}.{op}").write_text(json.dumps({"answer": answer, "seconds": seconds}))

    def releases(self) -> list[str | None]:
        """What runs, host by host."""
        return [json.loads(path.read_text())["current"] for path in self.state.glob("*.json")]

    def release_of(self, host: str) -> str | None:
        current: str | None = json.loads(self.state.joinpath(f"{host}.json").read_text())["current"]
        return current

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
