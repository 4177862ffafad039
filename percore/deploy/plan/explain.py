"""Why a variable has its value: every layer that sets it, weakest first, with file and line. Asks no host."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percore.deploy.inventory import Inventory
from percore.deploy.inventory.export import to_json
from percore.deploy.plan.help.meanings import meanings_in
from percore.deploy.plan.host_plan import HostPlan, inventory_variables, make_host_plan, own_variables
from percore.deploy.plan.variables import Variables, resolve_variables
from percore.deploy.report import Report
from percore.deploy.schema import suggest
from percore.deploy.vault.envelope import Sealed
from percore.errors import UsageError

ENCRYPTED = "(encrypted)"


@dataclass(frozen=True)
class Setting:
    """One layer's word about one variable."""

    layer: str
    place: str
    value: Any


def explain(inventory: Inventory, host: str, project: Path, *, env: str, variable: str | None = None) -> dict[str, Any]:
    """By variable: its `layers`, of which the last wins, its `value` or the `fault` of its template, and its `meaning`."""
    plan = make_host_plan(host, inventory, env=env, project=project)
    resolved = resolve_variables(plan)
    found: dict[str, list[Setting]] = {}
    for role in plan.roles:
        for name, value in role.defaults.items():
            found.setdefault(name, []).append(
                Setting(f"defaults of role {role.name}", role.places.get(name, ""), value)
            )
    for layer in inventory.layers(host):
        for name, origin in layer.variables.items():
            found.setdefault(name, []).append(Setting(layer.name, origin.place, origin.value))
    for name, value in {**inventory_variables(host, inventory), **own_variables(host, env, project)}.items():
        found.setdefault(name, []).append(Setting("percore", "", value))
    if variable is not None and variable not in found:
        raise UsageError(
            f"no layer sets variable '{variable}'",
            where=f"host {host}",
            next=suggest(variable, found, "see all: leave --var out"),
        )
    names = sorted(found) if variable is None else [variable]
    meanings = _meanings(plan)
    return {name: {**_entry(found[name], name, resolved), **meanings.get(name, {})} for name in names}


def _meanings(plan: HostPlan) -> dict[str, dict[str, str]]:
    """As an entry's part, for the variables of roles that say it."""
    return {name: {"meaning": text} for role in plan.roles for name, text in meanings_in(role.file).items()}


def show(explained: dict[str, Any], report: Report) -> None:
    """The table for people: the winner is marked."""
    for name, entry in explained.items():
        report.line(f"{name}: {_text(entry['value']) if 'value' in entry else entry['fault']}")
        if "meaning" in entry:
            report.line(f"    {entry['meaning']}")
        layers = entry["layers"]
        width = max(len(layer["place"]) for layer in layers)
        for layer in layers:
            mark = ">" if layer is layers[-1] else " "
            report.line(f"  {mark} {layer['place']:<{width}}  {layer['layer']:<24}  {_text(layer['value'])}".rstrip())


def _entry(settings: list[Setting], name: str, resolved: Variables) -> dict[str, Any]:
    layers = [{"layer": one.layer, "place": one.place, "value": _shown(one.value)} for one in settings]
    try:
        return {"layers": layers, "value": to_json(resolved[name])}
    except UsageError as error:
        return {"layers": layers, "fault": str(error)}


def _shown(value: Any) -> Any:
    if isinstance(value, Sealed):
        return ENCRYPTED
    if isinstance(value, dict):
        return {key: _shown(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_shown(entry) for entry in value]
    return to_json(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
