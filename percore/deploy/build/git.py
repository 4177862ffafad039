"""git's part in a build: which commit is built, what is ignored, and a repository for the build to ask."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from percore.deploy.build.commands import Commands

WRITTEN = ("build/nginx", "build/image", "build/kubernetes")
"""What percore itself writes into a project is no change of the app, and no part of it."""

_OURS = tuple(f":(exclude,top,glob)**/{name}/**" for name in (".percore", *WRITTEN))

_GIT = ("git", "--no-optional-locks", "-c", "safe.directory=*", "-c", "core.quotePath=false")
"""In CI a checkout often belongs to another user. That guards programs which git starts; the build starts the app's own."""


class Commit(NamedTuple):
    """What was built. `branch` is empty in a detached checkout."""

    sha: str
    branch: str
    is_dirty: bool

    @property
    def text(self) -> str:
        return describe_commit(self._asdict())


def describe_commit(commit: Mapping[str, Any] | None) -> str:
    """`1a2b3c4 main, with uncommitted changes`; empty without a commit."""
    if not commit:
        return ""
    branch = f" {commit['branch']}" if commit["branch"] else ""
    return f"{commit['sha'][:7]}{branch}{', with uncommitted changes' if commit['is_dirty'] else ''}"


@dataclass(frozen=True)
class Repository:
    """The repository in which the app lies. `prefix` is the app's directory in it, empty for the top."""

    top: Path
    prefix: str
    commands: Commands

    def git(self, *words: str) -> str | None:
        return self.commands.output([*_GIT, *words])

    def commit(self) -> Commit | None:
        """None before the first commit."""
        sha = self.git("rev-parse", "--verify", "-q", "HEAD")
        if not sha:
            return None
        branch = (self.git("symbolic-ref", "-q", "--short", "HEAD") or "").strip()
        changes = self.git("status", "--porcelain", "--", ".", *_OURS)
        return Commit(sha.strip(), branch, changes is None or bool(changes.strip()))

    def ignored(self) -> list[str]:
        """Files and directories (with a slash at the end) that git ignores, from the app's directory on."""
        found = self.git("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
        return [name for name in (found or "").split("\0") if name]

    def tracks(self, name: str) -> bool:
        return bool(self.git("ls-files", "-z", "--", f":(literal){name}"))

    def lend(self, work: Path) -> None:
        """A repository of its own for the build, at the same commit, so that nothing there changes the app's."""
        lent = work / ".git"
        shutil.rmtree(lent, ignore_errors=True)
        bare = work.with_name(f"{work.name}.git")
        shutil.rmtree(bare, ignore_errors=True)
        if self.git("clone", "-q", "--shared", "--no-checkout", str(self.top), str(bare)) is None:
            return
        (bare / ".git").rename(lent)
        shutil.rmtree(bare)
        origin = self.git("remote", "get-url", "origin")
        inner = Repository(work, "", self.commands.at(work).without("GIT_CEILING_DIRECTORIES"))
        inner.git("remote", "set-url", "origin", origin.strip()) if origin else inner.git("remote", "remove", "origin")
        inner.git("reset", "-q", "--mixed")
        if self.prefix:
            inner.git("sparse-checkout", "set", "--no-cone", f"/{self.prefix}/")


def hide_from_git(directory: Path) -> None:
    """What percore writes into a project by itself, no commit shall take along."""
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError), (directory / ".gitignore").open("x") as file:
        file.write("*\n")


def find_repository(app: Path, commands: Commands) -> Repository | None:
    """None where the app is in none, or where git ignores it: then the repository around it is not the app's."""
    here = commands.at(app).without("GIT_CEILING_DIRECTORIES")
    if here.find("git") is None:
        return None
    top = here.output([*_GIT, "rev-parse", "--show-toplevel"])
    if not top or here.output([*_GIT, "check-ignore", "-q", "."]) is not None:
        return None
    root = Path(top.rstrip("\n"))
    with contextlib.suppress(ValueError):
        prefix = os.path.relpath(app.resolve(), root.resolve())
        return Repository(root, "" if prefix == "." else prefix.replace(os.sep, "/"), here)
    return None
