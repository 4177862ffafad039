"""Directories that outlive releases: a release has a link where its app expects one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from percore.host.paths import remove_tree


def link_shared(tree: str, directory: str, shared: Mapping[str, str]) -> Iterator[str]:
    """Link places of a release's `tree` to names in the `directory` beside the releases. Yields what had to go for it."""
    for place, name in shared.items():
        path = os.path.join(tree, place)
        if os.path.lexists(path):
            if not os.path.isdir(path) or os.listdir(path):
                yield f"'{place}' of the release is left out: a link to shared/{name} takes its place"
            _remove(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        parent = os.path.realpath(os.path.dirname(path))
        os.symlink(os.path.relpath(os.path.join(os.path.realpath(directory), name), parent), path)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        remove_tree(path)
    else:
        os.unlink(path)
