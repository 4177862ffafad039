"""What runs on hosts, under every Python it promises to run under that is found here: 3.9, 3.11 and 3.13.

Where one is missing the test says so; Debian 11 (3.9) and 13 (3.13) are in tests/hosts/test_sandbox.py.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervisor import conftest
from tests.supervisor.conftest import Load, Supervisor
from tests.supervisor.faults.tools import ROOT, becomes_sound, lost_nothing
from tests.waiting import wait_for

PROMISED = ("3.9", "3.11", "3.13")


@functools.cache
def find_python(version: str) -> str:
    """An interpreter of this version: in PATH, or one that pyenv or uv keeps; empty where there is none."""
    kept = [*Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"),
            *Path.home().glob(f".local/share/uv/python/*{version}.*/bin/python3")]  # fmt: skip
    for candidate in (shutil.which(f"python{version}"), *map(str, sorted(kept)), sys.executable):
        told = "import sys; print('%d.%d' % sys.version_info[:2])"
        try:
            done = subprocess.run(
                [candidate or "", "-c", told], capture_output=True, text=True, timeout=20, check=False
            )
        except OSError:
            continue
        if done.stdout.strip() == version:
            return candidate or ""
    return ""


@pytest.fixture(params=PROMISED)
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """A supervisor whose daemon and commands run under another Python, with nothing installed but percore's own code."""
    python = find_python(request.param)
    if not python:
        pytest.skip(f"Python {request.param} is not on this machine; tests/hosts/test_sandbox.py runs it on Debian")
    root = tmp_path / "percore"
    root.mkdir()
    shutil.copytree(ROOT / "percore", root / "percore", ignore=shutil.ignore_patterns("__pycache__", "deploy", "lab"))
    monkeypatch.setattr(conftest.sys, "executable", python)  # type: ignore[attr-defined]
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    made = Supervisor(tmp_path)
    yield made
    made.run("kill", check=False)


def test_starting_reloading_crashing_adopting_and_telling_work_under_it(elsewhere: Supervisor) -> None:
    supervisor = elsewhere
    version = subprocess.run(
        [conftest.sys.executable, "-c", "import sys; print(sys.version_info[:2])"],  # type: ignore[attr-defined]
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    app, tick = supervisor.api(), supervisor.singleton(args=["echo said; exec sleep 1000"])
    supervisor.apply(app, tick)
    daemon = supervisor.daemon_pid()
    command = Path(f"/proc/{daemon}/cmdline").read_bytes().split(b"\0")[0].decode()
    assert subprocess.run(
        [command, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True, check=True
    ).stdout == version  # fmt: skip
    with Load(supervisor.port) as load:
        supervisor.run("reload", "api")
        before = supervisor.pids("api") + supervisor.pids("tick")
        supervisor.kill_daemon()
        supervisor.run("ping")
        assert supervisor.pids("api") + supervisor.pids("tick") == before
    lost_nothing(load)
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: before[0] not in supervisor.pids("api"), "a successor")
    becomes_sound(supervisor, app, tick)
    broken = supervisor.apply(supervisor.api(env={"FAIL": "throw"}), tick, release="r2", check=False)
    assert (broken["exit_code"], "the release is broken" in "\n".join(broken["log_tail"])) == (4, True)
    assert "said" in supervisor.run("logs", "tick", "--nostream", "--lines", "5").stdout
    listed = json.loads(supervisor.run("jlist").stdout)
    assert [entry["name"] for entry in listed] == ["api", "api", "tick"]
    assert "tick" in supervisor.run("list").stdout
    assert supervisor.run("describe", "tick").returncode == 0
    supervisor.run("scale", "api", "3")
    done = supervisor.run("update")
    assert "took over" in done.stdout
    becomes_sound(supervisor, {**app, "instances": 3}, tick)
    assert "Traceback" not in supervisor.log()
