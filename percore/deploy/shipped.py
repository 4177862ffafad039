"""The roles and templates that percore ships. A project's own files win over them, each over the one of the same path."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@functools.cache
def shipped_directory() -> Path:
    """Where percore is installed, they lie beside this module (setup.py); in a checkout, at its top."""
    here = Path(__file__).resolve()
    installed = here.parent / "shipped"
    return installed if installed.is_dir() else here.parents[2]


@functools.cache
def with_shipped(directory: Path) -> tuple[Path, ...]:
    """A project's `roles` or `templates`, then the one that percore ships: the first that has a file counts."""
    shipped = shipped_directory() / directory.name
    return (directory,) if directory.resolve() == shipped else (directory, shipped)


@dataclass(frozen=True)
class UsedFile:
    """`path` is relative: roles/nginx/role.yml."""

    path: str
    is_shipped: bool
    replaces: bool


def used_files(project: Path) -> Iterator[UsedFile]:
    """Every file of roles and templates that counts, and whose it is."""
    shipped = set(_files(shipped_directory()))
    own = set(_files(project)) if project.resolve() != shipped_directory() else set()
    for path in sorted(shipped | own):
        yield UsedFile(path, is_shipped=path not in own, replaces=path in own & shipped)


def _files(directory: Path) -> Iterator[str]:
    """An app may have `roles` and `templates` of its own, which mean something else."""
    shipped = [path.name for path in (shipped_directory() / "roles").iterdir()]
    roles = [path for path in directory.glob("roles/*") if (path / "role.yml").is_file() or path.name in shipped]
    found = {path for role in roles for path in role.rglob("*")} | set(directory.glob("templates/**/*.j2"))
    yield from (path.relative_to(directory).as_posix() for path in found if path.is_file())
