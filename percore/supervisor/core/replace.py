"""New workers for an app that is known: with a changed config, in another environment, one after the other or all at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from percore.common.typing import Any, NamedTuple, Optional
from percore.errors import PercoreError
from percore.supervisor.config.app import AppConfig
from percore.supervisor.core.app import App
from percore.supervisor.core.slot import Slot
from percore.supervisor.loop import Job


class Renewal(NamedTuple):
    """What an app should be from now on."""

    config: AppConfig
    workers: int
    base_env: Mapping[str, str]


def renew(app: App, wish: Renewal, how: str) -> Job:
    """As a process file says: `how` is "restart", or "start" or "reload", which lose no request where they can."""
    if how != "restart" and app.wanted and app.config.shares_port and wish.config.shares_port:
        yield from reload(app, app.slots, wish.config, wish.base_env)
    else:
        app.set_env(wish.base_env)
        yield from app.restart(wish.config, soak=how == "reload")
        count(app.slots)
    if wish.workers != len(app.slots):
        yield from app.scale(wish.workers)


def reload(app: App, slots: Sequence[Slot], config: AppConfig, base_env: Optional[Mapping[str, str]]) -> Job:
    """A restart where no port is shared: two such workers must never run at once."""
    former = app.set_env(base_env) if base_env is not None else None
    try:
        if app.config.shares_port and config.shares_port:
            yield from app.reload(config, slots)
        else:
            yield from app.restart(config, slots)
    except PercoreError:
        if former is not None and app.config.shares_port:
            app.set_env(former)  # the old workers stay, and so does what a respawn of theirs begins with
        raise
    count(slots)


def count(slots: Iterable[Slot]) -> None:
    """A restart that somebody asked for is one more, as PM2 counts."""
    for slot in slots:
        slot.worker.history.restarts += 1


def with_changes(
    chosen: Iterable[tuple[App, list[Slot]]], changes: Mapping[str, Any]
) -> list[tuple[App, list[Slot], AppConfig]]:
    """Each app with its config after the changes, which concern the whole app. Raises UsageError for an unknown field."""
    if not changes:
        return [(app, slots, app.config) for app, slots in chosen]
    return [(app, app.slots, app.config.changed(changes)) for app, _ in chosen]
