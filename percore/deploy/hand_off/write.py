"""Writing what is handed over, file by file and each at once; what is there from before and not wanted any more goes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from percore.deploy.hand_off.compare import changes
from percore.deploy.hand_off.files import SUMS, UNTOLD, Files, digest_of, read_sums
from percore.deploy.whole import replace_file

Meaning = Callable[[Files, Files, Sequence[str]], Sequence[str]]
"""What the change of these files means: of the former ones and those that are wanted, the names that differ."""


@dataclass(frozen=True)
class Written:
    """`files` are other ones now; `meaning` is what that means; `edited` were changed by hand since."""

    files: tuple[str, ...]
    meaning: tuple[str, ...]
    edited: tuple[str, ...]


def write_files(directory: Path, files: Files) -> Written:
    found = compare_files(directory, files, nginx_changes)
    bring_files(directory, files, found)
    return found


def compare_files(directory: Path, files: Files, meaning: Meaning) -> Written:
    """What `bring_files` would change; nothing is written."""
    former = _read_former(directory, files)
    sums = read_sums(former.get(SUMS, b"").decode(errors="replace"))
    different = [name for name in sorted({*former, *files}) if former.get(name) != files.get(name)]
    told = {name: digest for name, digest in sums.items() if name in former and digest != UNTOLD}
    edited = [name for name, digest in told.items() if digest_of(former[name]) != digest]
    changed = tuple(name for name in different if name != SUMS)
    return Written(changed, tuple(meaning(former, files, different)), tuple(edited))


def bring_files(directory: Path, files: Files, found: Written, private: Collection[str] = ()) -> None:
    """`private` are for their owner alone, and git does not take them along."""
    _ignore_in_git(directory, private)
    for name in (*found.files, SUMS) if found.files else ():
        if name in files:
            replace_file(directory / name, files[name], mode=0o600 if name in private else None)
        else:
            (directory / name).unlink()


def _ignore_in_git(directory: Path, names: Collection[str]) -> None:
    path = directory / ".gitignore"
    lines = path.read_text().splitlines() if path.is_file() else []
    missing = sorted(f"/{name}" for name in names if f"/{name}" not in lines)
    if missing:
        replace_file(path, "".join(f"{line}\n" for line in [*lines, *missing]).encode())


def nginx_changes(former: Files, wanted: Files, different: Sequence[str]) -> list[str]:
    return [text for name in different for text in _meaning_of(name, former, wanted)]


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
