"""What staging takes and leaves, whatever the umask of the login was."""

from __future__ import annotations

import getpass
import hashlib
import io
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from percore.errors import PreflightError, RolloutError
from percore.host import facts
from percore.host.release.stage import Staging
from percore.host.release.transfer.parts import PartReader
from percore.host.release.transfer.reopen import reopen
from percore.host.supervisor.supervisor import Supervisor

RELEASE = "20260101120000-0a1b2c3d"


@pytest.mark.parametrize("size", [0, 1, 4 << 20, (4 << 20) + 1, 9_000_000])
def test_a_file_of_a_role_arrives_whole_however_large_it_is(size: int) -> None:
    content = os.urandom(size)
    sha256 = hashlib.sha256(content).hexdigest()
    request: Any = SimpleNamespace(artifact=SimpleNamespace(sha256="a"), package=SimpleNamespace(sha256="b"))
    staging = Staging(target=None, source=io.BytesIO(), emit=print)  # type: ignore[arg-type]
    assert staging._take(request, sha256, PartReader(io.BytesIO(content), size)) == content
    with pytest.raises(RolloutError, match="the checksum differs"):
        staging._take(request, "c" * 64, PartReader(io.BytesIO(content), size))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def closed(path: Path) -> Path:
    path.mkdir(parents=True)
    path.chmod(0o700)
    return path


@pytest.fixture
def left(tmp_path: Path) -> dict[str, Path]:
    """What a deploy with umask 077 left."""
    app = closed(tmp_path / "srv")
    places = {"app": app, "releases": closed(app / "releases"), "package": closed(tmp_path / "opt" / "abc")}
    places |= {"release": closed(places["releases"] / RELEASE), "cache": closed(places["package"] / "__pycache__")}
    places |= {"private": closed(places["release"] / "files"), "staging": closed(places["releases"] / ".staging")}
    return places


def reopened(left: dict[str, Path], user: str | None) -> list[str]:
    return reopen(str(left["app"]), [str(left["release"])], str(left["package"]), user)


def test_what_an_older_version_left_closed_is_opened_to_the_supervisors_user(left: dict[str, Path]) -> None:
    opened = reopened(left, "nobody")
    assert set(opened) == {str(left[name]) for name in ("app", "releases", "release", "package", "cache")}
    assert all(mode_of(Path(path)) == 0o755 for path in opened)
    assert mode_of(left["private"]) == mode_of(left["staging"]) == 0o700
    assert reopened(left, "nobody") == []


def test_what_nobody_else_is_to_enter_stays_closed(left: dict[str, Path]) -> None:
    for user in (None, getpass.getuser()):
        assert reopened(left, user) == []
    left["app"].chmod(0o750)  # somebody meant that
    left["package"].chmod(0o711)
    reopened(left, "nobody")
    assert (mode_of(left["app"]), mode_of(left["package"]), mode_of(left["cache"])) == (0o750, 0o711, 0o700)


def test_the_agent_does_not_work_under_the_umask_of_the_login(tmp_path: Path) -> None:
    code = "import os, runpy; os.umask(0o077); from percore.host import agent; agent.main()"
    shown = "import os; os._exit = lambda code: print(oct(os.umask(0)), file=open('umask', 'w'));"
    done = subprocess.run(
        [sys.executable, "-c", shown + code], stdin=subprocess.DEVNULL, capture_output=True, cwd=tmp_path, check=True
    )
    assert b'"facts"' in done.stdout
    assert (tmp_path / "umask").read_text() == "0o22\n"


def test_the_path_of_a_unit_is_that_of_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login = tmp_path / "login"
    login.mkdir()
    for name, text in {
        "systemctl": """echo 'A=b "PATH=/opt/x bin:/usr/bin" C="d e"'""",
        "node": "echo v22.1.0",
    }.items():
        (login / name).write_text(f"#!/bin/sh\n{text}\n")
        (login / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{login}:/usr/bin:/bin")
    assert facts.path_of_unit("percore.service") == "/opt/x bin:/usr/bin"
    assert facts.program_version("node") == "22.1.0"
    assert facts.program_version("node", str(tmp_path)) == ""
    (login / "systemctl").unlink()
    monkeypatch.setenv("PATH", str(login))
    assert "/usr/local/bin" in facts.path_of_unit("percore.service")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_directory_of_the_administrator_that_keeps_the_apps_user_out_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    opt = tmp_path / "opt"
    (opt / "percore").mkdir(parents=True)
    supervisor = Supervisor([sys.executable], str(tmp_path), "nobody", str(opt))
    staging = Staging(SimpleNamespace(supervisor=supervisor, releases=SimpleNamespace(directory=str(tmp_path / "srv"))),  # type: ignore[arg-type]
                      io.BytesIO(), print)  # fmt: skip
    staging._refuse_closed(str(opt / "percore" / "abc"))
    opt.chmod(0o700)
    with pytest.raises(PreflightError, match=f"user 'nobody' may not enter {opt} ") as caught:
        staging._refuse_closed(str(opt / "percore" / "abc"))
    assert caught.value.next == f"chmod o+x {opt}"
