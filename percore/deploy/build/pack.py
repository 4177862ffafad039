"""The archive of a built tree, and what is said about it."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from percore.deploy.build.commands import Say
from percore.deploy.build.rules import Packing, is_dependency
from percore.deploy.build.source_tree import DIRECTORY, LINK, BuildError, Entry, hash_file, read_tree, shown, write_tar
from percore.deploy.plan.settings import AppSettings

LARGE_BYTES = 50_000_000
_LARGEST = 5


class PackedApp(NamedTuple):
    path: Path
    sha256: str
    unpacked_bytes: int


def pack(settings: AppSettings, stage: Path, path: Path, say: Say) -> PackedApp:
    """Write what is deployed of the staged tree to `path`."""
    packing = Packing(settings)
    built = read_tree(stage, packing.leaves_out)
    entries = [entry for entry in built.entries if entry.type != DIRECTORY or not is_dependency(entry.name)]
    for pattern in packing.idle(settings.artifact_exclude):
        say(f"warning: artifact_exclude: '{pattern}' matches nothing")
    _refuse_links_outside(stage, entries)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("wb") as out,
        gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0, compresslevel=6) as packed,
    ):
        unpacked = write_tar(packed, ((entry.name, stage / entry.name) for entry in entries))
    if path.stat().st_size > LARGE_BYTES:
        say(f"{path.stat().st_size / 1e6:.0f} MB; the largest parts, unpacked: {describe_largest(entries)}")
    return PackedApp(path, hash_file(path, path.name).hex(), unpacked)


def _refuse_links_outside(stage: Path, entries: Sequence[Entry]) -> None:
    """A host refuses them, too: root unpacks the archive."""
    top = os.path.realpath(stage)
    for entry in entries:
        if entry.type != LINK:
            continue
        target = os.readlink(stage / entry.name)
        real = os.path.realpath(os.path.join(top, os.path.dirname(entry.name), target))
        if os.path.isabs(target) or os.path.commonpath([real, top]) != top:
            raise BuildError(
                f"the link '{shown(entry.name)}' leads out of the app's directory, to {shown(target)}; nothing was deployed",
                next="copy what it leads to, or leave it out (artifact_exclude)",
            )


def describe_largest(entries: Iterable[Entry]) -> str:
    """The directories that hold most, two levels deep in dependencies."""
    sizes: Counter[str] = Counter()
    for entry in entries:
        parts = entry.name.split("/")
        depth = 2 if parts[0] in ("node_modules", "python_packages") else 1
        sizes["/".join(parts[:depth])] += entry.bytes
    return ", ".join(f"{shown(name)} {size / 1e6:.0f} MB" for name, size in sizes.most_common(_LARGEST))
