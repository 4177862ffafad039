"""Build an app once into an archive named by its content; the same source is never built twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from percore.deploy.build.artifact import Artifact, Cache
from percore.deploy.build.commands import Commands, Say, build_environment
from percore.deploy.build.copies import clone_tree, copy_entries, empty_but_dependencies
from percore.deploy.build.git import Commit, Repository, find_repository, hide_from_git
from percore.deploy.build.node import NodeBuild, is_node, plan_node
from percore.deploy.build.pack import pack
from percore.deploy.build.package_manager import provide
from percore.deploy.build.python import BuildTarget, install_python, is_python, this_machine, with_packages
from percore.deploy.build.rules import Rules, directories_of_project, source_rules
from percore.deploy.build.source_tree import BuildError, Tree, describe, hash_tree, read_tree
from percore.deploy.build.workspace import Source, find_source
from percore.deploy.plan.settings import AppSettings
from percore.errors import PreflightError, UsageError
from percore.packages import can_install, install_packages
from percore.supervisor.config.app_bounds import PROCESS_FILES

_FORMAT = 2
"""Raised when the archive of the same source is to look different."""

_IN_THE_RESULT = (
    "build_command", "install_command", "install_production_command", "package_manager", "process_file", "artifact_exclude",
    "artifact_include",
)  # fmt: skip


def build(settings: AppSettings, project: Path, say: Say, target: BuildTarget | None = None) -> Artifact:
    """The artifact of the app's present source: from the cache, or built now. Errors end in one line each.

    `target` is the kind of host for which the wheels of a Python app are; without one, this machine.
    """
    if not settings.path.is_dir():
        raise UsageError(f"app directory '{settings.path}' does not exist", next="set app_path in the inventory")
    try:
        return _make(settings, project, say, target).artifact()
    except OSError as error:
        raise describe(error) from None


def hash_source(settings: AppSettings, project: Path) -> str:
    """One hash over every source file and what else decides the result: commands, variables and the machine's kind."""
    return _make(settings, project, lambda _: None, None).hash


def needs_target(settings: AppSettings) -> bool:
    """Whether the artifact is made for one kind of host."""
    return is_python(Source(settings.path))


def _make(settings: AppSettings, project: Path, say: Say, target: BuildTarget | None) -> _Build:
    hide_from_git(project / ".percore")
    cache = Cache(project / ".percore" / "build" / settings.name)
    commands = Commands(settings.path, build_environment(settings.build_env, cache.root), say)
    repository = find_repository(settings.path, commands)
    source = find_source(settings.path, repository.top if repository else None)
    if repository and source.inner:
        repository = find_repository(source.root, commands)
    return _Build(
        settings, cache, commands, repository, source, target or this_machine(settings.python_version), project
    )


@dataclass(frozen=True)
class _Build:
    """One build: what is built, where, and with what."""

    settings: AppSettings
    cache: Cache
    commands: Commands
    repository: Repository | None
    source: Source
    target: BuildTarget
    project: Path

    @property
    def work(self) -> Path:
        """The copy of the source; in a repository at its own place, as git expects it."""
        return self.cache.work / (self.repository.prefix if self.repository else "")

    @cached_property
    def rules(self) -> Rules:
        is_built = bool(self.settings.build_command) or is_node(self.source)
        shared = [self.source.within(name) for name in self.settings.shared]
        apart = [*shared, *directories_of_project(self.source.root, self.project, self.settings.deploy_to)]
        return source_rules(self.settings, self.source.root, self.repository, apart, has_build=is_built)

    @cached_property
    def tree(self) -> Tree:
        return read_tree(self.source.root, self.rules.leaves_out)

    @cached_property
    def is_python(self) -> bool:
        return is_python(self.source)

    @cached_property
    def hash(self) -> str:
        return self._hash(self.source.root, self.tree, self.target)

    def _hash(self, directory: Path, tree: Tree, target: BuildTarget | None) -> str:
        wish = [
            _FORMAT, [getattr(self.settings, name) for name in _IN_THE_RESULT], sorted(self.settings.build_env.items()),
            platform.system(), platform.machine(), self.source.inner, target if self.is_python else None,
        ]  # fmt: skip
        return hash_tree(directory, tree, hashlib.sha256(json.dumps(wish).encode()).digest())

    def artifact(self) -> Artifact:
        for line in self.tree.left_out:
            self.commands.say(f"left out: {line}")
        commit = self.repository.commit() if self.repository else None
        if commit:
            self.commands.say(f"commit {commit.text}")
        cached = self.cache.find(self.hash, commit)
        return cached or self._build(commit)

    def _build(self, commit: Commit | None) -> Artifact:
        started = time.monotonic()
        say = self.commands.say
        if self.rules.skipped:
            say(f"ignored by git and left out: {self.rules.skipped_text} (artifact_include takes files along)")
        self._copy()
        node = plan_node(self.settings, self.source, self.tree.names, self.work) if is_node(self.source) else None
        commands = self.commands.at(self.work)
        if node:
            check_node(commands)
            commands = provide(node.manager, commands, self.cache.shims)
        self._run(node, commands)
        artifact = self._pack(node, commit, commands)
        say(f"built {artifact.size_text} in {time.monotonic() - started:.1f} s")
        return artifact

    def _copy(self) -> None:
        """Make `work` the app's source, but for the dependencies installed there before."""
        empty_but_dependencies(self.cache.work)
        copy_entries(self.source.root, self.tree.entries, self.work)
        rules = Rules(self.rules.spec, self.rules.include, self.rules.ignored)
        if self._hash(self.work, read_tree(self.work, rules.leaves_out), self.target) != self.hash:
            raise BuildError(
                "the app's files changed while they were copied; nothing was deployed", next="deploy again"
            )
        if self.repository:
            self.repository.lend(self.cache.work)

    def _run(self, node: NodeBuild | None, commands: Commands) -> None:
        if self.is_python:
            install_python(self.source, self.work, self.target, commands)
        if node:
            node.install(commands, self.tree.names)
            node.build(commands)
        elif self.settings.build_command:
            app = self.work / self.source.inner
            commands = with_packages(app, commands) if self.is_python else commands
            commands.at(app).shell(self.settings.build_command)

    def _pack(self, node: NodeBuild | None, commit: Commit | None, commands: Commands) -> Artifact:
        """Archive the built tree with its production dependencies."""
        stage = self.cache.stage
        for line in clone_tree(self.work, stage).left_out:
            commands.say(f"left out: {line}")
        if node:
            node.prune(commands, stage)
        process_file = find_process_file(self.settings, self.source, stage)
        archive = pack(self.settings, stage, self.cache.root / f".{os.getpid()}.tar.gz", commands.say)
        artifact = Artifact(
            archive.sha256, archive.path, archive.path.stat().st_size, archive.unpacked_bytes, stage, process_file,
            is_node(self.source), was_built=True, inner=self.source.inner,
            digest=self._hash(self.source.root, self.tree, None) if self.is_python else archive.sha256,
            python=self.target.title if self.is_python else "", commit=commit,
        )  # fmt: skip
        _check_built(self.settings, artifact)
        return self.cache.keep(self.hash, artifact)


def check_node(commands: Commands) -> None:
    """Name every missing tool with the command that installs it; as root on Debian, install it."""
    missing = [tool for tool in ("node", "npm") if commands.find(tool) is None]
    if not missing:
        return
    packages = ["nodejs" if tool == "node" else tool for tool in missing]
    if can_install():
        install_packages(packages, "the build")
        return
    command = f"sudo apt-get install -y {' '.join(packages)}"
    advice = command if commands.find("apt-get") else "install Node.js from https://nodejs.org"
    raise PreflightError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing here", next=advice)


def find_process_file(settings: AppSettings, source: Source, tree: Path) -> str:
    """Its name from the top of the tree. The build may make it."""
    names = [settings.process_file] if settings.process_file else list(PROCESS_FILES)
    places = list(dict.fromkeys(place for name in names for place in (source.within(name), name)))
    for name in places:
        if (tree / name).is_file():
            return name
    wanted = settings.process_file or f"{PROCESS_FILES[0]} or one of its variants"
    raise UsageError(f"there is no process file ({wanted})", where=str(settings.path), next="write one")


@contextlib.contextmanager
def naming_the_source(settings: AppSettings, artifact: Artifact) -> Iterator[None]:
    """Faults of the process file name the app's own one: the built copy is read, but not the directory to fix it."""
    try:
        yield
    except UsageError as error:
        error.where = error.where.replace(str(artifact.tree / artifact.inner), str(settings.path))
        error.next = error.next or "fix that file (docs/reference/process-file.md) and deploy again"
        raise


def _check_built(settings: AppSettings, artifact: Artifact) -> None:
    """Every script that the process file names must be in the built tree."""
    from percore.supervisor.config.process_file import load_process_file

    with naming_the_source(settings, artifact):
        apps = load_process_file(str(artifact.tree / artifact.process_file)).apps
    for app in apps:
        script = Path(app.cwd) / app.script
        if "/" in app.script and not script.exists() and script.is_relative_to(artifact.tree):
            missing = script.relative_to(artifact.tree)
            raise BuildError(
                f"the build left no '{missing}', which app '{app.name}' runs; nothing was deployed",
                where=artifact.process_file,
                next="check the build command and its output; what git ignores is deployed only if artifact_include names it",
            )
        if not Path(app.cwd).is_relative_to(artifact.tree) and not Path(app.script).is_absolute():
            raise BuildError(
                f"app '{app.name}' runs in {app.cwd}, which is outside of the release; nothing was deployed",
                where=artifact.process_file,
                next="remove 'cwd', or write it relative to the process file",
            )
