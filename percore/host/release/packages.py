"""percore's own on-host packages, one beside the other: each release leads to the one that it came with."""

from __future__ import annotations

import os
import sys

from percore.host.messages import PackageArchive
from percore.host.paths import remove_tree
from percore.host.release.plan import load_plan
from percore.host.release.target import Target
from percore.host.release.transfer.parts import PartReader, check_room, unpack


def install_package(package: PackageArchive, reader: PartReader) -> None:
    """Unpack percore's own on-host package beside the others and compile it, since its user may not write there."""
    import compileall

    staging = f"{package.path}.staging"
    check_room(os.path.dirname(package.path), package.unpacked_bytes)
    unpack(reader, package.sha256, staging, needed_bytes=package.unpacked_bytes)
    compileall.compile_dir(staging, quiet=2, stripdir=staging, prependdir=package.path)
    os.rename(staging, package.path)


def prune_packages(target: Target) -> None:
    """Remove the on-host packages that no release here leads to any more."""
    directory, link = target.supervisor.package, os.path.join(target.supervisor.package, "current")
    needed = {os.path.basename(os.path.realpath(link)), os.path.basename(sys.path[0])}  # the last: this program's own
    for release in target.releases.marks.read():
        if target.releases.exists(release):
            plan = load_plan(target.releases, release)
            needed |= {spec["to"] for spec in plan.before if spec["kind"] == "link" and spec["path"] == link}
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False) and entry.name not in needed:
            remove_tree(entry.path)
