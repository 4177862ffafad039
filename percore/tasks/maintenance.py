"""The tasks `maintenance.on` and `maintenance.off`."""

from __future__ import annotations

from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from percore.tasks.decorators import host_task


@host_task()
def on(scope: Scope, page: str = "") -> None:
    """Let NGINX show a page instead of the app (503, Retry-After), until maintenance.off; --page FILE: your own."""
    from percore.deploy import maintenance

    maintenance.begin(scope, Report(), page=page)


@host_task()
def off(scope: Scope) -> None:
    """Let visitors reach the app again."""
    from percore.deploy import maintenance

    maintenance.end(scope, Report())
