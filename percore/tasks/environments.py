"""Which environment a task is about, where --env does not say so."""

from __future__ import annotations

import os
from pathlib import Path

from percore.deploy.command_line import relative, to_type
from percore.deploy.inventory import environments
from percore.errors import UsageError

VARIABLE = "PERCORE_ENV"
LOCAL = "local"


def choose_environment(given: str, project: Path, *, remote: bool) -> str:
    """--env, else PERCORE_ENV, else `local`, or the only other one for a task that means nothing on this machine (`remote`)."""
    if chosen := given or os.environ.get(VARIABLE, ""):
        return chosen
    known = environments(project / "inventories")
    where = relative(project / "inventories")
    wanted = [name for name in known if (name != LOCAL) == remote]
    if len(wanted) == 1:
        return wanted[0]
    if not wanted:
        what = "there is no environment but this machine" if remote else f"there is no environment '{LOCAL}'"
        others = " or ".join(f"--env {name}" for name in known if not remote)
        raise UsageError(what, where=where, next=others or to_type("init --env production"))
    choices = " or ".join(f"--env {name}" for name in wanted)
    raise UsageError("several environments could be meant", where=where, next=f"{choices}, or set {VARIABLE}")
