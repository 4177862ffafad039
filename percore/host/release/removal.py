"""Taking an app off this host: what would go, as a list, and doing it in that order.

What other projects may use stays: packages, users, and percore itself while its supervisor has another app.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any, Callable, NamedTuple

from percore.common.names import UNIT
from percore.errors import PreflightError, RolloutError
from percore.host.files import read_file
from percore.host.messages import Plan, Spec
from percore.host.paths import remove, remove_tree
from percore.host.projects.conflicts import UNIT_FILE
from percore.host.projects.owner import PROJECT_FILE
from percore.host.release.plan import left_over, plan_or_none
from percore.host.release.running import app_names, own_part
from percore.host.release.target import Target
from percore.host.resources.registry import make

_OF_THE_APP = (
    *("releases", "artifacts", "current", "releases.json", "history.jsonl", "owed.json", "placed.json"),
    *("placement.json", ".pending", ".lock", "maintenance.html", PROJECT_FILE),
)
_OF_THE_HOME = ("run", "logs", "pids", "state.*", "dump.*", "settings.*")
_OF_THE_PACKAGE = ("current", "[0-9a-f]*")


class RemovalStep(NamedTuple):
    text: str
    work: Callable[[], object]


def plan_removal(target: Target, *, with_data: bool) -> list[RemovalStep]:
    """`with_data`: also what is in `shared/`. Raises PreflightError where the supervisor would have to run for it."""
    status = target.whole_status()
    is_up = bool(status.get("daemon", True))
    running = status["apps"] if is_up else [{"name": name, "workers": []} for name in _names_in_state(target)]
    known = {app["name"] for app in own_part(target.releases, {"apps": running})["apps"]} - target.taken().keys()
    own = [name for name in app_names(target.releases) if name in known]
    others = len(running) > len(own)
    if own and others and not is_up:
        raise PreflightError(
            "the supervisor does not run, and has other apps too", next="start it first, with the task 'start'"
        )
    selectors = target.selectors(own) if is_up else []
    steps = [
        RemovalStep(f"end app {name}", partial(target.supervisor.ask, "delete", selector))
        for name, selector in zip(own, selectors)
    ]
    steps += _resource_steps(target)
    if not others:
        steps += _percore_steps(target, is_up=is_up)
    return [*steps, *_directory_steps(target, with_data=with_data)]


def _names_in_state(target: Target) -> list[str]:
    """What a supervisor that does not run will have again."""
    try:
        apps: Any = json.loads(read_file(os.path.join(target.supervisor.home, "state.json")))["apps"]
        return [str(app["config"]["name"]) for app in apps]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _resource_steps(target: Target) -> Iterator[RemovalStep]:
    """What its release put elsewhere."""
    current = target.releases.current()
    plan = plan_or_none(target.releases, current) if current else None
    specs = left_over(Plan([], []), _without_percore(target, plan)) if plan else []
    for spec in specs:
        resource = make(spec)
        text = resource.change()
        if text:
            yield RemovalStep(text, partial(_apply, spec))


def _apply(spec: Spec) -> None:
    resource = make(spec)
    if resource.difference() is not None:
        resource.apply()


def _without_percore(target: Target, plan: Plan) -> Plan:
    """percore's own command, unit and link go last, or stay."""
    supervisor = target.supervisor
    own = {supervisor.command[0], os.path.join(supervisor.package, "current")}

    def is_own(spec: Spec) -> bool:
        path = str(spec.get("path", ""))
        return path in own or UNIT in (os.path.basename(path), spec.get("name"))

    return plan._replace(before=[spec for spec in plan.before if not is_own(spec)])


def _percore_steps(target: Target, *, is_up: bool) -> Iterator[RemovalStep]:
    supervisor = target.supervisor
    if supervisor.user is not None:
        for spec in (
            {"kind": "unit", "name": UNIT, "active": False, "enabled": False},
            {"kind": "absent-unit-file", "path": UNIT_FILE},
        ):
            if text := make(spec).change():
                yield RemovalStep(text, partial(_apply, spec))
    elif is_up:
        yield RemovalStep("end the supervisor", supervisor.kill)
    if supervisor.is_installed():
        yield RemovalStep(f"remove {supervisor.command[0]}", partial(remove, supervisor.command[0]))
    for path, names in ((supervisor.home, _OF_THE_HOME), (supervisor.package, _OF_THE_PACKAGE)):
        if _entries(path, names):
            what = "percore's state and the logs" if names is _OF_THE_HOME else "percore's code"
            yield RemovalStep(f"remove {what} in {path}", partial(_clear, path, names))


def _directory_steps(target: Target, *, with_data: bool) -> Iterator[RemovalStep]:
    directory, data = target.releases.deploy_to, data_left(target)
    if data and with_data:
        yield RemovalStep(f"remove {data}, with the app's data", partial(remove_tree, data))
    names = _OF_THE_APP if data and not with_data else (*_OF_THE_APP, "shared")
    count = len(target.releases.names())
    if _entries(directory, names):
        what = f"{count} release{'' if count == 1 else 's'} in {directory}" if count else f"what is left in {directory}"
        yield RemovalStep(f"remove {what}", partial(_clear, directory, names))


def _entries(directory: str, names: Collection[str]) -> list[str]:
    """Of these names; whatever else is there is not percore's."""
    if not os.path.isdir(directory):
        return []
    return [name for name in sorted(os.listdir(directory)) if any(fnmatch.fnmatchcase(name, each) for each in names)]


def _clear(directory: str, names: Collection[str]) -> None:
    for name in _entries(directory, names):
        path = os.path.join(directory, name)
        if os.path.isdir(path) and not os.path.islink(path):
            remove_tree(path)
        else:
            remove(path)
    if left := _entries(directory, names):
        raise RolloutError(f"{os.path.join(directory, left[0])} could not be removed", next="look at it, then again")
    with contextlib.suppress(OSError):  # what another program put there stays
        os.rmdir(directory)


def data_left(target: Target) -> str:
    """The directory of data that stays; empty where there is none."""
    shared = target.releases.shared
    return shared if os.path.isdir(shared) and any(files for _, _, files in os.walk(shared)) else ""
