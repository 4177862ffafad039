"""What `apply` would change: the wanted state in a file against what runs. Pure; no value of an environment is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from percore.common.typing import Any, NamedTuple
from percore.supervisor.config.app import AppConfig, resolve_instances

# Shown in another way, or not part of what runs.
_ASIDE = ("name", "hooks", "env", "instances", "source")


class Running(NamedTuple):
    """One app as it is."""

    config: AppConfig
    workers: int
    wanted: bool
    is_mixed: bool = False  # a reload was cut off: some workers run another config


def compare(
    running: Mapping[str, Running], configs: Sequence[AppConfig], *, owner: str, cores: int
) -> list[dict[str, Any]]:
    """For each app that would change, as `apply` says it: added, reloaded, restarted, scaled, started, changed or removed."""
    changes = []
    for config in configs:
        count = resolve_instances(config.instances, cores)
        found = running.get(config.name)
        if found is None:
            changes.append({"app": config.name, "change": "added", **_entries(AppConfig("", "", ""), config, 0, count)})
        elif change := _change(found, config, count):
            changes.append(
                {"app": config.name, "change": change, **_entries(found.config, config, found.workers, count)}
            )
    names = {config.name for config in configs}
    removed = [name for name, app in running.items() if app.config.source == owner and name not in names]
    return [*changes, *({"app": name, "change": "removed", "fields": [], "env": {}} for name in removed)]


def _change(found: Running, config: AppConfig, count: int) -> str:
    if found.is_mixed or not found.config.runs_like(config):
        is_graceful = found.wanted and found.config.shares_port and config.shares_port
        return "reloaded" if is_graceful else "restarted"
    if not found.wanted:
        return "started"
    if found.workers != count:
        return "scaled"
    return "" if found.config.says_like(config) else "changed"


def _entries(before: AppConfig, after: AppConfig, count_before: int, count_after: int) -> dict[str, Any]:
    fields = [
        {"field": field, "from": old, "to": new}
        for field, old, new in zip(AppConfig._fields, before, after)
        if old != new and field not in _ASIDE
    ]
    if count_before != count_after:
        fields.insert(0, {"field": "instances", "from": count_before, "to": count_after})
    env = {
        "added": sorted(set(after.env) - set(before.env)),
        "removed": sorted(set(before.env) - set(after.env)),
        "changed": sorted(name for name in set(before.env) & set(after.env) if before.env[name] != after.env[name]),
    }
    return {"fields": fields, "env": {kind: names for kind, names in env.items() if names}}
