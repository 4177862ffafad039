"""A file with a worker's pid, for programs that look for one."""

from __future__ import annotations

import contextlib
import os
import sys

from percore.common.typing import Optional
from percore.supervisor.config.app import AppConfig
from percore.supervisor.user import Identity, identity_or_none
from percore.supervisor.user_files import find, open_here


def pid_path(config: AppConfig, id: int, directory: str) -> str:
    """Where the worker with PM2's id `id` has its file: in `directory`, unless the app names another place."""
    place = (
        os.path.join(config.cwd, config.pid_file)
        if config.pid_file
        else f"{directory}/{config.name.replace('/', '-')}.pid"
    )
    stem, extension = os.path.splitext(place)
    return f"{stem}-{id}{extension}"


class PidFile:
    """The file of one slot: it names the slot's worker, and is gone when there is none."""

    def __init__(self, id: int, directory: str) -> None:
        self._id = id
        self._directory = directory
        self._noted = ("", 0)  # where it is, and what it says

    def note(self, config: AppConfig, number: int, pid: int) -> None:
        """The worker runs all the same when this fails, so that only is a line in the supervisor's log, which is stderr."""
        wished = (pid_path(config, self._id, self._directory), pid)
        if wished == self._noted:
            return
        user = identity_or_none(config.user, config.group)
        for path, said in {self._noted[0]: 0, wished[0]: pid}.items():
            try:
                if path:
                    write_pid(path, said, user)
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                sys.stderr.write(f"{config.name} {number}: {path} cannot be written: {reason}\n")
        self._noted = wished


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
