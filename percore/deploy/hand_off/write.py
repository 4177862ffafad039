"""Writing what is handed over, file by file and each at once; what is there from before and not wanted any more goes."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from percore.deploy.hand_off.compare import changes
from percore.deploy.hand_off.files import SUMS, Files, read_sums


@dataclass(frozen=True)
class Written:
    """`files` are other ones now; `meaning` is what that means to NGINX; `edited` were changed by hand since."""

    files: tuple[str, ...]
    meaning: tuple[str, ...]
    edited: tuple[str, ...]


def write_files(directory: Path, files: Files) -> Written:
    former = _read_former(directory, files)
    sums = read_sums(former.get(SUMS, b"").decode(errors="replace"))
    different = [name for name in sorted({*former, *files}) if former.get(name) != files.get(name)]
    edited = [name for name, digest in sums.items() if name in former and _digest(former[name]) != digest]
    for name in different:
        if name in files:
            replace_file(directory / name, files[name])
        else:
            (directory / name).unlink()
    meaning = [text for name in different for text in _meaning_of(name, former, files)]
    return Written(tuple(name for name in different if name != SUMS), tuple(meaning), tuple(edited))


def _read_former(directory: Path, files: Files) -> dict[str, bytes]:
    """What percore wrote there, and what stands in its way."""
    sums = directory / SUMS
    names = {*files, *(read_sums(sums.read_text(errors="replace")) if sums.is_file() else ())}
    return {name: (directory / name).read_bytes() for name in names if (directory / name).is_file()}


def _meaning_of(name: str, former: Files, wanted: Files) -> list[str]:
    """Told once: the other forms of an app say the same."""
    if not name.endswith(".conf") or name.endswith(".upstream.conf") or not (name in former and name in wanted):
        return []
    try:
        return changes(former[name], wanted[name])
    except ValueError:  # somebody wrote into it, or into the template
        return []


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def replace_file(path: Path, content: bytes) -> None:
    """Whoever reads it has the old one or the new one, on every system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
