"""The tasks that act on the apps of hosts as they run. Each imports what it calls when it is called, as in `hosts`."""

from __future__ import annotations

from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from percore.tasks.decorators import host_task


@host_task()
def start(scope: Scope, app: str = "") -> None:
    """Start what should run and does not."""
    from percore.deploy import control

    control.start(scope, Report(), app=app)


@host_task()
def stop(scope: Scope, app: str = "") -> None:
    """End everything that a deploy started, or one app; `start` or `deploy` starts it again."""
    from percore.deploy import control, operations

    if app:
        control.stop_app(scope, Report(), app=app)
    else:
        operations.stop(scope, Report())


@host_task()
def restart(scope: Scope, app: str = "") -> None:
    """End the workers of all apps, or of one, and start them again."""
    from percore.deploy import control

    control.restart(scope, Report(), app=app)


@host_task()
def reload(scope: Scope, app: str = "") -> None:
    """Replace worker by worker: each ends when the new one is ready."""
    from percore.deploy import control

    control.reload(scope, Report(), app=app)


@host_task()
def scale(scope: Scope, app: str = "", workers: str = "") -> None:
    """Change the number of an app's workers, until the next deploy."""
    from percore.deploy import control

    control.scale(scope, Report(), app=app, workers=workers)


@host_task()
def describe(scope: Scope, app: str = "") -> None:
    """Show everything about the workers on every host."""
    from percore.deploy import control

    control.describe(scope, Report(), app=app)


@host_task("yes")
def remove(scope: Scope, data: bool = False) -> None:
    """Take the app off its hosts; first show what would go. Shared data stays unless --data."""
    from percore.deploy import control

    control.remove(scope, Report(), data=data)


@host_task(remote=True)
def startup(scope: Scope) -> None:
    """Start everything at boot from now on."""
    from percore.deploy import operations

    operations.set_boot(scope, Report(), enabled=True)


@host_task(remote=True)
def unstartup(scope: Scope) -> None:
    """No longer start anything at boot."""
    from percore.deploy import operations

    operations.set_boot(scope, Report(), enabled=False)
