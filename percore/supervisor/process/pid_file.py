"""A file with a worker's pid, for programs that look for one."""

from __future__ import annotations

import os
import sys

from percore.common.typing import Optional
from percore.supervisor.base.user import identity_or_none
from percore.supervisor.base.user_files import remove_file, write_file
from percore.supervisor.config.app import AppConfig
from percore.supervisor.process.process import Process


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

    def note(self, config: AppConfig, number: int, process: Optional[Process]) -> None:
        """The worker runs all the same when this fails: that is only a line in the supervisor's log, which is stderr."""
        wished = (pid_path(config, self._id, self._directory), process.pid if process else 0)
        if wished == self._noted:
            return
        user = identity_or_none(config.user, config.group)
        for path, pid in {self._noted[0]: 0, wished[0]: wished[1]}.items():
            try:
                if path and pid:
                    write_file(path, user, f"{pid}\n")
                elif path:
                    remove_file(path, user)
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                sys.stderr.write(f"{config.name} {number}: {path} cannot be written: {reason}\n")
        self._noted = wished
