"""What the log formatter and the supervisor hand each other, and where it lies."""

from __future__ import annotations

import os

from percore.common.typing import NamedTuple
from percore.supervisor.base.home import Home


class FormatterFiles(NamedTuple):
    raw_logs: str  # the directory of what workers write for it
    directory: str  # of the other two
    plan: str  # what to read, and where to write
    lock: str  # held by the formatter, with its pid in it

    @classmethod
    def of(cls, home: Home) -> FormatterFiles:
        directory = os.path.join(home.run, "scribe")
        raw_logs = os.path.join(home.logs, "spool")
        return cls(raw_logs, directory, os.path.join(directory, "plan.json"), os.path.join(directory, "lock"))
