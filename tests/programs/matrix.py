"""Real programs under load: two workers, two reloads, a kill, a stop. `./run test --programs` writes what it finds.

Packages are downloaded into a directory outside of the checkout; nothing of that is a part of CI.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from tests.programs.programs import PROGRAMS, Program
from tests.supervisor.conftest import Load, Supervisor, ended_supervisor
from tests.waiting import free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "docs" / "reference" / "programs.json"
PAGE = ROOT / "docs" / "reference" / "sharing.md"
_BEGIN, _END = "<!-- made from programs.json by `./run test --programs` -->\n\n", "\n<!-- end of the table -->"
_START_SECONDS = 60.0
_INSTALL_SECONDS = 900


class Row(NamedTuple):
    """What became of one program."""

    program: str
    version: str
    how: str
    answered: int = 0
    lost: int = 0
    trouble: str = ""


def run(only: str, directory: str, say: Callable[[str], None]) -> bool:
    """Tries the programs, writes the result and the table of the page; True when no program was in trouble."""
    wanted = {name.strip() for name in only.split(",") if name.strip()}
    chosen = [program for program in PROGRAMS if not wanted or program.name in wanted]
    place = Path(directory or Path(tempfile.gettempdir()) / f"percore-programs-{os.geteuid()}").absolute()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    installed = Installed(place)
    installed.install(chosen, say)
    rows = [_try_one(program, installed, say) for program in chosen]
    known = {} if not RESULT.exists() else {row["program"]: Row(**row) for row in json.loads(RESULT.read_text())}
    known.update({row.program: row for row in rows})
    RESULT.write_text(
        json.dumps([known[each.name]._asdict() for each in PROGRAMS if each.name in known], indent=1) + "\n"
    )
    PAGE.write_text(with_table(PAGE.read_text(), json.loads(RESULT.read_text())))
    return not any(row.trouble or row.lost for row in rows)


class Installed:
    """The packages of all programs, in one node_modules and one environment of Python."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.modules = directory / "node" / "node_modules"
        self.bin = directory / "python" / "bin"

    def install(self, programs: Iterable[Program], say: Callable[[str], None]) -> None:
        node = sorted({package for program in programs if program.is_node for package in program.packages})
        python = sorted({package for program in programs if not program.is_node for package in program.packages})
        say(f"installing {len(node)} packages of npm and {len(python)} of PyPI into {self.directory}")
        if node:
            self.modules.parent.mkdir(exist_ok=True)
            _run(["npm", "install", "--no-audit", "--no-fund", "--silent", *node], cwd=self.modules.parent)
        if python:
            if not self.bin.exists():
                _run(["uv", "venv", "--quiet", "--python", sys.executable, str(self.bin.parent)], cwd=self.directory)
            _run(["uv", "pip", "install", "--quiet", "--python", str(self.bin / "python"), *python], cwd=self.directory)

    def version_of(self, program: Program) -> str:
        if not program.packages:
            words = ["node", "--version"] if program.is_node else [self.bin / "python", "-V"]
            return _output(words).lstrip("vPython ")
        package = program.packages[0]
        if program.is_node:
            name = package if package.startswith("@") else package.partition("@")[0]
            return str(json.loads((self.modules / name / "package.json").read_text())["version"])
        code = f"import importlib.metadata as m; print(m.version({package.partition('[')[0]!r}))"
        return _output([self.bin / "python", "-c", code])


def _output(words: list[Any]) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def _run(words: list[str], cwd: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(words, cwd=cwd, check=True, timeout=_INSTALL_SECONDS, env={**os.environ, "PATH": path})


def _try_one(program: Program, installed: Installed, say: Callable[[str], None]) -> Row:
    row = Row(program.name, installed.version_of(program), program.how)
    began = time.monotonic()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="percore-program-") as folder,
            ended_supervisor(Path(folder)) as supervisor,
        ):
            (supervisor.folder / "server.js").unlink()
            row = _tried(row, program, installed, supervisor)
    except AssertionError as error:  # what outlived its supervisor
        row = row._replace(trouble=row.trouble or _first_line_of(error))
    result = row.trouble or f"{row.answered} answered, {row.lost} lost"
    say(f"{row.program} {row.version}: {result} ({time.monotonic() - began:.0f} s)")
    return row


def _tried(row: Row, program: Program, installed: Installed, supervisor: Supervisor) -> Row:
    try:
        return _judge(row, program, installed, supervisor)
    except (AssertionError, OSError, subprocess.SubprocessError, http.client.HTTPException) as error:
        return row._replace(trouble=_first_line_of(error))


def _first_line_of(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]


def _judge(row: Row, program: Program, installed: Installed, supervisor: Supervisor) -> Row:
    port = free_port()
    _write(program, installed, supervisor.folder, port)
    supervisor.run("start", "ecosystem.json")
    wait_for(lambda: _answers(port, program.path), "the first answer", seconds=_START_SECONDS)
    with Load(port, keeping=2, closing=1, path=program.path) as load:
        for _ in range(2):
            supervisor.run("reload", "app")
        os.kill(supervisor.pids("app")[0], signal.SIGKILL)
        wait_for(lambda: _all_serve(supervisor), "both workers after a kill", seconds=_START_SECONDS)
    lost = load.counts["lost"] + load.counts["hung"] + load.counts["bad"]
    supervisor.run("stop", "app")
    trouble = "" if _is_refused(port) else "the port is open after a stop"
    return row._replace(answered=load.counts["ok"], lost=lost, trouble=trouble)


def _write(program: Program, installed: Installed, folder: Path, port: int) -> None:
    for name, text in program.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    if program.is_node:
        (folder / "node_modules").symlink_to(installed.modules)
    app = {"name": "app", "instances": 2, "env": {"PORT": port}, "listen_timeout": "30s", **program.app}
    text = json.dumps({"apps": [app]}).replace("BIN/", f"{installed.bin}/")
    ported = json.loads(text)
    ported["apps"][0]["args"] = [word.replace("PORT", str(port)) for word in ported["apps"][0].get("args", [])]
    (folder / "ecosystem.json").write_text(json.dumps(ported))


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _all_serve(supervisor: Supervisor) -> bool:
    return [worker["state"] for worker in supervisor.workers("app")] == ["running", "running"]


def _is_refused(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


# -- the table of the page ---------------------------------------------------------------------------------------------


def with_table(page: str, rows: Iterable[dict[str, Any]]) -> str:
    before, _, rest = page.partition(_BEGIN)
    return before + _BEGIN + table_of(Row(**row) for row in rows) + _END + rest.partition(_END)[2]


def table_of(rows: Iterable[Row]) -> str:
    lines = ["| Program | Version | Run as | Requests | Lost | Trouble |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        answered, lost = (row.answered, row.lost) if row.answered else ("-", "-")
        trouble = row.trouble.replace("|", "/")
        lines.append(f"| {row.program} | {row.version} | `{row.how}` | {answered} | {lost} | {trouble} |")
    return "\n".join(lines)
