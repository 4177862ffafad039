"""`percore update`: another version takes over in the same process, or it changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import percore
from tests.hosts.versions import VERSIONS, unpack
from tests.supervisor.conftest import Load, Supervisor
from tests.waiting import wait_for


def another_version(supervisor: Supervisor, version: str) -> Path:
    """A copy of percore that differs from the running one."""
    root = supervisor.folder / version
    shutil.copytree(Path(percore.__file__).parent, root / "percore", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "percore" / "__init__.py").write_text(f'__version__ = "{version}"\n')
    return root


def command_of(root: Path, supervisor: Supervisor, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of that version."""
    code = f"import sys; sys.path.insert(0, {str(root)!r}); from percore.supervisor.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, cwd=supervisor.folder,
        env={**os.environ, "PERCORE_HOME": str(supervisor.home)}, check=False,
    )  # fmt: skip


def update_to(supervisor: Supervisor, root: Path) -> subprocess.CompletedProcess[str]:
    return command_of(root, supervisor, "update")


def test_another_version_takes_over_under_load_and_no_worker_notices(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(), supervisor.singleton())
    before = supervisor.pids("api") + supervisor.pids("tick")
    daemon = supervisor.daemon_pid()
    newer = another_version(supervisor, "99.1")
    with Load(supervisor.port) as load:
        for root in (newer, another_version(supervisor, "99.2"), newer):
            done = update_to(supervisor, root)
            assert done.returncode == 0, done.stderr + supervisor.log()
            assert f"version {root.name} took over" in done.stdout
        assert supervisor.pids("api") + supervisor.pids("tick") == before
        assert supervisor.daemon_pid() == daemon, "systemd goes on watching the same process"
        supervisor.run("reload", "api")
    assert load.failures == []
    assert supervisor.log().count("adopted") == 9


@pytest.mark.parametrize("archive", VERSIONS, ids=lambda archive: archive.name.partition(".")[0])
def test_an_earlier_version_is_updated_under_load_and_taken_back(supervisor: Supervisor, archive: Path) -> None:
    """Process file, state and control socket are understood in both directions, and no worker notices."""
    earlier = supervisor.folder / "earlier"
    unpack(archive, earlier)
    (supervisor.folder / "apps.json").write_text(json.dumps({"apps": [
        {"name": "api", "script": "server.js", "instances": 2, "exec_mode": "cluster", "env": {"PORT": supervisor.port},
         "max_memory_restart": "300M", "kill_timeout": 3000},
        {"name": "tick", "script": "sleep", "args": "1000", "interpreter": "none", "autorestart": False},
    ]}))  # fmt: skip
    assert command_of(earlier, supervisor, "start", "apps.json").returncode == 0
    wanted = listed(command_of(earlier, supervisor, "jlist"))
    differs = f"the supervisor runs version 0.1.0, this command is version {percore.__version__} -> percore update"
    for words in (["--version"], ["list"], ["status", "--json"]):
        assert differs in supervisor.run(*words).stderr
    assert supervisor.run("apply", "apps.json", "--check").returncode == 0, "the same file asks for the same"
    with Load(supervisor.port) as load:
        assert f"version {percore.__version__} took over from 0.1.0" in supervisor.run("update").stdout
        assert listed(supervisor.run("jlist")) == wanted
        assert supervisor.run("list").stderr == ""
        assert supervisor.run("apply", "apps.json", "--check").returncode == 0
        taken_back = command_of(earlier, supervisor, "update")
        assert "version 0.1.0 took over" in taken_back.stdout, taken_back.stderr
        assert listed(command_of(earlier, supervisor, "jlist")) == wanted
        assert command_of(earlier, supervisor, "stop", "tick").returncode == 0
        supervisor.kill_daemon()
        assert listed(supervisor.run("jlist")) == [*wanted[:2], ("tick", 0, "stopped")], "the state of the earlier one"
        supervisor.run("reload", "api")
    assert load.failures == []


def listed(done: subprocess.CompletedProcess[str]) -> list[tuple[str, int, str]]:
    return [(each["name"], each["pid"], each["pm2_env"]["status"]) for each in json.loads(done.stdout)]


def test_each_look_says_when_the_supervisor_is_of_another_version(supervisor: Supervisor) -> None:
    assert supervisor.run("--version").stderr == "", "it starts no supervisor"
    assert not supervisor.log()
    supervisor.apply(supervisor.singleton())
    assert update_to(supervisor, another_version(supervisor, "99.1")).returncode == 0
    differs = f"the supervisor runs version 99.1, this command is version {percore.__version__}"
    shown = supervisor.run("--version")
    assert shown.stdout == f"{percore.__version__}\n"
    assert f"{differs} -> pip install percore==99.1, or take the supervisor back with: percore update" in shown.stderr
    status = supervisor.run("status", "--json")
    assert (json.loads(status.stdout)["version"], status.stderr.count(differs)) == ("99.1", 1)
    findings = json.loads(supervisor.run("doctor", "--json", check=False).stdout)["findings"]
    assert [each["topic"] for each in findings if each["what"] == differs] == ["supervisor"]


def test_the_new_version_hears_of_workers_that_end(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    assert update_to(supervisor, another_version(supervisor, "99.1")).returncode == 0
    victim = supervisor.pids("api")[0]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: victim not in supervisor.pids("api"), "a successor")
    wait_for(lambda: "killed by SIGKILL" in supervisor.log(), "the way it ended to be known")


def test_a_version_that_cannot_start_leaves_the_running_one(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    before, daemon = supervisor.pids("api"), supervisor.daemon_pid()
    broken = another_version(supervisor, "99.1")
    with (broken / "percore" / "supervisor" / "core" / "manager.py").open("a") as module:
        module.write("raise RuntimeError('a bad merge')\n")
    done = update_to(supervisor, broken)
    assert done.returncode == 1
    assert (
        f"cannot take over (RuntimeError: a bad merge); the supervisor of version {percore.__version__}" in done.stderr
    )
    assert supervisor.pids("api") == before
    assert supervisor.daemon_pid() == daemon
    assert "replaced" not in supervisor.log()


def test_a_version_that_cannot_read_the_state_leaves_the_running_one(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    before = supervisor.pids("api")
    other = another_version(supervisor, "99.1")
    module = other / "percore" / "supervisor" / "state" / "state_file.py"
    module.write_text(module.read_text().replace("\nVERSION = 1\n", "\nVERSION = 2\n"))
    done = update_to(supervisor, other)
    assert done.returncode == 1
    assert "not a state file of version 2" in done.stderr
    assert supervisor.pids("api") == before


def test_a_version_that_would_set_an_app_aside_leaves_the_running_one(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    before = supervisor.pids("api")
    other = another_version(supervisor, "0.0.1")
    module = other / "percore" / "supervisor" / "config" / "kinds.py"
    module.write_text(module.read_text().replace('CLUSTER = "cluster"', 'CLUSTER = "many"'))
    done = update_to(supervisor, other)
    assert done.returncode == 1
    assert "'api' would be set aside: config.mode is 'cluster', not many or fork" in done.stderr
    assert supervisor.pids("api") == before


def test_where_nothing_runs_there_is_nothing_to_update(supervisor: Supervisor) -> None:
    assert "no supervisor runs" in supervisor.run("update").stdout
