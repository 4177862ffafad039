"""The task that sends load to hosts."""

from __future__ import annotations

from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from percore.tasks.decorators import host_task


@host_task("yes")
def loadtest(
    scope: Scope, rate: float = 0.0, duration: float = 10.0, path: str = "/", connections: int = 20, direct: bool = False,
    tool: str = "own", json: bool = False, svg: str = "", png: str = "",
) -> None:  # fmt: skip
    """Send load to the hosts, and show how requests spread over hosts and workers, by the workers' own counters."""
    from percore.deploy.loadtest.clients import LoadWish
    from percore.deploy.loadtest.verb import LoadOptions
    from percore.deploy.loadtest.verb import loadtest as send

    options = LoadOptions(LoadWish(connections, duration, rate), path, direct, tool, json, svg, png)
    send(scope, Report(quiet=json), options)
