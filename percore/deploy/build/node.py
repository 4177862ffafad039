"""A Node app: one install in the whole tree, the build command, then production dependencies by the manager's own means."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percore.deploy.build.commands import Commands
from percore.deploy.build.copies import DEPENDENCIES
from percore.deploy.build.package_manager import (
    PackageManager,
    recognize,
    refuse_outside,
    run_manager,
)
from percore.deploy.build.workspace import Source, node_members
from percore.deploy.masking import REDACTOR
from percore.deploy.plan.settings import AppSettings

STAMP = ".percore-installed"
"""Tells which dependencies were installed, and by which command."""

_KINDS = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies", "workspaces")
_LIFECYCLE = ("preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare")
_MANAGERS_FILES = (
    "package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "pnpm-workspace.yaml", "yarn.lock", "bun.lock", "bun.lockb",
    ".npmrc", ".yarnrc", ".yarnrc.yml", ".pnpmfile.cjs", "bunfig.toml",
)  # fmt: skip


def is_node(source: Source) -> bool:
    return (source.app / "package.json").is_file() or (source.root / "package.json").is_file()


@dataclass(frozen=True)
class NodeBuild:
    """One build of a Node app in `work`, a copy of the source with all dependencies."""

    settings: AppSettings
    source: Source
    manager: PackageManager
    members: Mapping[str, dict[str, Any]]
    work: Path

    @property
    def has_dependencies(self) -> bool:
        return any(package.get(kind) for package in self.members.values() for kind in _KINDS)

    def install(self, commands: Commands, names: Iterable[str]) -> None:
        """Install everything, unless the same was installed there by the same command."""
        if not self.has_dependencies:
            return
        if not self.manager.lock:
            commands.say("there is no lock file: another build may get other versions")
        hide_tokens(self.work, commands.env)
        stamp = self.work / DEPENDENCIES / STAMP
        wish = self._wish(names)
        if stamp.is_file() and stamp.read_text() == wish:
            return
        self._remove_dependencies(self.work)
        if self.settings.install_command:
            commands.without("NODE_ENV").shell(self.settings.install_command)
        else:
            run_manager(self.manager, self.manager.install(), commands)
        stamp.parent.mkdir(exist_ok=True)  # when all dependencies are left out, there is no such directory
        stamp.write_text(wish)

    def _wish(self, names: Iterable[str]) -> str:
        """What decides which dependencies are installed: manifests, lock file, settings, patches, and the command."""
        words = [self.settings.install_command, self.manager.title, self.manager.install(), sorted(self.members)]
        wish = hashlib.sha256(json.dumps(words).encode())
        for name in sorted(names):
            last = name.rsplit("/", 1)[-1]
            if last in ("package.json", *_MANAGERS_FILES) or "patches/" in name:
                wish.update(name.encode() + b"\0" + (self.work / name).read_bytes())
        return wish.hexdigest()

    def _remove_dependencies(self, tree: Path) -> None:
        """What an earlier build left would be mixed with what comes now."""
        for member in self.members:
            shutil.rmtree(tree / member / DEPENDENCIES, ignore_errors=True)

    def build(self, commands: Commands) -> None:
        """The build command in the app's directory: the setting, else the script `build`."""
        if self.settings.build_command:
            commands.at(self.work / self.source.inner).shell(self.settings.build_command)
            return
        directory, arguments = self._script()
        if arguments:
            commands.at(self.work / directory).run([self.manager.name, *arguments])

    def _script(self) -> tuple[str, list[str]]:
        """Where the script `build` runs: in a workspace that of the root comes first, since it knows what needs what."""
        has = {member: _has_script(package, "build") for member, package in self.members.items()}
        if self.source.inner and self.manager.name == "pnpm" and not has[""]:
            return "", ["--filter", f"{self._app_name}...", "run", "--if-present", "build"]
        place = next((member for member in ("", self.source.inner) if has.get(member)), None)
        return (place or "", ["run", "build"] if place is not None else [])

    @property
    def has_build(self) -> bool:
        return bool(self.settings.build_command or self._script()[1])

    @property
    def _app_name(self) -> str:
        """Of the workspace that is deployed; empty where it is all."""
        return str(self.members.get(self.source.inner, {}).get("name", "")) if self.source.inner else ""

    def prune(self, commands: Commands, stage: Path) -> None:
        """Leave in `stage`, a copy of the built tree, only what the app needs at run time."""
        if not self.has_dependencies:
            return
        if self.settings.install_production_command:
            commands.at(stage).without("NODE_ENV").shell(self.settings.install_production_command)
            return
        if self.manager.name == "bun":  # it removes nothing from what is installed
            self._remove_dependencies(stage)
        with _without_lifecycle(stage, self.members):
            run_manager(self.manager, self.manager.prune(self._app_name), commands.at(stage))


def _has_script(package: Mapping[str, Any], name: str) -> bool:
    scripts = package.get("scripts")
    return isinstance(scripts, dict) and bool(scripts.get(name))


def plan_node(settings: AppSettings, source: Source, names: list[str], work: Path) -> NodeBuild:
    members = node_members(source.root, names)
    refuse_outside(source.root, members)
    return NodeBuild(settings, source, recognize(source.root, settings.package_manager), members, work)


@contextlib.contextmanager
def _without_lifecycle(stage: Path, members: Mapping[str, dict[str, Any]]) -> Iterator[None]:
    """The app's own install scripts ran with all dependencies; they may need those for development."""
    kept: dict[Path, bytes] = {}
    for member, package in members.items():
        scripts = package.get("scripts")
        if isinstance(scripts, dict) and any(name in scripts for name in _LIFECYCLE):
            path = stage / member / "package.json"
            kept[path] = path.read_bytes()
            left = {name: line for name, line in scripts.items() if name not in _LIFECYCLE}
            path.write_text(json.dumps({**package, "scripts": left}, indent=2))
    try:
        yield
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def hide_tokens(work: Path, env: Mapping[str, str]) -> None:
    """Registry tokens are never shown: those in the managers' settings, and the variables that they name."""
    for name in (".npmrc", ".yarnrc", ".yarnrc.yml", "bunfig.toml"):
        path = work / name
        text = path.read_text(errors="replace") if path.is_file() else ""
        for line in text.splitlines():
            if re.search(r"auth|token|password", line, re.IGNORECASE):
                value = re.split(r"[=:]\s*", line, maxsplit=1)[-1].strip().strip("\"'")
                named = re.findall(r"\$\{?(\w+)", line)
                REDACTOR.hide([env.get(name, "") for name in named] or [value.rsplit("=", 1)[-1].strip("\"' ")])
