"""What the files of a release were when it was staged, so that an edit by hand is seen.

A file is read again only when its size, its times or its mode are others than then.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from typing import Any

from percore.common.control import decode_or_none
from percore.host.files import read_file, write_file

_OWN = (".percore", ".percore.json")
_PIECE = 1 << 20


def _path(tree: str) -> str:
    return os.path.join(tree, ".percore", "manifest.json")


def write_manifest(tree: str) -> None:
    noted = {name: [*_look(found), _digest(tree, name, found)] for name, found in _walk(tree)}
    write_file(_path(tree), json.dumps(noted, separators=(",", ":")).encode(), mode=0o600)


def find_edits(tree: str, *, counts_new: bool) -> list[str]:
    """What would set the files right: `change NAME`, `create NAME`, and with `counts_new` also `remove NAME`.

    Nothing is known of a release that an older percore staged.
    """
    try:
        noted = decode_or_none(read_file(_path(tree))) or {}
    except OSError:
        return []
    found = dict(_walk(tree))
    edits = [f"create {name}" for name in noted if name not in found]
    edits += [f"change {name}" for name in noted if name in found and _is_edited(tree, name, found[name], noted[name])]
    new = [f"remove {name}" for name in found if name not in noted and "__pycache__" not in name.split("/")]
    return sorted([*edits, *(new if counts_new and noted else [])])


def _is_edited(tree: str, name: str, found: os.stat_result, noted: Any) -> bool:
    *look, digest = noted
    if look == _look(found):
        return False
    return bool(look[0] != found.st_mode or digest != _digest(tree, name, found))


def _look(found: os.stat_result) -> list[int]:
    return [found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _digest(tree: str, name: str, found: os.stat_result) -> str:
    path = os.path.join(tree, name)
    digest = hashlib.blake2b(digest_size=16)
    if stat.S_ISLNK(found.st_mode):
        digest.update(os.fsencode(os.readlink(path)))
    elif stat.S_ISREG(found.st_mode):
        with open(path, "rb", buffering=0) as file:
            for piece in iter(lambda: file.read(_PIECE), b""):
                digest.update(piece)
    return digest.hexdigest()


def _walk(tree: str) -> Iterator[tuple[str, os.stat_result]]:
    """Everything but directories, by its name from the top on."""
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        with os.scandir(os.path.join(tree, prefix)) as entries:
            for entry in entries:
                name = f"{prefix}{entry.name}"
                if name in _OWN:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{name}/")
                else:
                    yield name, entry.stat(follow_symlinks=False)
