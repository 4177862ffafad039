"""A built app and its cache. Everything lies below `.percore/build/<app>/`, never in the app's own directory.

`work/` is a copy of the source with all dependencies, where the build runs; `stage/` is what becomes the archive.
`artifacts/` keeps the archives, `sources/` remembers which source gave which archive, `trees/` has them unpacked.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from percore.deploy.build.git import Commit
from percore.deploy.build.python import PYTHON_PACKAGES

KEEP_ARTIFACTS = 5
_NOTED = ("sha256", "bytes", "unpacked_bytes", "process_file", "is_node", "digest", "inner", "python")


@dataclass(frozen=True)
class Artifact:
    """A built app. Sizes in bytes; `tree` is its unpacked copy on this machine, where the process file is read.

    `digest` is what the ids of its releases end with: its own hash, or that of its source where other kinds of hosts need other
    wheels. `inner` is the app's directory in it, `python` the kind of host that its wheels are for; both may be empty.
    """

    sha256: str
    path: Path
    bytes: int
    unpacked_bytes: int
    tree: Path
    process_file: str
    is_node: bool
    was_built: bool
    digest: str
    inner: str = ""
    python: str = ""
    commit: Commit | None = None

    @property
    def has_python_packages(self) -> bool:
        return (self.tree / self.python_packages).is_dir()

    @property
    def python_packages(self) -> str:
        return self.within(PYTHON_PACKAGES)

    def within(self, name: str) -> str:
        """A name in the app's directory, from the top of the tree on."""
        return f"{self.inner}/{name}" if self.inner else name

    @property
    def size_text(self) -> str:
        return f"{self.bytes / 1e6:.1f} MB"


@dataclass(frozen=True)
class Cache:
    """The directories of one app's builds."""

    root: Path

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def stage(self) -> Path:
        return self.root / "stage"

    @property
    def shims(self) -> Path:
        return self.root / "bin"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    def tree(self, sha256: str) -> Path:
        return self.root / "trees" / sha256[:16]

    def _note(self, source: str) -> Path:
        return self.root / "sources" / f"{source}.json"

    def find(self, source: str, commit: Commit | None) -> Artifact | None:
        """What was built of this source, if it is whole."""
        try:
            note = json.loads(self._note(source).read_text())
            path = self.artifacts / f"{note['sha256']}.tar.gz"
            tree = self.tree(note["sha256"])
            if path.stat().st_size != note["bytes"] or not (tree / note["process_file"]).is_file():
                return None
            os.utime(path)
            return Artifact(path=path, tree=tree, was_built=False, commit=commit, **note)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, source: str, artifact: Artifact) -> Artifact:
        """Take the archive and its tree in, under the name of its content; the oldest others go."""
        self.artifacts.mkdir(parents=True, exist_ok=True)
        path, tree = self.artifacts / f"{artifact.sha256}.tar.gz", self.tree(artifact.sha256)
        artifact.path.rename(path)
        tree.parent.mkdir(exist_ok=True)
        shutil.rmtree(tree, ignore_errors=True)
        artifact.tree.rename(tree)
        kept = replace(artifact, path=path, tree=tree)
        note = self._note(source)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({name: getattr(kept, name) for name in _NOTED}))
        self._prune()
        return kept

    def _prune(self) -> None:
        archives = sorted(self.artifacts.glob("*.tar.gz"), key=lambda entry: entry.stat().st_mtime, reverse=True)
        for old in archives[KEEP_ARTIFACTS:]:
            old.unlink()
            shutil.rmtree(self.tree(old.name.split(".")[0]), ignore_errors=True)
