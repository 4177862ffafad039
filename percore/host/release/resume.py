"""One agent goes on where another stopped: whether that one still works, and how it is sent away."""

from __future__ import annotations

import os
from collections.abc import Sequence

from percore.common import pidfd
from percore.common.procfs import start_time_of
from percore.host.release.change.journal import Entry


def myself() -> dict[str, int]:
    """Names this process for ever: a pid alone may be another process's one day."""
    return {"pid": os.getpid(), "start_time": start_time_of(os.getpid())}


def is_switched(entries: Sequence[Entry], run: str) -> bool:
    """This rollout's switch is done, and no rollback was begun."""
    names = {entry["what"] for entry in entries}
    return "switched" in names and "undoing" not in names and entries[0]["run"] == run


def is_at_work(entries: Sequence[Entry]) -> bool:
    """The agent of an unfinished switch still does something, and should be left alone."""
    return bool(entries) and entries[-1]["what"] not in ("switched", "agent") and _is_alive(_last_agent(entries))


def end_agent(entries: Sequence[Entry]) -> None:
    """Sends away an agent that waits for a connection which will not come back: all that it knows is in the journal."""
    agent = _last_agent(entries)
    if _is_alive(agent):
        pidfd.kill(agent["pid"], lambda: _is_alive(agent))


def _last_agent(entries: Sequence[Entry]) -> Entry:
    return [entry for entry in entries if "start_time" in entry][-1]


def _is_alive(agent: Entry) -> bool:
    pid: int = agent["pid"]
    return pid != os.getpid() and start_time_of(pid) == int(agent["start_time"])
