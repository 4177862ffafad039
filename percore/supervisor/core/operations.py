"""What an operator asks for: start, stop, restart, reload, scale, delete. Most are jobs over the selected apps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from percore.common.app_names import full_name
from percore.common.cpus import usable_cores
from percore.common.typing import Any, Optional
from percore.errors import UsageError
from percore.supervisor.base.loop import Job
from percore.supervisor.config import app_bounds
from percore.supervisor.config.app import AppConfig, resolve_instances
from percore.supervisor.config.dependencies import in_order
from percore.supervisor.core import lifecycle, replace
from percore.supervisor.core.app import App
from percore.supervisor.core.apps import Apps
from percore.supervisor.core.jobs import Blocked, Outcome
from percore.supervisor.core.slot import Slot
from percore.supervisor.core.status import Chosen, select_all, select_whole


def start_selected(apps: Apps, selectors: Sequence[str]) -> Outcome:
    """What is down; where nothing is, PM2's users mean a restart."""
    chosen = [(app, [slot for slot in slots if slot.is_down]) for app, slots in select_all(apps, selectors)]
    if not any(slots for _, slots in chosen):
        return (yield from restart(apps, selectors))
    yield from start_slots(apps, chosen)
    return {}


def start_slots(apps: Apps, chosen: Chosen) -> Job:
    """In the order of `depends_on`."""

    def start_one(app: App, slots: list[Slot]) -> Job:
        apps.check_needs(app)
        yield from lifecycle.start(app, slots, until_stable=False)

    blocked: dict[str, Blocked] = {}
    try:
        yield from apps.do_in_order({app.name: start_one(app, slots) for app, slots in chosen if slots}, None, blocked)
    finally:
        for name, error in blocked.items():
            lifecycle.note_blocked(apps[name], error.what)


def stop(apps: Apps, selectors: Sequence[str]) -> Outcome:
    chosen = select_all(apps, selectors)
    yield from apps.stop_in_order(
        {app.name: lifecycle.stop(app, None if len(slots) == len(app.slots) else slots) for app, slots in chosen}
    )
    return {}


def restart(
    apps: Apps,
    selectors: Sequence[str],
    changes: Optional[Mapping[str, Any]] = None,
    base_env: Optional[Mapping[str, str]] = None,
) -> Outcome:
    """Stops, then starts, with these fields of the config changed, and in another environment where one is given."""
    chosen = replace.with_changes(select_all(apps, selectors), changes or {})
    apps.check_changed((config for _, _, config in chosen))
    for app, _, config in chosen:
        if config.name != app.name and (config.name in apps or len(chosen) > 1):
            raise UsageError(f"'{app.name}' cannot be called '{config.name}', as another app is")

    def restart_one(app: App, slots: Sequence[Slot], config: AppConfig) -> Job:
        up = replace.that_are_up(slots)
        if base_env is not None:
            app.set_env(base_env)
        if config.name != app.name:
            yield from lifecycle.halt(slots)
            apps.rename(app, config.name)
        yield from replace.restart(app, config, slots, until_stable=False)
        replace.count(app, up)

    yield from apps.do_in_order({each[0].name: restart_one(*each) for each in chosen})
    return {}


def reload(
    apps: Apps,
    selectors: Sequence[str],
    changes: Optional[Mapping[str, Any]] = None,
    base_env: Optional[Mapping[str, str]] = None,
) -> Outcome:
    """No request is lost where the port is shared; a restart for the rest, of which two must never run at once."""
    chosen = {each[0].name: each for each in replace.with_changes(select_all(apps, selectors), changes or {})}
    apps.check_changed((config for _, _, config in chosen.values()))
    for app, _, config in chosen.values():
        if config.name != app.name:
            raise UsageError("a reload cannot give an app another name", next=f"percore restart {app.name} --name ...")
    for name in in_order(chosen, apps.needs(chosen)):
        app, slots, config = chosen[name]
        yield from replace.reload_counted(app, slots, config, base_env)
    return {}


def scale(apps: Apps, name: str, count: str) -> Outcome:
    """`count` is N, +N, -N or max."""
    app = apps.named(name)
    wanted = len(app.slots) + int(count) if count.startswith(("+", "-")) else resolve_instances(count, usable_cores())
    if wanted < 1:
        raise UsageError(f"'{name}' cannot have {wanted} workers", next=f"percore stop {name}")
    app_bounds.check_count(app.config, wanted)
    yield from lifecycle.scale(app, wanted)
    return {"workers": wanted}


def delete(apps: Apps, selectors: Sequence[str]) -> Outcome:
    chosen = select_for_delete(apps, selectors)
    for name in apps.aside.names:
        if name in selectors or "all" in selectors:
            apps.aside.make_way(name)
    yield from apps.stop_in_order({app.name: apps.delete(app) for app, _ in chosen})
    return {}


def select_for_delete(apps: Apps, selectors: Sequence[str]) -> Chosen:
    """Apps that were set aside can be deleted as well."""
    return select_whole(apps, [name for name in selectors if name not in apps.aside.names])


def names_for(apps: Apps, op: str, fields: Mapping[str, Any]) -> Optional[Collection[str]]:
    """Of the apps that an operation is about; None: all. Raises UsageError for a selector that means none."""
    if selectors := fields.get("selectors"):
        chosen = (select_for_delete if op == "delete" else select_all)(apps, selectors)
        return [app.name for app, _ in chosen]
    if op in ("apply", "start"):
        removed = [app.name for app in apps.values() if op == "apply" and app.config.source == fields["owner"]]
        configs = fields["configs"]  # known by one of these names, or to be
        return [*removed, *(name for each in configs for name in (each.name, full_name(each.name, each.namespace)))]
    if op == "scale":
        return [fields["name"]]
    return () if op in ("update", "leave") else None


# -- done at once --------------------------------------------------------------------------------------------------


def reset(apps: Apps, selectors: Sequence[str]) -> None:
    """Counts from zero again."""
    for _, slots in select_all(apps, selectors):
        for slot in slots:
            slot.worker.history.restarts = slot.worker.history.failures.unstable = 0


def signal(apps: Apps, selectors: Sequence[str], number: int) -> int:
    """Sends a signal to the main processes; returns how many there were."""
    chosen = select_all(apps, selectors)
    children = [slot.worker.child for _, slots in chosen for slot in slots]
    living = [child.process for child in children if child.process]
    for process in living:
        process.signal(number, whole_group=False)
    return len(living)


def set_watch(apps: Apps, selectors: Sequence[str], on: Optional[bool]) -> None:
    """Switches `watch` of the selected apps; None: to what it is not."""
    for app, _ in select_all(apps, selectors):
        is_on = not app.config.watch if on is None else on
        places = app.config.watch or (app.config.cwd,)
        app.settle(app.config._replace(watch=places if is_on else ()))


def report_jobs(apps: Apps, names: Sequence[str]) -> list[dict[str, Any]]:
    """When each runs next, and how its last run ended. Raises UsageError for a name that is no job."""
    if apps.job_runs is None and names:
        raise UsageError(f"no job is called '{names[0]}'", next="write it under 'jobs' of the process file")
    return apps.job_runs.report(names) if apps.job_runs else []


def run_jobs(apps: Apps, names: Sequence[str]) -> Mapping[str, Any]:
    """At once, whatever their times. Raises UsageError for what is no job, or runs."""
    report_jobs(apps, names)
    for name in names:
        if apps.job_runs:
            apps.job_runs.run_now(apps[name])
    return {}
