"""Build an app once into an archive named by its content; the same source is never built twice.

Everything happens below `.percore/build/<app>/`, never in the app's own folder: `work/` is a copy of the sources with
all dependencies, where the build runs; `production/` holds only the dependencies that the app needs at run time.
`artifacts/` keeps the archives, `sources/` remembers which source gave which archive, `tree/` is the last built tree.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percore.common.passwords import for_programs
from percore.deploy.build.source_tree import BuildError, Tree, describe, hash_file, hash_tree, read_tree, write_tar
from percore.deploy.plan.settings import AppSettings
from percore.errors import PreflightError, UsageError

Say = Callable[[str], None]

MADE = ("dist", "build")
"""Results of an earlier build in the app's own folder; built anew, so that a missing result is noticed."""

PYTHON_PACKAGES = "python_packages"
PROCESS_FILES = ("ecosystem.config.js", "ecosystem.config.cjs", "ecosystem.json", "ecosystem.yml", "ecosystem.yaml")
KEEP_ARTIFACTS = 5
DEPENDENCIES = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies", "workspaces")
BUILD_SECONDS = 1800
OUTPUT_LINES = 15


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


@dataclass(frozen=True)
class _Place:
    """The folders of one app's builds."""

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


def build(settings: AppSettings, project: Path, say: Say) -> Artifact:
    """The artifact of the app's present source: from the cache, or built now. Errors end in one line each."""
    app = settings.path
    if not app.is_dir():
        raise UsageError(f"app folder '{app}' does not exist", next="set app_path in the inventory")
    try:
        return _build(settings, _Place(project / ".percore" / "build" / settings.name), say)
    except OSError as error:
        raise describe(error) from None


def _build(settings: AppSettings, place: _Place, say: Say) -> Artifact:
    app, tree = settings.path, read_tree(settings.path, MADE)
    _tell_left_out(tree, say)
    source = _hash(settings, app, tree)
    cached = _read_note(place, source)
    if cached is not None:
        return cached
    check_tools(app, say)
    started = time.monotonic()
    _copy_source(app, tree, place.work)
    if _hash(settings, place.work, read_tree(place.work, MADE)) != source:
        raise BuildError("the app's files changed while they were copied; nothing was deployed", next="deploy again")
    if _is_node(app):
        _build_node(settings, place, say)
    if (app / "requirements.txt").is_file():
        _install_python(place, say)
    artifact = _pack(settings, place, source, say)
    say(f"built {artifact.size_text} in {time.monotonic() - started:.1f} s")
    return artifact


def _tell_left_out(tree: Tree, say: Say) -> None:
    for line in tree.left_out:
        say(f"left out: {line}")


def hash_source(settings: AppSettings) -> str:
    """One hash over every source file and what else decides the result: commands and the machine's kind."""
    return _hash(settings, settings.path, read_tree(settings.path, MADE))


def _hash(settings: AppSettings, folder: Path, tree: Tree) -> str:
    wish = [settings.build_command, settings.install_command, settings.process_file, settings.artifact_exclude]
    return hash_tree(folder, tree, json.dumps([wish, platform.system(), platform.machine(), _FORMAT]).encode())


_FORMAT = 1
"""Raised when the archive of the same source is to look different."""


def check_tools(app: Path, say: Say) -> None:
    """Name every missing tool with the command that installs it; as root on Debian, install it."""
    needed = ["node", "npm"] if _is_node(app) else []
    missing = [tool for tool in needed if shutil.which(tool) is None]
    if not missing:
        return
    packages = ["nodejs" if tool == "node" else tool for tool in missing]
    command = f"apt-get install -y {' '.join(packages)}"
    if shutil.which("apt-get") and os.geteuid() == 0:
        say(command)
        _run(["apt-get", "install", "-y", "-q", *packages], Path("/"), what="installing the tools")
        return
    advice = f"sudo {command}" if shutil.which("apt-get") else "install Node.js from https://nodejs.org"
    raise PreflightError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing here", next=advice)


def _build_node(settings: AppSettings, place: _Place, say: Say) -> None:
    command = settings.build_command or (
        "npm run build" if "build" in _package_json(settings.path).get("scripts", {}) else None
    )
    if command is not None:
        _install_node(place.work, _install_words(settings), say)
        say(command)
        _run(command.split(), place.work, what=f"'{command}'")
    _install_production(settings, place, say)


def _install_words(settings: AppSettings) -> list[str]:
    if settings.install_command:
        return settings.install_command.split()
    locked = (settings.path / "package-lock.json").is_file()
    # Without a lock file none may appear: the next build of the same source would find it and differ.
    return ["npm", *(["ci"] if locked else ["install", "--no-package-lock"]), "--no-audit", "--no-fund"]


def _install_node(folder: Path, words: list[str], say: Say) -> None:
    """Install dependencies unless the same ones were installed there by the same command."""
    if not any(_package_json(folder).get(key) for key in DEPENDENCIES):
        return
    wish = hashlib.sha256(json.dumps(words).encode())
    for name in ("package.json", "package-lock.json", ".npmrc"):
        wish.update((folder / name).read_bytes() if (folder / name).is_file() else b"-")
    stamp = folder / "node_modules" / ".percore-installed"
    if stamp.is_file() and stamp.read_text() == wish.hexdigest():
        return
    say(" ".join(words))
    _run(words, folder, what=f"'{' '.join(words[:2])}'")
    stamp.parent.mkdir(exist_ok=True)  # when all dependencies are left out, there is no such folder
    stamp.write_text(wish.hexdigest())


def _install_production(settings: AppSettings, place: _Place, say: Say) -> None:
    place.production.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        if (settings.path / name).is_file():
            shutil.copy2(settings.path / name, place.production / name)
    _install_node(place.production, [*_install_words(settings), "--omit=dev"], say)


def _install_python(place: _Place, say: Say) -> None:
    say("pip install -r requirements.txt")
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    target = place.work / PYTHON_PACKAGES
    shutil.rmtree(target, ignore_errors=True)
    _run([*words, "--target", str(target), "-r", "requirements.txt"], place.work, what="'pip install'")


def _run(words: Sequence[str], folder: Path, *, what: str) -> None:
    """A build step; when it fails, one line and the last lines of its own output."""
    try:
        done = subprocess.run(
            list(words),
            cwd=folder,
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
            next="mend it and deploy again",
            detail="\n".join(lines[-OUTPUT_LINES:]),
        )


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


def _pack(settings: AppSettings, place: _Place, source: str, say: Say) -> Artifact:
    """Archive the built tree with its production dependencies, and keep an unpacked copy without those."""
    process_file = find_process_file(settings)
    place.artifacts.mkdir(parents=True, exist_ok=True)
    temporary = place.artifacts / f".{os.getpid()}.tar.gz"
    built = read_tree(place.work, settings.artifact_exclude)
    _tell_left_out(built, say)
    try:
        with (
            temporary.open("wb") as out,
            gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0, compresslevel=6) as packed,
        ):
            unpacked = write_tar(packed, _tree_entries(place, built.names))
        content = hash_file(temporary, temporary.name).hex()
        path = place.artifacts / f"{content}.tar.gz"
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    tree = place.tree(content)
    shutil.rmtree(tree, ignore_errors=True)
    _copy(place.work, built.names, tree)
    artifact = Artifact(
        content, path, path.stat().st_size, unpacked, tree, process_file, _is_node(settings.path), was_built=True
    )
    _check_built(settings, artifact)
    _write_note(place, source, artifact)
    return artifact


def find_process_file(settings: AppSettings) -> str:
    names = [settings.process_file] if settings.process_file else list(PROCESS_FILES)
    for name in names:
        if (settings.path / name).is_file():
            return name
    raise UsageError(f"there is no process file ({' or '.join(names)})", where=str(settings.path), next="write one")


@contextlib.contextmanager
def naming_the_source(settings: AppSettings, artifact: Artifact) -> Iterator[None]:
    """Faults of the process file name the app's own one: the built copy is read, but not the place to mend it."""
    try:
        yield
    except UsageError as error:
        error.where = error.where.replace(str(artifact.tree), str(settings.path))
        error.next = error.next or "mend that file (docs/reference/process-file.md) and deploy again"
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
                next="check the build command and its output folder",
            )


def _tree_entries(place: _Place, names: list[str]) -> Iterator[tuple[str, Path]]:
    yield from ((name, place.work / name) for name in names)
    modules = place.production / "node_modules"
    if modules.is_dir():
        for name in read_tree(modules, keep_all=True).names:
            if name != ".percore-installed":
                yield f"node_modules/{name}", modules / name


def _is_node(app: Path) -> bool:
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


def _read_note(place: _Place, source: str) -> Artifact | None:
    try:
        note = json.loads(place.note(source).read_text())
        path = place.artifacts / f"{note['sha256']}.tar.gz"
        if path.stat().st_size != note["bytes"]:
            return None
        tree = place.tree(note["sha256"])
        if not (tree / note["process_file"]).is_file():
            return None
        os.utime(path)
        return Artifact(path=path, tree=tree, was_built=False, **note)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_note(place: _Place, source: str, artifact: Artifact) -> None:
    note = {name: getattr(artifact, name) for name in ("sha256", "bytes", "unpacked_bytes", "process_file", "is_node")}
    path = place.note(source)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(note))
    archives = sorted(place.artifacts.glob("*.tar.gz"), key=lambda entry: entry.stat().st_mtime, reverse=True)
    for old in archives[KEEP_ARTIFACTS:]:
        old.unlink()
        shutil.rmtree(place.tree(old.name.split(".")[0]), ignore_errors=True)
