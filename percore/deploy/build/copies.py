"""Copies of trees below the build's directory. Installed dependencies are linked, not copied: they are many."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from percore.deploy.build.source_tree import DIRECTORY, Entry, Tree, read_tree

DEPENDENCIES = "node_modules"


def _copy(source: Path, target: Path) -> None:
    shutil.copy2(source, target, follow_symlinks=False)


def copy_entries(
    source: Path, entries: Iterable[Entry], target: Path, copy: Callable[[Path, Path], object] = _copy
) -> None:
    for entry in entries:
        place = target / entry.name
        if entry.type == DIRECTORY:
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        copy(source / entry.name, place)


def empty_but_dependencies(directory: Path) -> None:
    """Remove everything but the dependencies installed there and in its workspaces."""
    directory.mkdir(parents=True, exist_ok=True)
    for entry in os.scandir(directory):
        if entry.name == DEPENDENCIES:
            continue
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.path)
        elif _holds_dependencies(entry.path):
            empty_but_dependencies(Path(entry.path))
        else:
            shutil.rmtree(entry.path)


def _holds_dependencies(directory: str) -> bool:
    return any(DEPENDENCIES in directories for _, directories, _ in os.walk(directory))


def clone_tree(source: Path, target: Path) -> Tree:
    """The whole tree but for `.git`; what lies in `node_modules` shares its contents with the source."""
    tree = read_tree(source, lambda name: name == ".git/")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    copy_entries(source, tree.entries, target, copy=_link_or_copy)
    return tree


def _link_or_copy(source: Path, target: Path) -> None:
    parts = source.parts
    # A manager writes its own notes (.package-lock.json, .modules.yaml) in place.
    is_note = parts[-2] == DEPENDENCIES and parts[-1].startswith(".")
    if DEPENDENCIES in parts and not is_note:
        try:
            os.link(source, target, follow_symlinks=False)
            return
        except OSError:
            pass  # other file systems have no such links, or a file has too many
    _copy(source, target)
