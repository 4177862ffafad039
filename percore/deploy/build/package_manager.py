"""Which package manager an app uses, how it is started here, and its commands for a build.

What counts: the setting `package_manager`, then `packageManager` of package.json, then the only lock file.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percore.deploy.build.commands import Commands
from percore.deploy.build.source_tree import BuildError
from percore.errors import PreflightError, UsageError

NAMES = ("npm", "pnpm", "yarn", "bun")
LOCK_FILES = {
    "package-lock.json": "npm",
    "npm-shrinkwrap.json": "npm",
    "pnpm-lock.yaml": "pnpm",
    "yarn.lock": "yarn",
    "bun.lock": "bun",
    "bun.lockb": "bun",
}
_PNPM_OF_LOCK = {"5": "7", "6": "8", "9": "10"}
_YARN_OF_LOCK = {"4": "2", "5": "3", "6": "3", "8": "4.9"}
"""The newest version that writes this version of the lock file, and changes nothing in it."""

_VERSION = re.compile(r"(npm|pnpm|yarn|bun)@([0-9][0-9A-Za-z.-]*)(\+.*)?")
_SET_IT = "set package_manager in the inventory, or packageManager in package.json, or remove the other lock files"


@dataclass(frozen=True)
class PackageManager:
    """`version` is the exact one that package.json names; `major` what the lock file needs, empty where any will do."""

    name: str
    lock: str
    version: str = ""
    major: str = ""
    is_berry: bool = False  # yarn 2 and later

    @property
    def title(self) -> str:
        return f"{self.name} {self.version or self.major}".rstrip()

    @property
    def package(self) -> str:
        """What npx installs."""
        name = "@yarnpkg/cli-dist" if self.is_berry else self.name
        wanted = self.version or self.major
        return f"{name}@{wanted}" if wanted else name

    # -- its commands ------------------------------------------------------------------------------------------------------

    def install(self) -> list[str]:
        """All dependencies, also those for development, in the whole tree; the lock file is obeyed, and none is written."""
        locked = bool(self.lock)
        if self.name == "npm":
            first = ["ci"] if locked else ["install", "--no-package-lock"]
            return [*first, "--include=dev", "--no-audit", "--no-fund"]
        if self.name == "pnpm":
            return ["install", "--frozen-lockfile" if locked else "--no-lockfile", "--prod=false"]
        if self.name == "bun":
            return ["install", "--frozen-lockfile" if locked else "--no-save"]
        if self.is_berry:
            return ["install", "--immutable" if locked else "--no-immutable"]
        return ["install", "--frozen-lockfile" if locked else "--no-lockfile", "--production=false", *_QUIET_YARN]

    def prune(self, app: str) -> list[str]:
        """Leave what the app needs at run time. `app` is the workspace's name that is deployed; empty: all."""
        if self.name == "npm":
            unlocked = [] if self.lock else ["--no-package-lock"]
            return ["prune", "--omit=dev", "--ignore-scripts", *unlocked, "--no-audit", "--no-fund"]
        if self.name == "pnpm":
            lock = "--frozen-lockfile" if self.lock else "--no-lockfile"
            only = ["--filter", f"{app}..."] if app else []
            return [
                *only,
                "install",
                "--prod",
                lock,
                "--offline",
                "--ignore-scripts",
                "--config.modules-cache-max-age=0",
            ]
        if self.name == "bun":
            return ["install", "--production", *(["--frozen-lockfile"] if self.lock else ["--no-save"])]
        if self.is_berry:
            return ["workspaces", "focus", *([app] if app else ["--all"]), "--production"]
        lock = "--frozen-lockfile" if self.lock else "--no-lockfile"
        return ["install", "--production", lock, "--ignore-scripts", "--prefer-offline", *_QUIET_YARN]

    @property
    def environment(self) -> dict[str, str]:
        """Hosts run plain node, which knows nothing of yarn's Plug'n'Play."""
        return {"YARN_ENABLE_TELEMETRY": "0", "YARN_NODE_LINKER": "node-modules"} if self.is_berry else {}


_QUIET_YARN = ["--non-interactive", "--no-progress"]


# -- which one -----------------------------------------------------------------------------------------------------------------


def recognize(root: Path, chosen: str | None) -> PackageManager:
    """Refuses when it is not clear which lock file counts."""
    locks = [name for name in LOCK_FILES if (root / name).is_file()]
    declared, version = _declared(root)
    managers = list(dict.fromkeys(LOCK_FILES[lock] for lock in locks))
    name = chosen or declared or (managers[0] if managers else "npm")
    if not (chosen or declared) and len(managers) > 1:
        raise UsageError(f"{' and '.join(locks)}: which lock file counts?", where=str(root), next=_SET_IT)
    lock = next((lock for lock in locks if LOCK_FILES[lock] == name), "")
    if locks and not lock:
        raise UsageError(
            f"the package manager is {name}, and the lock file is {' and '.join(locks)}",
            where=str(root),
            next=f"make the lock file of {name}, or set package_manager: {managers[0]}",
        )
    version = version if declared == name else ""
    berry = name == "yarn" and _is_berry(root, version)
    return PackageManager(name, lock, version, version.split(".")[0] or _major(root, name, berry), berry)


def _declared(root: Path) -> tuple[str, str]:
    """`packageManager` of package.json: the name and the version, both perhaps empty."""
    written = read_package(root).get("packageManager")
    if written is None:
        return "", ""
    found = _VERSION.fullmatch(str(written))
    if not found:
        raise UsageError(
            f"packageManager {written!r} is not known",
            where=str(root / "package.json"),
            next=f"name one of {', '.join(NAMES)} with its version, such as pnpm@10.0.0",
        )
    return found[1], found[2]


def _is_berry(root: Path, version: str) -> bool:
    if version:
        return not version.startswith(("0.", "1."))
    if (root / ".yarnrc.yml").is_file():
        return True
    lock = root / "yarn.lock"
    return lock.is_file() and "\n__metadata:" in lock.read_text(errors="replace")[:2000]


def _major(root: Path, name: str, berry: bool) -> str:
    if name == "yarn":
        return _of_lock(root / "yarn.lock", r"^__metadata:\s+version:\s*([0-9]+)", _YARN_OF_LOCK) if berry else "1"
    return _of_lock(root / "pnpm-lock.yaml", r"^lockfileVersion:\s*'?([0-9]+)", _PNPM_OF_LOCK) if name == "pnpm" else ""


def _of_lock(lock: Path, expression: str, versions: Mapping[str, str]) -> str:
    """The manager's version for the version of a lock file; empty where any will do."""
    text = lock.read_text(errors="replace")[:2000] if lock.is_file() else ""
    found = re.search(expression, text, re.M)
    return versions.get(found[1], "") if found else ""


def read_package(directory: Path) -> dict[str, Any]:
    """package.json; empty where there is none."""
    path = directory / "package.json"
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not valid JSON: {error}", where=str(path)) from None
    if not isinstance(content, dict):
        raise UsageError("should be a JSON object", where=str(path))
    return content


# -- how it is started ------------------------------------------------------------------------------------------------------


def provide(manager: PackageManager, commands: Commands, shims: Path) -> Commands:
    """The commands with the manager in their PATH: the program that is there if its version fits, else by corepack or npx."""
    commands = commands.knowing(**manager.environment)
    words = _words(manager, commands)
    if words is None:
        return commands
    shims.mkdir(parents=True, exist_ok=True)
    line = shlex.join(words)
    (shims / manager.name).write_text(f'#!/bin/sh\nexec {line} "$@"\n')
    (shims / manager.name).chmod(0o755)
    (shims / f"{manager.name}.cmd").write_text(f"@{line} %*\r\n")
    return commands.knowing(PATH=f"{shims}{os.pathsep}{commands.env.get('PATH', os.defpath)}")


def run_manager(manager: PackageManager, arguments: list[str], commands: Commands) -> None:
    """CI keeps pnpm from asking before it replaces what is installed."""
    own = commands.without("NODE_ENV")
    own = own.knowing(CI="true") if manager.name == "pnpm" else own
    own.run([manager.name, *arguments])


def _words(manager: PackageManager, commands: Commands) -> tuple[str, ...] | None:
    """What stands for the manager's name; None where that is in PATH and fits."""
    if manager.is_berry and (own := _yarn_path(commands.directory)):
        return ("node", str(commands.directory / own))
    version = _version_here(manager, commands) if manager.name != "npm" else ""
    if manager.name == "npm" or (version and _fits(version, manager)):
        return None
    words = _download(manager, commands)
    found = f"{manager.name} {version} is here" if version else f"{manager.name} is not installed here"
    commands.say(f"{found}; {manager.title} comes from {words[0]}")
    return words


def _download(manager: PackageManager, commands: Commands) -> tuple[str, ...]:
    """npx, which comes with npm; older releases of corepack do not know today's signatures."""
    if commands.find("npx"):
        # yarn's package has two programs.
        program = ("--package", manager.package, "--", "yarn") if manager.is_berry else (manager.package,)
        return ("npx", "--yes", *program)
    if manager.name in ("pnpm", "yarn") and commands.find("corepack"):
        return ("corepack", f"{manager.name}@{manager.version or manager.major or 'stable'}")
    raise PreflightError(f"{manager.title} is missing here", next=f"npm install -g {manager.package}")


def _version_here(manager: PackageManager, commands: Commands) -> str:
    if commands.find(manager.name) is None:
        return ""
    quiet = commands.knowing(COREPACK_ENABLE_NETWORK="0", **manager.environment)
    return (quiet.output([manager.name, "--version"]) or "").strip()


def _fits(version: str, manager: PackageManager) -> bool:
    if manager.version:
        return version == manager.version
    major = version.split(".")[0]
    if manager.name == "yarn":
        return (major not in ("0", "1")) == manager.is_berry
    # A newer pnpm reads what an older one wrote, from 9 on.
    return not manager.major or major == manager.major or int(manager.major) >= 9 <= _number(major)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _yarn_path(root: Path) -> str:
    """The yarn that lies in the repository."""
    settings = root / ".yarnrc.yml"
    text = settings.read_text(errors="replace") if settings.is_file() else ""
    found = re.search(r"^yarnPath:\s*[\"']?([^\"'\n#]+)", text, re.M)
    return found[1].strip() if found and (root / found[1].strip()).is_file() else ""


def refuse_outside(root: Path, members: Mapping[str, dict[str, Any]]) -> None:
    """A dependency that lies beside the app's directory is not there in the build."""
    for member, package in members.items():
        for kind in ("dependencies", "devDependencies", "optionalDependencies"):
            for name, wanted in (package.get(kind) or {}).items():
                found = re.fullmatch(r"(?:file|link|portal):(.+)", str(wanted))
                if found and not (root / member / found[1]).resolve().is_relative_to(root.resolve()):
                    raise BuildError(
                        f"dependency '{name}' lies outside of the app's directory: {wanted}",
                        where=str(root / member / "package.json"),
                        next="set app_path to the directory that holds both, or make them workspaces",
                    )
