"""Lab hosts, a project of its own to deploy to them, and load from inside the lab's network."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from percore.lab import Lab
from percore.lab.lab import lab_directory
from tests import waiting

if TYPE_CHECKING:
    from tests.hosts.rehearsal import Rehearsal

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if sys.platform.startswith("linux") and os.geteuid() == 0:
        return
    for item in items:
        if "tests/hosts" in str(item.fspath):
            item.add_marker(pytest.mark.skip(reason="lab hosts need root on Linux"))


# What `tsc` writes, without looking at types: most of a deploy's time would be that.
TRANSPILE = """\
const fs = require('fs'), path = require('path'), ts = require('typescript');
const options = ts.readConfigFile('tsconfig.json', ts.sys.readFile).config.compilerOptions;
const compilerOptions = ts.convertCompilerOptionsFromJson(options, '.').options;
for (const name of ts.sys.readDirectory('src', ['.ts'])) {
  const made = path.join('dist', path.relative('src', name)).replace(/ts$/, 'js');
  fs.mkdirSync(path.dirname(made), { recursive: true });
  fs.writeFileSync(made, ts.transpileModule(fs.readFileSync(name, 'utf8'), { compilerOptions }).outputText);
}
"""
# Hosts boot, and deploys take their time; each look at a host costs a connection.
wait_for = functools.partial(waiting.wait_for, seconds=30.0, interval=0.1)


class Project:
    """A copy of what a user's project holds: inventories, roles, templates and the app; deployed with invoke as users do."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        self.folder = folder
        self.lab = lab
        self.env = lab.name

    @classmethod
    def make(cls, folder: Path, lab: Lab) -> Project:
        shutil.copy(ROOT / "tasks.py", folder)
        for name in ("roles", "templates", "inventories"):
            shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("lab.yml"))
        ignored = shutil.ignore_patterns("node_modules", "dist")
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=ignored)
        app = folder / "examples" / "boltlink"
        (app / "transpile.js").write_text(TRANSPILE)
        package = json.loads((app / "package.json").read_text())
        package["scripts"]["build"] = "node transpile.js"
        (app / "package.json").write_text(json.dumps(package, indent=2))
        return cls(folder, lab)

    @property
    def api_source(self) -> Path:
        return self.folder / "examples" / "boltlink" / "src" / "index.ts"

    def invoke(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """stdout and stderr together in `stdout`, as a terminal shows them."""
        return subprocess.run(
            [sys.executable, "-m", "invoke", *arguments], cwd=self.folder, text=True, check=False, timeout=300,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def deploy(self, expected: int = 0) -> str:
        done = self.invoke("deploy", "--env", self.env)
        assert done.returncode == expected, f"exit code {done.returncode}, wanted {expected}:\n{done.stdout}"
        return done.stdout

    def status(self) -> list[dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-m", "invoke", "status", "--env", self.env, "--json"], cwd=self.folder, text=True,
            check=False, timeout=60, capture_output=True,
        )  # fmt: skip
        hosts: list[dict[str, Any]] = json.loads(done.stdout)
        return hosts

    def workers(self) -> dict[tuple[str, str, int], int]:
        """(host, app, slot) -> pid."""
        return {
            (host["host"], app["name"], worker["slot"]): worker["pid"]
            for host in self.status()
            for app in host["apps"]
            for worker in app["workers"]
        }

    def releases(self) -> set[str]:
        """The releases that answer requests through NGINX, asked on every host several times."""
        found = set()
        for host in self.lab.hosts:
            for _ in range(6):
                answer = self.lab.inside(["curl", "-sf", "-m", "5", f"http://{host.address}/"])
                assert answer.returncode == 0, f"{host.name} does not answer: {answer.stderr}"
                found.add(json.loads(answer.stdout)["release"])
        return found

    @contextlib.contextmanager
    def changed_app(self, old: str, new: str) -> Iterator[None]:
        """The API's source with a change in it, for a while."""
        source = self.api_source.read_text()
        assert old in source
        self.api_source.write_text(source.replace(old, new))
        try:
            yield
        finally:
            self.api_source.write_text(source)

    def touch_app(self, mark: str) -> contextlib.AbstractContextManager[None]:
        """A change that makes another release and breaks nothing."""
        return self.changed_app("let isStopping = false;", f"let isStopping = false; // {mark}")

    def load(
        self, *, nginx_only: bool = False, nginx_reloads: bool = False
    ) -> contextlib.AbstractContextManager[dict[str, Any]]:
        """Load on every host. `nginx_reloads`: the site changes meanwhile."""
        ports = (80,) if nginx_only else (80, 5000)
        urls = [f"http://{host.address}:{port}/" for host in self.lab.hosts for port in ports]
        return self.client("tests.hosts.load", *(["--reconnect"] if nginx_reloads else []), *urls)

    @contextlib.contextmanager
    def client(self, module: str, *words: str) -> Iterator[dict[str, Any]]:
        """A program in the lab's network; what it counted is in the yielded mapping afterwards."""
        client = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.lab.namespace}", sys.executable, "-m", module, *words],
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        counts: dict[str, Any] = {}
        try:
            assert client.stdout
            assert client.stdout.readline() == "running\n"
            yield counts
        finally:
            client.send_signal(signal.SIGTERM)
            counts.update(json.loads(client.communicate(timeout=30)[0] or "{}"))


def set_variables(project: Project, host: str = "", **variables: Any) -> None:
    path = project.folder / "inventories" / f"{project.env}.yml"
    content = yaml.safe_load(path.read_text())
    place = content["all"]["vars"]
    if host:
        hosts = content["all"]["children"]["app"]["hosts"]
        place = hosts[host]
    place.update(variables)
    path.write_text(yaml.safe_dump(content, width=1000))


@pytest.fixture(scope="session", autouse=True)
def no_labs_of_the_dead() -> None:
    """Clears away what test runs that were killed left: their labs are named after their process."""
    if os.geteuid() != 0:
        return
    with lab_lock():
        remove_leftover_labs()


@contextlib.contextmanager
def lab_lock() -> Iterator[None]:
    """Held by one test process at a time: two would remove the same lab."""
    lab_directory("").mkdir(parents=True, exist_ok=True)
    lock = os.open(lab_directory(""), os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def remove_leftover_labs() -> None:
    for folder in lab_directory("").glob("*"):
        owner = re.fullmatch(r"[a-z]+(\d+)", folder.name)
        if owner and not Path("/proc", owner[1]).exists():
            Lab.describe(folder.name, 0, folder).down()


def lab_project(tmp_path_factory: pytest.TempPathFactory, name: str, hosts: int, suite: str) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp(name)
    lab = Lab.up(hosts, suite, name=f"{name}{os.getpid()}", project=folder)  # two runs at once must not meet
    try:
        yield Project.make(folder, lab)
    finally:
        lab.down()


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Three bookworm hosts, and a project whose environment they are."""
    yield from lab_project(tmp_path_factory, "three", 3, "bookworm")


@pytest.fixture
def deployed(project: Project) -> Project:
    """The project as it is in the repository, deployed and serving."""
    project.deploy()
    return project


@pytest.fixture(scope="session")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """Two hosts and a project to break."""
    from tests.hosts.rehearsal import Rehearsal

    folder = tmp_path_factory.mktemp("rehearsal")
    lab = Lab.up(2, name=f"rehearsal{os.getpid()}", project=folder)
    try:
        yield Rehearsal.make(folder, lab)
    finally:
        lab.down()


@pytest.fixture
def serving(deployed: Project) -> Iterator[Project]:
    """Deployed, with an inventory that a test may change."""
    path = deployed.folder / "inventories" / f"{deployed.env}.yml"
    text = path.read_text()
    yield deployed
    path.write_text(text)
