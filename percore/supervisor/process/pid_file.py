"""A file with a worker's pid, for programs that look for one."""

from __future__ import annotations

import contextlib
import os

from percore.common.typing import Optional
from percore.supervisor.config.app import AppConfig
from percore.supervisor.user import Identity
from percore.supervisor.user_files import find, open_here


def pid_path(config: AppConfig, id: int, folder: str) -> str:
    """Where the worker with PM2's id `id` has its file: in `folder`, unless the app names another place."""
    place = (
        os.path.join(config.cwd, config.pid_file)
        if config.pid_file
        else f"{folder}/{config.name.replace('/', '-')}.pid"
    )
    stem, extension = os.path.splitext(place)
    return f"{stem}-{id}{extension}"


def write_pid(path: str, pid: int, user: Optional[Identity]) -> None:
    """Old or new, never half; a pid of 0 removes the file. Raises OSError."""
    if not pid:
        with contextlib.suppress(FileNotFoundError), find(path, user) as found:
            os.unlink(found.path)
        return
    with find(path, user, makes=True) as found:
        unfinished = f"{found.path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        with open(open_here(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
            file.write(f"{pid}\n")
        os.rename(unfinished, found.path)
