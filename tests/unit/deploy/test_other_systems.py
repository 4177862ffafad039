"""The control side on Windows and macOS: it imports, reads a project and plans without what only Linux or POSIX has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from percore import __version__
from percore.deploy.connection.address import read_address
from percore.deploy.connection.transport import open_channel
from percore.deploy.plan.host_plan import make_plan
from percore.deploy.plan.variables import resolve_variables
from percore.errors import PreflightError
from tests.unit.deploy.apps import PROCESS_FILE, write

ROOT = Path(__file__).resolve().parents[3]
WITHOUT_POSIX = """
import builtins, importlib, os, pkgutil, select, signal, socket, sys

# Libraries have their own ways on each system: they are imported as they are here.
import invoke, invoke.main, paramiko, jinja2.sandbox, yaml, pathspec, packaging.specifiers, semantic_version
import cryptography.hazmat.primitives.ciphers, concurrent.futures, getpass, tarfile, tempfile, uuid, zipfile, difflib

MODULES = {"fcntl", "pwd", "grp", "resource", "termios", "tty", "pty"}
real = builtins.__import__

def import_as_on_windows(name, globals=None, *more, **named):
    if name in MODULES and str((globals or {}).get("__name__")).startswith("percore"):
        raise ModuleNotFoundError(f"no module named {name}", name=name)
    return real(name, globals, *more, **named)

builtins.__import__ = import_as_on_windows
ABSENT = {
    os: "geteuid getuid getgid getegid O_DIRECTORY O_CLOEXEC O_NOFOLLOW O_NONBLOCK O_PATH O_ACCMODE fchown statvfs sysconf"
        " getgrouplist setgroups sched_getaffinity getpgid killpg uname register_at_fork pidfd_open fork waitid mkfifo",
    signal: "SIGHUP SIGKILL SIGVTALRM SIGQUIT setitimer ITIMER_VIRTUAL pthread_sigmask",
    select: "poll POLLIN POLLOUT epoll EPOLLIN",
    socket: "AF_UNIX SO_PEERCRED send_fds",
}
for module, names in ABSENT.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
"""
IMPORTS = """
import percore.command
for package in ("deploy", "tasks"):
    directory = os.path.join(os.path.dirname(percore.command.__file__), package)
    for module in pkgutil.walk_packages([directory], f"percore.{package}."):
        importlib.import_module(module.name)
"""
PLANS = """
from pathlib import Path
from percore.deploy.build.app import build
from percore.deploy.plan.render import render_plan
from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.hosts import load_hosts
from percore.deploy.rollout.edge.hand_off import hand_over
from percore.deploy.scaffold.init import InitWish, init

project = Path(sys.argv[1])
init(InitWish("eu", project, project, "deployer@web[1:2].example.com"), Report(quiet=True))
hosts = load_hosts(Scope("eu", project))
known = {"facts": {}, "python_path": "/usr/bin/python3", "package_id": "abc"}
for host in hosts:
    print(host.name, len(list(render_plan(host.plan, host.variables.knowing(known), host.settings).resources())) > 5)
print(build(hosts[0].settings, project, lambda line: None).process_file)
hand_over(Scope("eu", project), Report(quiet=True), hosts)
"""


def run(code: str, *words: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX + code, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_no_module_that_deploys_needs_what_only_posix_has() -> None:
    run(IMPORTS)


def test_an_app_is_begun_built_and_planned_without_it(tmp_path: Path) -> None:
    write(tmp_path, {"ecosystem.json": PROCESS_FILE, "web.js": ""})
    assert run(PLANS, str(tmp_path)) == ["web1.example.com True", "web2.example.com True", "ecosystem.json"]
    assert (tmp_path / "build" / "nginx" / "eu").is_dir()


def test_to_deploy_to_a_machine_without_linux_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    variables = resolve_variables(
        make_plan("here", {"ansible_connection": "local", "app_name": "a"}, env="local", project=tmp_path)
    )
    with pytest.raises(PreflightError, match="apps run on Linux, and this machine does not -> deploy to hosts"):
        open_channel(read_address("here", variables), ["true"], directory=tmp_path)


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_the_command_of_a_host_says_that_it_needs_linux(system: str) -> None:
    told = command_on(system, "list")
    assert told.returncode == 1
    assert told.stderr == (
        "percore: the supervisor needs Linux -> here: percore init --env ENV, then invoke deploy --env ENV\n"
    )
    assert command_on(system, "--version").stdout == f"{__version__}\n"


def command_on(system: str, word: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.platform = {system!r}; from percore.command import main; main()"
    return subprocess.run([sys.executable, "-c", code, word], cwd=ROOT, capture_output=True, text=True, check=False)
