"""A file with a worker's pid, for programs that look for one."""

from __future__ import annotations

import contextlib
import os

from percore.supervisor.config import AppConfig


def pid_path(config: AppConfig, id: int, folder: str) -> str:
    """Where the worker with PM2's id `id` has its file: in `folder`, unless the app names another place."""
    place = (
        os.path.join(config.cwd, config.pid_file)
        if config.pid_file
        else f"{folder}/{config.name.replace('/', '-')}.pid"
    )
    stem, extension = os.path.splitext(place)
    return f"{stem}-{id}{extension}"


def write_pid(path: str, pid: int) -> None:
    """Old or new, never half; a pid of 0 removes the file. Raises OSError."""
    if not pid:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    unfinished = f"{path}.new"
    with open(unfinished, "w") as file:
        file.write(f"{pid}\n")
    os.rename(unfinished, path)
