"""percore as its users have it: the wheel of this checkout, in an environment of its own and outside of the checkout."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (
    "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE", "SECURITY.md",
    "percore", "roles", "templates", "share",
)  # fmt: skip


EPOCH = "1767225600"
"""The time of the files in what is built here: the same sources make the same archives."""

_BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
_MADE = ROOT / "build" / "wheels"


def build_wheel(directory: Path) -> Path:
    """A copy of the wheel in `directory`. It is built once for the same sources, whoever asks."""
    _MADE.mkdir(parents=True, exist_ok=True)
    with _MADE.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with tempfile.TemporaryDirectory() as place:
            source = copy_sources(Path(place) / "source")
            made = _MADE / hash_of(source)
            if not made.is_dir():
                shutil.rmtree(_MADE)
                build(source, "wheel", Path(place) / "made")
                shutil.copytree(Path(place) / "made", made)
    directory.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(next(made.glob("percore-*.whl")), directory))


def copy_sources(target: Path) -> Path:
    """As a build leaves files behind."""
    target.mkdir(parents=True)
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(ROOT / name, target)
    return target


def hash_of(directory: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(directory)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def build(source: Path, kind: str, target: Path, **variables: str) -> Path:
    """A `wheel` or `sdist`, with the setuptools of this environment: nothing is fetched."""
    target.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH, **variables}
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, f"build_{kind}", str(target)], cwd=source, env=env, text=True, check=False,
        timeout=300, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return next(target.glob("percore-*"))


def install(directory: Path, extras: str = "") -> Path:
    """The directory of the installed commands."""
    wheel = build_wheel(directory)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory / "env"], check=True, timeout=120)
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        directory / "env",
        "install",
        "-q",
        "--disable-pip-version-check",
    ]
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
