"""A Python app: its dependencies as wheels for the hosts' Python and platform, installed by uv beside the app."""

from __future__ import annotations

import ast
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from percore.deploy.build.commands import Commands
from percore.deploy.build.workspace import Source, read_pyproject
from percore.errors import PreflightError

PYTHON_PACKAGES = "python_packages"
_REQUIREMENTS = ".percore-requirements.txt"
_SHEBANG = b"#!/usr/bin/env python3\n"
_GLIBC = (17, 28, *range(31, 41))
"""Minor versions of glibc 2 for which uv has a name."""


class BuildTarget(NamedTuple):
    """The kind of host that packages are for: `python` as 3.12, `libc` as 2.36; empty where it is not known."""

    system: str
    machine: str
    python: str
    libc: str = ""

    @property
    def title(self) -> str:
        return f"Python {self.python} on {self.machine}"

    @property
    def kind(self) -> tuple[str, ...]:
        """Hosts with the same run the same wheels, those for the oldest glibc of them."""
        return (self.system, self.machine, self.python, "musl" if self.libc.startswith("musl") else "")

    @property
    def libc_order(self) -> tuple[int, ...]:
        return tuple(int(part) for part in re.findall(r"[0-9]+", self.libc))

    @property
    def platform(self) -> str:
        """As uv names it."""
        if self.system == "Darwin":
            return f"{'aarch64' if self.machine == 'arm64' else self.machine}-apple-darwin"
        if self.libc.startswith("musl"):
            return f"{self.machine}-unknown-linux-musl"
        minor = int(self.libc.split(".")[1]) if re.fullmatch(r"2\.[0-9]+", self.libc) else 0
        return f"{self.machine}-manylinux_2_{max((known for known in _GLIBC if known <= minor), default=_GLIBC[0])}"


def this_machine(python: str | None = None) -> BuildTarget:
    """The kind of this machine; with the hosts' Python where the settings name it."""
    libc = platform.libc_ver()[1] if platform.system() == "Linux" else ""
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return BuildTarget(platform.system(), platform.machine(), python or own, libc)


def is_python(source: Source) -> bool:
    """It has dependencies that are installed; a script without any needs nothing."""
    return (source.app / "requirements.txt").is_file() or bool(_manifest(source.app))


def _manifest(app: Path) -> Mapping[str, Any]:
    """What pyproject.toml says about a project; one that only configures tools says nothing."""
    content = read_pyproject(app)
    return content if "project" in content or "poetry" in content.get("tool", {}) else {}


def install_python(source: Source, work: Path, target: BuildTarget, commands: Commands) -> None:
    """Install the app's dependencies into `python_packages` of its directory."""
    app = work / source.inner
    place = app / PYTHON_PACKAGES
    shutil.rmtree(place, ignore_errors=True)
    here = commands.at(app).without("NODE_ENV").knowing(**_index_of_pip(commands))
    words = list(_requirements(source, app, here))
    if not words:
        return
    here.say(f"installing wheels for {target.title}")
    here.run(
        [
            *_uv(), "pip", "install", "--quiet", "--target", str(place), "--python", sys.executable,
            "--python-version", target.python, "--python-platform", target.platform, "--link-mode", "copy", *words,
        ],
        next=f"if a package wants another Python than {target.python}: install that on the hosts and set python_version; "
        f"if it has no wheel for {target.title}: choose a version of it that has, or deploy from such a machine",
        shown=f"uv pip install {' '.join(words)}",
    )  # fmt: skip
    (app / _REQUIREMENTS).unlink(missing_ok=True)
    for name in (".lock", ".gitignore"):
        (place / name).unlink(missing_ok=True)
    _mend_scripts(place / "bin")


def with_packages(app: Path, commands: Commands) -> Commands:
    """What a build command sees of them: as the app does on a host. What was compiled for other hosts does not load here."""
    place = app / PYTHON_PACKAGES
    path = os.pathsep.join([str(place / "bin"), commands.env.get("PATH", os.defpath)])
    # The caches that Python would write beside the modules are no part of a release.
    return commands.knowing(PYTHONPATH=str(place), PATH=path, PYTHONDONTWRITEBYTECODE="1")


def _requirements(source: Source, app: Path, commands: Commands) -> Iterator[str]:
    """What uv installs. A lock file counts more than requirements.txt, and that more than a plain pyproject.toml."""
    manifest = _manifest(app)
    if manifest and (source.root / "uv.lock").is_file() and source.root in (source.app, *source.app.parents):
        words = ["export", "--frozen", "--no-dev", "--no-editable", "--quiet", "--no-header", "-o", _REQUIREMENTS]
        commands.run([*_uv(), *words], shown=f"uv {' '.join(words)}")
        yield from ("-r", _REQUIREMENTS)
    elif manifest and (app / "poetry.lock").is_file():
        _export_poetry(commands)
        yield from ("-r", _REQUIREMENTS)
        if _is_package(manifest, app):
            yield from ("--no-deps", ".")
    elif (app / "requirements.txt").is_file():
        yield from ("-r", "requirements.txt")
    elif manifest.get("project", {}).get("dependencies") or "build-system" in manifest:
        commands.say("there is no lock file: another build may get other versions")
        yield from ["."] if _is_package(manifest, app) else ("-r", "pyproject.toml")


def _export_poetry(commands: Commands) -> None:
    words = ["export", "--only", "main", "--format", "requirements.txt", "--output", _REQUIREMENTS]
    if commands.output(["poetry", "export", "--help"]) is not None:
        commands.run(["poetry", *words])
        return
    commands.say("poetry with its export plugin is not installed here; uv runs it")
    tool = [*_uv(), "tool", "run", "--quiet", "--from", "poetry", "--with", "poetry-plugin-export", "poetry"]
    commands.run(
        [*tool, *words],
        next="pipx install poetry; pipx inject poetry poetry-plugin-export",
        shown=f"poetry {' '.join(words)}",
    )


def _is_package(manifest: Mapping[str, Any], app: Path) -> bool:
    """Whether the project itself is installed: its own tool would, and there is something to install."""
    poetry = manifest.get("tool", {}).get("poetry", {})
    uv = manifest.get("tool", {}).get("uv", {})
    if "build-system" not in manifest or poetry.get("package-mode") is False or uv.get("package") is False:
        return False
    name = str(manifest.get("project", {}).get("name") or poetry.get("name") or "")
    module = re.sub(r"[-.]+", "_", name)
    places = (app / module, app / "src" / module, app / f"{module}.py")
    return any(path.exists() for path in places) or "packages" in poetry or (app / "src").is_dir()


def _uv() -> list[str]:
    """uv of percore's own environment, else the one in PATH."""
    try:
        from uv import find_uv_bin

        return [find_uv_bin()]
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise PreflightError("uv is missing here, which installs Python packages", next="pip install uv")
    return [found]


def _index_of_pip(commands: Commands) -> dict[str, str]:
    """The package index that pip is set to use, where uv is not told of one."""
    if any(name in commands.env for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_NO_INDEX", "UV_CONFIG_FILE")):
        return {}
    found = _pip_settings(commands)
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "find-links": "UV_FIND_LINKS",
        "cert": "SSL_CERT_FILE",
        "constraint": "UV_CONSTRAINT",
    }
    settings = {
        names[name]: value for name, value in found.items() if name in names and names[name] not in commands.env
    }
    # pip takes the best version of all its indexes, and its settings count on that.
    return {"UV_INDEX_STRATEGY": "unsafe-best-match", **settings} if "UV_INDEX" in settings else settings


def _pip_settings(commands: Commands) -> dict[str, str]:
    """`pip config list`, without the parts of its names; the environment comes last and wins."""
    listed = commands.output([sys.executable, "-m", "pip", "config", "list"]) or ""
    found: dict[str, str] = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        name, sign, value = line.partition("=")
        if sign and name.startswith(("global.", "install.", ":env:.")):
            found[name.rsplit(".", 1)[-1]] = str(ast.literal_eval(value))
    return found


def _mend_scripts(directory: Path) -> None:
    """Console scripts begin with the Python of this machine; on a host it is that of its PATH."""
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        if content.startswith(b"#!") and b"python" in content.split(b"\n", 1)[0]:
            path.write_bytes(_SHEBANG + content.split(b"\n", 1)[1])
        elif content.startswith(b"#!/bin/sh\n'''exec' "):
            path.write_bytes(_SHEBANG + content.split(b"\n", 3)[3])
