"""The app's own tools: its dependencies are installed and its build is run, in a copy of its sources."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percore.common.passwords import for_programs
from percore.deploy.build.source_tree import BuildError
from percore.deploy.plan.settings import AppSettings
from percore.errors import PreflightError, UsageError
from percore.packages import can_install, install_packages

Say = Callable[[str], None]

PYTHON_PACKAGES = "python_packages"
DEPENDENCIES = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies", "workspaces")
BUILD_SECONDS = 1800
OUTPUT_LINES = 15


@dataclass(frozen=True)
class BuildDirectory:
    """Where one app is built."""

    root: Path

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def production(self) -> Path:
        return self.root / "production"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    def note(self, source: str) -> Path:
        return self.root / "sources" / f"{source}.json"

    def tree(self, sha256: str) -> Path:
        return self.root / "trees" / sha256[:16]


def check_tools(app: Path) -> None:
    """Name every missing tool with the command that installs it; as root on Debian, install it."""
    needed = ["node", "npm"] if is_node(app) else []
    missing = [tool for tool in needed if shutil.which(tool) is None]
    if not missing:
        return
    packages = ["nodejs" if tool == "node" else tool for tool in missing]
    if can_install():
        install_packages(packages, "the build")
        return
    command = f"sudo apt-get install -y {' '.join(packages)}"
    advice = command if shutil.which("apt-get") else "install Node.js from https://nodejs.org"
    raise PreflightError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing here", next=advice)


def build_node(settings: AppSettings, directory: BuildDirectory, say: Say) -> None:
    command = settings.build_command or (
        "npm run build" if "build" in _package_json(settings.path).get("scripts", {}) else None
    )
    if command is not None:
        _install_node(directory.work, _install_words(settings), say)
        say(command)
        run_step(command.split(), directory.work, what=f"'{command}'")
    _install_production(settings, directory, say)


def _install_words(settings: AppSettings) -> list[str]:
    if settings.install_command:
        return settings.install_command.split()
    locked = (settings.path / "package-lock.json").is_file()
    # Without a lock file none may appear: the next build of the same source would find it and differ.
    return ["npm", *(["ci"] if locked else ["install", "--no-package-lock"]), "--no-audit", "--no-fund"]


def _install_node(directory: Path, words: list[str], say: Say) -> None:
    """Install dependencies unless the same ones were installed there by the same command."""
    if not any(_package_json(directory).get(key) for key in DEPENDENCIES):
        return
    wish = hashlib.sha256(json.dumps(words).encode())
    for name in ("package.json", "package-lock.json", ".npmrc"):
        wish.update((directory / name).read_bytes() if (directory / name).is_file() else b"-")
    stamp = directory / "node_modules" / ".percore-installed"
    if stamp.is_file() and stamp.read_text() == wish.hexdigest():
        return
    say(" ".join(words))
    run_step(words, directory, what=f"'{' '.join(words[:2])}'")
    stamp.parent.mkdir(exist_ok=True)  # when all dependencies are left out, there is no such directory
    stamp.write_text(wish.hexdigest())


def _install_production(settings: AppSettings, directory: BuildDirectory, say: Say) -> None:
    directory.production.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        if (settings.path / name).is_file():
            shutil.copy2(settings.path / name, directory.production / name)
    _install_node(directory.production, [*_install_words(settings), "--omit=dev"], say)


def install_python(directory: BuildDirectory, say: Say) -> None:
    say("pip install -r requirements.txt")
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    target = directory.work / PYTHON_PACKAGES
    shutil.rmtree(target, ignore_errors=True)
    run_step([*words, "--target", str(target), "-r", "requirements.txt"], directory.work, what="'pip install'")


def run_step(words: Sequence[str], directory: Path, *, what: str) -> None:
    """A build step; when it fails, one line and the last lines of its own output."""
    try:
        done = subprocess.run(
            list(words),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=for_programs(),
            timeout=BUILD_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise PreflightError(
            f"{what}: the command '{words[0]}' does not exist", next="install it, or change the command"
        ) from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"{what} did not end within {BUILD_SECONDS} s") from None
    if done.returncode != 0:
        lines = [line.rstrip() for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
        raise BuildError(
            f"build failed: {what} ended with exit code {done.returncode}; nothing was deployed",
            next="fix it and deploy again",
            detail="\n".join(lines[-OUTPUT_LINES:]),
        )


def is_node(app: Path) -> bool:
    return (app / "package.json").is_file()


def _package_json(app: Path) -> dict[str, Any]:
    path = app / "package.json"
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not valid JSON: {error}", where=str(path)) from None
    if not isinstance(content, dict):
        raise UsageError("should be a JSON object", where=str(path))
    return content
