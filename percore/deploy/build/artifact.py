"""Build an app once into an archive named by its content; the same source is never built twice.

Everything happens below `.percore/build/<app>/`, never in the app's own directory: `work/` is a copy of the sources with
all dependencies, where the build runs; `production/` holds only the dependencies that the app needs at run time.
`artifacts/` keeps the archives, `sources/` remembers which source gave which archive, `tree/` is the last built tree.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import platform
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from percore.deploy.build.source_tree import BuildError, Tree, describe, hash_file, hash_tree, read_tree, write_tar
from percore.deploy.build.tools import (
    PYTHON_PACKAGES,
    BuildDirectory,
    Say,
    build_node,
    check_tools,
    install_python,
    is_node,
)
from percore.deploy.plan.settings import AppSettings
from percore.errors import UsageError

MADE = ("dist", "build")
"""Results of an earlier build in the app's own directory; built again, so that a missing result is noticed."""

PROCESS_FILES = ("ecosystem.config.js", "ecosystem.config.cjs", "ecosystem.json", "ecosystem.yml", "ecosystem.yaml")
KEEP_ARTIFACTS = 5


@dataclass(frozen=True)
class Artifact:
    """A built app. Sizes in bytes; `tree` is its unpacked copy on this machine, where the process file is read."""

    sha256: str
    path: Path
    bytes: int
    unpacked_bytes: int
    tree: Path
    process_file: str
    is_node: bool
    was_built: bool

    @property
    def has_python_packages(self) -> bool:
        return (self.tree / PYTHON_PACKAGES).is_dir()

    @property
    def size_text(self) -> str:
        return f"{self.bytes / 1e6:.1f} MB"


def build(settings: AppSettings, project: Path, say: Say) -> Artifact:
    """The artifact of the app's present source: from the cache, or built now. Errors end in one line each."""
    app = settings.path
    if not app.is_dir():
        raise UsageError(f"app directory '{app}' does not exist", next="set app_path in the inventory")
    try:
        return _build(settings, BuildDirectory(project / ".percore" / "build" / settings.name), say)
    except OSError as error:
        raise describe(error) from None


def _build(settings: AppSettings, directory: BuildDirectory, say: Say) -> Artifact:
    app, tree = settings.path, read_tree(settings.path, MADE)
    _tell_left_out(tree, say)
    source = _hash(settings, app, tree)
    cached = _read_note(directory, source)
    if cached is not None:
        return cached
    check_tools(app)
    started = time.monotonic()
    _copy_source(app, tree, directory.work)
    if _hash(settings, directory.work, read_tree(directory.work, MADE)) != source:
        raise BuildError("the app's files changed while they were copied; nothing was deployed", next="deploy again")
    if is_node(app):
        build_node(settings, directory, say)
    if (app / "requirements.txt").is_file():
        install_python(directory, say)
    artifact = _pack(settings, directory, source, say)
    say(f"built {artifact.size_text} in {time.monotonic() - started:.1f} s")
    return artifact


def _tell_left_out(tree: Tree, say: Say) -> None:
    for line in tree.left_out:
        say(f"left out: {line}")


def hash_source(settings: AppSettings) -> str:
    """One hash over every source file and what else decides the result: commands and the machine's kind."""
    return _hash(settings, settings.path, read_tree(settings.path, MADE))


def _hash(settings: AppSettings, directory: Path, tree: Tree) -> str:
    wish = [settings.build_command, settings.install_command, settings.process_file, settings.artifact_exclude]
    return hash_tree(directory, tree, json.dumps([wish, platform.system(), platform.machine(), _FORMAT]).encode())


_FORMAT = 1
"""Raised when the archive of the same source is to look different."""


def _copy_source(app: Path, tree: Tree, work: Path) -> None:
    """Make `work` the app's source, but for the dependencies installed there before."""
    work.mkdir(parents=True, exist_ok=True)
    for entry in work.iterdir():
        if entry.name != "node_modules":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    _copy(app, tree.names, work)


def _copy(source: Path, names: Iterable[str], target: Path) -> None:
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, target / name, follow_symlinks=False)


def _pack(settings: AppSettings, directory: BuildDirectory, source: str, say: Say) -> Artifact:
    """Archive the built tree with its production dependencies, and keep an unpacked copy without those."""
    process_file = find_process_file(settings)
    directory.artifacts.mkdir(parents=True, exist_ok=True)
    temporary = directory.artifacts / f".{os.getpid()}.tar.gz"
    built = read_tree(directory.work, settings.artifact_exclude)
    _tell_left_out(built, say)
    try:
        with (
            temporary.open("wb") as out,
            gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0, compresslevel=6) as packed,
        ):
            unpacked = write_tar(packed, _tree_entries(directory, built.names))
        content = hash_file(temporary, temporary.name).hex()
        path = directory.artifacts / f"{content}.tar.gz"
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    tree = directory.tree(content)
    shutil.rmtree(tree, ignore_errors=True)
    _copy(directory.work, built.names, tree)
    artifact = Artifact(
        content, path, path.stat().st_size, unpacked, tree, process_file, is_node(settings.path), was_built=True
    )
    _check_built(settings, artifact)
    _write_note(directory, source, artifact)
    return artifact


def find_process_file(settings: AppSettings) -> str:
    names = [settings.process_file] if settings.process_file else list(PROCESS_FILES)
    for name in names:
        if (settings.path / name).is_file():
            return name
    raise UsageError(f"there is no process file ({' or '.join(names)})", where=str(settings.path), next="write one")


@contextlib.contextmanager
def naming_the_source(settings: AppSettings, artifact: Artifact) -> Iterator[None]:
    """Faults of the process file name the app's own one: the built copy is read, but not the directory to fix it."""
    try:
        yield
    except UsageError as error:
        error.where = error.where.replace(str(artifact.tree), str(settings.path))
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
                next="check the build command and its output directory",
            )


def _tree_entries(directory: BuildDirectory, names: list[str]) -> Iterator[tuple[str, Path]]:
    yield from ((name, directory.work / name) for name in names)
    modules = directory.production / "node_modules"
    if modules.is_dir():
        for name in read_tree(modules, keep_all=True).names:
            if name != ".percore-installed":
                yield f"node_modules/{name}", modules / name


def _read_note(directory: BuildDirectory, source: str) -> Artifact | None:
    try:
        note = json.loads(directory.note(source).read_text())
        path = directory.artifacts / f"{note['sha256']}.tar.gz"
        if path.stat().st_size != note["bytes"]:
            return None
        tree = directory.tree(note["sha256"])
        if not (tree / note["process_file"]).is_file():
            return None
        os.utime(path)
        return Artifact(path=path, tree=tree, was_built=False, **note)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_note(directory: BuildDirectory, source: str, artifact: Artifact) -> None:
    note = {name: getattr(artifact, name) for name in ("sha256", "bytes", "unpacked_bytes", "process_file", "is_node")}
    path = directory.note(source)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(note))
    archives = sorted(directory.artifacts.glob("*.tar.gz"), key=lambda entry: entry.stat().st_mtime, reverse=True)
    for old in archives[KEEP_ARTIFACTS:]:
        old.unlink()
        shutil.rmtree(directory.tree(old.name.split(".")[0]), ignore_errors=True)
