"""percore as its users have it: the wheel of this checkout, in an environment of its own and outside of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (
    "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE", "SECURITY.md",
    "percore", "roles", "templates", "share",
)  # fmt: skip


def build_wheel(directory: Path) -> Path:
    """From a copy, as a build leaves files behind."""
    source = directory / "source"
    source.mkdir(parents=True)
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(ROOT / name, source)
    words = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps", "-w", directory]
    subprocess.run([*words, source], check=True, timeout=300)
    return next(directory.glob("percore-*.whl"))


def install(directory: Path, extras: str = "") -> Path:
    """The directory of the installed commands."""
    wheel = build_wheel(directory)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory / "env"], check=True, timeout=120)
    pip = [sys.executable, "-m", "pip", "--python", directory / "env", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, f"{wheel}{extras}"], check=True, timeout=300)
    return directory / "env" / "bin"


def environment(first: Path) -> dict[str, str]:
    """Of a shell that knows nothing of this checkout; `first` is where it looks for programs before anywhere else."""
    ours = ("PERCORE_", "PYTHON", "VIRTUAL_ENV", "INVOKE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PATH": f"{first}:{kept['PATH']}"}


class Repository:
    """An app's own repository, somewhere else, whose owner types commands of an installed percore."""

    def __init__(self, directory: Path, commands: Path) -> None:
        self.directory = directory
        self.env = {**environment(commands), "HOME": str(directory.parent)}

    def type(self, line: str, code: int = 0, inside: str = ".") -> str:
        """What the terminal shows."""
        done = subprocess.run(
            ["sh", "-c", line], cwd=self.directory / inside, env=self.env, text=True, check=False, timeout=300,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == code, f"{line}: exit code {done.returncode}, wanted {code}:\n{done.stdout}"
        return done.stdout


SHOP = """\
const { createServer } = require('node:http');
createServer((request, response) => {
  if (request.url === '/health') return response.end('ok');
  response.end(JSON.stringify({ pid: process.pid, level: process.env.LOG_LEVEL }));
}).listen(process.env.PORT || PORT);
"""


def make_shop(directory: Path, port: int) -> None:
    """What a developer has before he hears of percore."""
    (directory / "src").mkdir(parents=True)
    (directory / "package.json").write_text('{"name": "@acme/shop", "scripts": {"start": "node src/server"}}\n')
    (directory / "src" / "server.js").write_text(SHOP.replace("PORT)", f"{port})"))
    (directory / ".gitignore").write_text("node_modules/\n.env.production\n")
    subprocess.run(["git", "init", "-q"], cwd=directory, check=True)
