"""A control group for each host. In a shared one, systemd inside a host kills the processes of the others."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ControlGroup:
    """`name` below the root of the unified hierarchy, and of systemd's own one where version 1 is in use too."""

    name: str

    @property
    def directories(self) -> list[Path]:
        found: dict[str, Path] = {}
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, place, kind, options, *_ = line.split()
            if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
                found.setdefault(kind, Path(place) / self.name)
        return list(found.values())

    def make(self) -> None:
        for directory in self.directories:
            directory.mkdir(exist_ok=True)

    @property
    def entries(self) -> list[Path]:
        """The files through which a process enters: it writes 0 to each."""
        return [directory / "cgroup.procs" for directory in self.directories]

    def processes(self) -> set[int]:
        """Pids of everything in the group and below it. No pid of another process can be among them."""
        found: set[int] = set()
        for directory in self.directories:
            for entry in directory.rglob("cgroup.procs"):
                with contextlib.suppress(OSError):  # removed while we look
                    found.update(map(int, entry.read_text().split()))
        return found

    def remove(self) -> bool:
        """Whether it is gone; a group with a process in it stays."""
        for directory in self.directories:
            inner = sorted((path for path in directory.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
            for path in [*inner, directory]:
                with contextlib.suppress(OSError):
                    path.rmdir()
        return not any(directory.exists() for directory in self.directories)
