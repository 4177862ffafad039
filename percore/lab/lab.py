"""The lab: some hosts and their network. All it is made of can be found again, so `down` also repairs after a crash."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

from percore.errors import PreflightError, UsageError
from percore.lab.container import call
from percore.lab.host import LabHost, make_key
from percore.lab.image import cache_directory, make_bare_image, make_image, need_tools, node_layer

_FIRST_HOST = 11  # the last number of node1's address
_MOST_HOSTS = 200


_INOTIFY_INSTANCES = 8
"""That the systemd of a host, its units and logins use at most."""

_BARE_VARIABLES = {
    "roles": ["base", "node", "redis", "postgresql", "tls", "firewall", "app"],
    "postgresql_password": "lab",
    "tls_self_signed": True,
    "nginx_certificate": "{{ tls_path }}",
}
"""What `setup` makes of a bare host: a site served over https, with servers behind it."""


EXAMPLE = {"app_name": "boltlink", "app_path": "examples/boltlink", "port": 5000, "health_path": "/health"}
"""What is deployed to a lab, unless its inventory is changed."""


@dataclass(frozen=True)
class Lab:
    """A running lab. `project` is where the inventory and the key are written."""

    name: str
    project: Path
    hosts: tuple[LabHost, ...]

    @classmethod
    def up(
        cls,
        hosts: int = 3,
        suite: str = "bookworm",
        *,
        bare: bool = False,
        name: str = "lab",
        project: Path | None = None,
    ) -> Lab:
        """Boots the hosts, all at once, and writes `inventories/<name>.yml`. Bare ones have sshd and Python alone.

        Hosts of the same kind and number that this project has under the name are kept, and started where they are off;
        others are taken down first. Raises PreflightError when the name is in use by another project.
        """
        need_root()
        if not 1 <= hosts <= _MOST_HOSTS:
            raise UsageError(f"a lab has 1 to {_MOST_HOSTS} hosts, not {hosts}")
        need_tools()
        _raise_inotify_limit(hosts)
        layers = [make_bare_image(suite)] if bare else [node_layer(), make_image(suite)]
        lab = cls.describe(name, hosts, (project or Path.cwd()).resolve())
        lab._refuse_other_project()
        record = {"project": str(lab.project), "suite": suite, "hosts": hosts, **({"bare": True} if bare else {})}
        if lab._read_record() == record and lab._is_whole():
            lab._boot()
            return lab
        lab.down()
        lab._record.parent.mkdir(parents=True)
        lab._record.write_text(json.dumps({**record, "hosts": 0}))  # whose it is; not whole yet
        key = lab.hosts[0].key
        key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_key(key, f"percore {name}")
        try:
            _make_network(lab.namespace)
            for host in lab.hosts:
                host.make(layers, key.with_name(f"{key.name}.pub").read_text())
            known = [f"{host.address} {host.host_key()}\n" for host in lab.hosts]
            lab.hosts[0].known_hosts.write_text("".join(known))
            lab._boot()
            lab._record.write_text(json.dumps(record))
        except BaseException:
            lab.down()
            raise
        return lab

    @classmethod
    def describe(cls, name: str, hosts: int, project: Path) -> Lab:
        """The lab of this name as it would be, whether it runs or not."""
        directory, keys, namespace = lab_directory(name), project / ".lab", f"percore-{name}"
        pipe = Path(__file__).with_name("pipe.py")
        # ssh runs this through a shell, and Ansible's option line is split like one too: no quotes inside.
        proxy = f"nsenter --net=/run/netns/{namespace} {sys.executable} -I -S {pipe} %h %p"
        made = [
            LabHost(f"node{number}", f"10.77.0.{_FIRST_HOST + number - 1}", directory / f"node{number}", namespace,
                 keys / f"{name}_ed25519", keys / f"{name}_known_hosts", proxy)
            for number in range(1, hosts + 1)
        ]  # fmt: skip
        return cls(name, project, tuple(made))

    @classmethod
    def running(cls, name: str = "lab", project: Path | None = None) -> Lab:
        """The lab that is up; raises PreflightError when there is none."""
        need_root()
        directory = lab_directory(name)
        numbers = [int(path.name[4:]) for path in directory.glob("node*")]
        if not numbers:
            raise PreflightError(f"no lab '{name}' is up", next="./run lab.up")
        return cls.describe(name, max(numbers), project or Path.cwd())

    @classmethod
    def down_any(cls, name: str = "lab", project: Path | None = None) -> None:
        """Takes down what there is of the lab of this name, if anything."""
        need_root()
        lab = cls.describe(name, 0, (project or Path.cwd()).resolve())
        lab._refuse_other_project()
        lab.down()

    def host(self, name: str) -> LabHost:
        """Raises UsageError when the lab has no such host."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise UsageError(f"the lab has no host '{name}'", next=f"one of {', '.join(host.name for host in self.hosts)}")

    def down(self) -> None:
        """Ends every process, mount and namespace of this lab's name, also of an `up` that was killed in between."""
        numbers = [int(path.name[4:]) for path in lab_directory(self.name).glob("node*")]
        for host in Lab.describe(self.name, max(numbers, default=0), self.project).hosts:
            host.destroy()
        shutil.rmtree(lab_directory(self.name), ignore_errors=True)
        if Path(f"/run/netns/{self.namespace}").exists():
            call(["ip", "netns", "delete", self.namespace])
        self.inventory.unlink(missing_ok=True)

    @property
    def namespace(self) -> str:
        return f"percore-{self.name}"

    @property
    def inventory(self) -> Path:
        return self.project / "inventories" / f"{self.name}.yml"

    def inside(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Runs a command in the lab's network, as a client of the hosts."""
        entered = ["nsenter", f"--net=/run/netns/{self.namespace}", *command]
        return subprocess.run(entered, capture_output=True, text=True, check=False)

    @property
    def _record(self) -> Path:
        return lab_directory(self.name) / "lab.json"

    def _read_record(self) -> dict[str, object]:
        try:
            record = json.loads(self._record.read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _refuse_other_project(self) -> None:
        """A second checkout on this machine must not end the first one's lab."""
        owner = str(self._read_record().get("project", self.project))
        if owner != str(self.project) and Path(owner).is_dir():
            raise PreflightError(f"the lab '{self.name}' of {owner} is up", next=f"cd {owner} && ./run lab.down")

    def _is_whole(self) -> bool:
        """Whether only power is missing, if anything."""
        needed = (Path(f"/run/netns/{self.namespace}"), self.hosts[0].key, self.hosts[0].known_hosts)
        return all(path.exists() for path in needed) and all(os.path.ismount(host.root) for host in self.hosts)

    def _boot(self) -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(LabHost.start, self.hosts))
        more = _BARE_VARIABLES if self._read_record().get("bare") else {}
        self.inventory.parent.mkdir(parents=True, exist_ok=True)
        self.inventory.write_text(f"# Written by lab.up.\n{_inventory_of(self.hosts, more)}")


def lab_directory(name: str) -> Path:
    return cache_directory() / "run" / name


def need_root() -> None:
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        raise PreflightError(
            "the lab needs root on Linux: it mounts file systems and makes network namespaces", next="sudo ./run lab.up"
        )


def _raise_inotify_limit(hosts: int) -> None:
    """All hosts are the same root to the kernel, whose limit of 128 is used up by twenty. It is raised until the next boot."""
    path = Path("/proc/sys/fs/inotify/max_user_instances")
    wanted = 128 + _INOTIFY_INSTANCES * hosts
    if int(path.read_text()) < wanted:
        with contextlib.suppress(OSError):
            path.write_text(str(wanted))


def _make_network(namespace: str) -> None:
    call(["ip", "netns", "add", namespace])
    for words in ("link set lo up", "link add br0 type bridge", "addr add 10.77.0.1/24 dev br0", "link set br0 up"):
        call(["ip", "-n", namespace, *words.split()])


def _inventory_of(hosts: Sequence[LabHost], more: Mapping[str, object]) -> str:
    first = hosts[0]
    options = f"-o UserKnownHostsFile={first.known_hosts} -o ProxyCommand={shlex.quote(first.proxy)}"
    variables = {
        **EXAMPLE,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(first.key),
        "ansible_ssh_common_args": options,
        **more,
    }
    members = {host.name: {"ansible_host": host.address} for host in hosts}
    content = {"all": {"children": {"app": {"hosts": members}}, "vars": variables}}
    return yaml.safe_dump(content, sort_keys=False, width=1000)
