"""The plan of a release: what lies elsewhere on the host (units, sites, links, files), kept in `.percore/activation.json`.

So going back to a release brings those back as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from percore.common import typed
from percore.common.records.diff import set_at
from percore.errors import RolloutError
from percore.host.files import read_file
from percore.host.messages import Plan, Spec
from percore.host.projects.placed_files import paths_of
from percore.host.release.releases import Releases
from percore.host.resources.resource import Contents, shown


def load_plan(releases: Releases, release: str, *, amended: bool = False) -> Plan:
    """`amended`: as it will be once the change of some of it is confirmed. Raises RolloutError for one that makes no sense."""
    path = releases.plan_path(release, amended=amended)
    try:
        plan: Plan = typed.read(Plan, json.loads(read_file(path)))
    except typed.Wrong as wrong:
        raise RolloutError(f"comes {wrong}", where=path, next="deploy again") from None
    except ValueError:
        raise RolloutError("is not valid JSON", where=path, next="deploy again") from None
    return plan


def kept_contents(releases: Releases, release: str) -> Contents:
    """Contents of the files of a release, which lie beside its plan."""

    def read(sha256: str) -> bytes:
        return read_file(os.path.join(releases.files_path(release), sha256))

    return read


def left_over(plan: Plan, former: Plan) -> list[Spec]:
    """What makes go what the former plan has and this one does not. What of it is not shown stays so."""
    wanted = {path for spec in plan.before + plan.after for path in paths_of(spec)}
    gone = [spec for spec in former.after + former.before if not wanted & {*paths_of(spec)}]
    return [
        {**absence, **({"shown": spec["shown"]} if "shown" in spec else {})}
        for spec in gone
        for absence in _absence_of(spec, gone)
    ]


def sites_of(plan: Plan) -> list[str]:
    """The links that enable its sites of NGINX."""
    return [spec["link"] for spec in plan.before + plan.after if spec["kind"] == "site"]


def plan_here(releases: Releases) -> Plan:
    """Of the release that runs; an empty one where there is none, or none that can be read."""
    current = releases.current()
    return (plan_or_none(releases, current) if current else None) or Plan([], [])


def sites_here(releases: Releases) -> list[str]:
    """Those of the release that runs."""
    return sites_of(plan_here(releases))


def _absence_of(spec: Spec, gone: Sequence[Spec]) -> list[Spec]:
    """What makes a resource of the former release go; a unit whose file goes ends first."""
    notify = {"notify": spec["notify"]} if "notify" in spec else {}
    if spec["kind"] == "site":
        link, path = paths_of(spec)
        return [{"kind": "absent-site", "path": link}, {"kind": "absent", "path": path}, {"kind": "nginx-reload"}]
    if spec["kind"] == "unit-file":
        units = [unit["name"] for unit in gone if unit["kind"] == "unit" and spec["path"].endswith(f"/{unit['name']}")]
        ended = [{"kind": "unit", "name": name, "active": False, "enabled": False} for name in units]
        return [*ended, {"kind": "absent-unit-file", "path": spec["path"]}]
    return [{"kind": "absent", "path": path, **notify} for path in paths_of(spec)]


def plan_or_none(releases: Releases, release: str) -> Optional[Plan]:
    """None where it cannot be read."""
    try:
        return load_plan(releases, release)
    except (OSError, RolloutError):
        return None


def plan_changes(old: Plan, new: Plan, places: Mapping[str, str]) -> list[str]:
    """How two plans differ in what no comparison with the host itself shows: health checks, commands, handlers."""
    found = [
        f"the health check's {key} {_value(old.health, key)} -> {_value(new.health, key)}{set_at(places, f'health.{key}')}"
        for key in sorted({*old.health, *new.health} - {"port", "site_token"})  # variables of the apps; the site itself
        if old.health.get(key) != new.health.get(key)
    ]
    for title, before, after in (
        ("command", _commands(old), _commands(new)),
        ("handler", _named(old.handlers), _named(new.handlers)),
    ):
        for name in [*after, *(name for name in before if name not in after)]:
            if before.get(name) != after.get(name):
                how = "is new" if name not in before else "goes" if name not in after else "changes"
                found.append(f"{title} '{name}' {how}")
    return found


def _value(health: Mapping[str, Any], key: str) -> str:
    value = health.get(key)
    return "none" if value in (None, "") else str(value)


def _commands(plan: Plan) -> dict[str, Spec]:
    return {shown(spec, " ".join(spec["run"])): _lasting(spec) for spec in plan.before if spec["kind"] == "command"}


def _named(handlers: Sequence[Spec]) -> dict[str, Spec]:
    return {shown(handler, handler["name"]): _lasting(handler) for handler in handlers}


def _lasting(spec: Spec) -> Spec:
    return {key: value for key, value in spec.items() if key not in ("tags", "secret", "shown")}
