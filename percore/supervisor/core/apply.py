"""A process file against what runs: `apply` makes it match or rolls back, `start` does as PM2 does, `compare` only tells."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from percore.common.cpus import usable_cores
from percore.common.typing import Any, Callable, NoReturn
from percore.errors import PartialError, PercoreError, RolloutError
from percore.supervisor.base.loop import Job
from percore.supervisor.config.app import AppConfig, resolve_instances
from percore.supervisor.config.dependencies import in_order
from percore.supervisor.config.kinds import CLUSTER
from percore.supervisor.core import lifecycle, replace
from percore.supervisor.core.app import App
from percore.supervisor.core.apps import Apps, settle_names
from percore.supervisor.core.jobs import Blocked, Outcome

Rollback = list[Callable[[], Job]]
"""How to go back, last step first."""


def apply(
    apps: Apps, configs: Sequence[AppConfig], base_env: Mapping[str, str], *, release: str, owner: str, replaces: bool
) -> Outcome:
    """Makes what runs match `configs`: clustered apps first, then singletons, but each after those it depends on; removed
    apps last.

    Raises RolloutError when an app failed and everything was rolled back, PartialError when that was not possible.
    """
    configs = settle_names(apps, configs, replaces=replaces)
    apps.check(configs)
    rollback: Rollback = []
    try:
        changes = yield from _apply_all(apps, configs, base_env, rollback)
    except PercoreError as error:
        yield from _roll_back(rollback, error)
    wanted = {config.name for config in configs}
    removed = [name for name, app in apps.items() if app.config.source == owner and name not in wanted]
    for name in reversed(in_order(removed, apps.needs(removed))):
        yield from _remove(apps, apps[name])
        changes.append({"app": name, "change": "removed"})
    apps.release = release or apps.release
    return {"changes": changes, "release": apps.release}


def _remove(apps: Apps, app: App) -> Job:
    """A job that runs is forgotten when it has ended."""
    if app.config.is_job and any(app.living):
        app.wanted, app.is_retired = False, True
    else:
        yield from apps.delete(app)


def _apply_all(
    apps: Apps, configs: Sequence[AppConfig], base_env: Mapping[str, str], rollback: Rollback
) -> Generator[None, None, list[dict[str, str]]]:
    changes = []
    fresh: list[App] = []
    by_name = {config.name: config for config in sorted(configs, key=lambda config: config.mode != CLUSTER)}
    needed = {name for config in configs for name in config.depends_on}
    for name in in_order(by_name, {config.name: config.depends_on for config in configs}):
        change = yield from apply_one(apps, by_name[name], base_env, rollback, until_stable=name in needed)
        changes.append({"app": name, "change": change})
        if change in ("added", "started", "restarted") and apps[name].wanted:
            fresh.append(apps[name])
    # Apps that no other one needs are waited for together, at the end.
    for app in fresh:
        yield from lifecycle.wait_until_stable(app)
    return changes


def apply_one(
    apps: Apps, config: AppConfig, base_env: Mapping[str, str], rollback: Rollback, *, until_stable: bool = True
) -> Generator[None, None, str]:
    """Returns what changed."""
    app = apps.get(config.name)
    if app is None:
        yield from _add(apps, config, base_env, rollback, until_stable=until_stable)
        return "added"
    former = app.config
    change = "unchanged" if former.says_like(config) else "changed"
    count = resolve_instances(config.instances, usable_cores())
    if not app.runs_like(config):
        change = yield from _replace(app, config, count, rollback, until_stable=until_stable)
    elif not app.wanted:
        apps.check_needs(app)
        rollback.append(lambda: lifecycle.stop(app))
        yield from lifecycle.start(app, until_stable=until_stable)
        change = "started"
    else:
        yield from lifecycle.wait_while_starting(app)
    rollback.append(lambda: _settle(app, former))
    app.settle(config)
    if count != len(app.slots):
        yield from _scale(app, count, rollback)
        change = "scaled" if change in ("unchanged", "changed") else change
    return change


def _add(apps: Apps, config: AppConfig, base_env: Mapping[str, str], rollback: Rollback, *, until_stable: bool) -> Job:
    app = apps.add(config, base_env, resolve_instances(config.instances, usable_cores()))
    rollback.append(lambda: apps.delete(app))
    app.wanted = config.waits_for_its_time  # its times count, until it is stopped
    if config.autostart:
        apps.check_needs(app)
        yield from lifecycle.start(app, until_stable=until_stable)


def _scale(app: App, count: int, rollback: Rollback) -> Job:
    former_count = len(app.slots)
    rollback.append(lambda: lifecycle.scale(app, former_count))
    yield from lifecycle.scale(app, count)


def _replace(
    app: App, config: AppConfig, count: int, rollback: Rollback, *, until_stable: bool
) -> Generator[None, None, str]:
    """What is to go gets no new worker: a singleton that ran twice would do so once more."""
    former = app.config
    if app.wanted and former.shares_port and config.shares_port:
        yield from replace.reload(app, config, app.slots[:count])
        rollback.append(lambda: replace.reload(app, former))
        return "reloaded"
    if count < len(app.slots):
        yield from _scale(app, count, rollback)
    rollback.append(lambda: replace.restart(app, former))
    yield from replace.restart(app, config, until_stable=until_stable)
    return "restarted"


def _settle(app: App, config: AppConfig) -> Job:
    app.settle(config)
    yield from ()


def _roll_back(rollback: Rollback, cause: PercoreError) -> Generator[None, None, NoReturn]:
    problems = []
    for step in reversed(rollback):
        try:
            yield from step()
        except PercoreError as error:
            problems.append(str(error))
    if problems:
        raise replace.not_rolled_back(cause, problems) from cause
    if isinstance(cause, PartialError):
        raise cause
    outcome = RolloutError(cause.what, where=cause.where, next=cause.next, detail=cause.detail)
    outcome.app = cause.app
    raise outcome from cause


# -- as PM2 takes a process file --------------------------------------------------------------------------------------


def start(
    apps: Apps, configs: Sequence[AppConfig], base_env: Mapping[str, str], how: str = "start", *, replaces: bool = False
) -> Outcome:
    """A process file, as PM2 takes it: missing apps start, known ones get the file's config and new workers.

    `how` they get them: "restart", or "reload", which ends at the first failure; "start" loses no request
    where it can, and one app that fails does not stop the others.
    """
    configs = settle_names(apps, configs, replaces=replaces)
    apps.check(configs)
    jobs = {config.name: _start_one(apps, config, base_env, how) for config in configs}
    needs = {config.name: config.depends_on for config in configs}
    if how == "reload":
        for name in in_order(jobs, needs):
            yield from jobs[name]
        return {}
    blocked: dict[str, Blocked] = {}
    try:
        yield from apps.do_in_order(jobs, needs, blocked)
    finally:
        for config in configs:
            if config.name in blocked:
                count = resolve_instances(config.instances, usable_cores())
                app = apps.get(config.name) or apps.add(config, base_env, count)
                lifecycle.note_blocked(app, blocked[config.name].what)
    return {}


def _start_one(apps: Apps, config: AppConfig, base_env: Mapping[str, str], how: str) -> Job:
    app = apps.get(config.name)
    if app:
        count = resolve_instances(config.instances, usable_cores())
        yield from replace.update(app, replace.Desired(config, count, base_env), how)
    else:
        yield from apply_one(apps, config, base_env, [], until_stable=how == "reload")


def compare(apps: Apps, configs: Sequence[AppConfig], owner: str, *, replaces: bool) -> list[dict[str, Any]]:
    """What `apply` would change."""
    from percore.supervisor.config.compare import Running, compare

    configs = settle_names(apps, configs, replaces=replaces)
    apps.check(configs)
    running = {
        name: Running(app.config, len(app.slots), app.wanted, not app.runs_like(app.config))
        for name, app in apps.items()
    }
    return compare(running, configs, owner=owner, cores=usable_cores())
