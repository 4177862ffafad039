"""What a command is about: apps by name, id, namespace or /regex/, or those of a process file or release record."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from percore.common.app_names import full_name, names_of, selector_of
from percore.common.passwords import for_programs
from percore.errors import UsageError, nearest
from percore.supervisor.base.first_line import kind_of
from percore.supervisor.base.script import NODE_ENDINGS
from percore.supervisor.client import as_selectors, select_workers
from percore.supervisor.commands.arguments import Name
from percore.supervisor.commands.output import warn
from percore.supervisor.commands.settings import read_settings
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.app_bounds import PROCESS_FILE, PROCESS_FILES, is_same_project, script_of
from percore.supervisor.config.app_reader import STATIC_SERVER, make_app, paths_at_home
from percore.supervisor.config.options import OPTIONS
from percore.supervisor.config.process_file import absolute, load_process_file, working_directory
from percore.supervisor.config.value_types import FLAG

# A script whose only work is to export apps is a process file, whatever it is called.
_EXPORTS_APPS = re.compile(
    rb"(?:module\.exports\s*=|exports\.default\s*=|export\s+default)\s*\(?\s*\{\s*[\"']?apps[\"']?\s*:"
)
# What would be wrong for a worker (docs/reference/process-file.md): it belongs to this shell, or says what was passed to us.
_NOT_PASSED = re.compile(
    r"_|SHLVL|OLDPWD|PERCORE_\w+|LISTEN_(FDS|PID|FDNAMES)|NOTIFY_SOCKET|WATCHDOG_(PID|USEC)|INVOCATION_ID|JOURNAL_STREAM"
    r"|NODE_CHANNEL_(FD|SERIALIZATION_MODE)|NODE_UNIQUE_ID"
)
_OUR_SHIM = re.compile(r"\S*/preload-[0-9a-f]{8}/bindshim-\S+\.so|\S*/percore/supervisor/sockets/bindshim-\S+\.so")
_OUR_PRELOAD = re.compile(
    r"""--require[ =]["']?[^"']*/(?:preload-[0-9a-f]{8}|percore/supervisor/sockets)/preload\.cjs["']?"""
)
_MOST_READ = 1 << 16
_MOST_NAMED = 5
# What runs a file, and nothing else, as its first argument.
_RUNS_FILES = {"node", "bun", "python", "pypy", "sh", "ruby", "perl", "php", "coffee", "lsc"}


def is_file(target: str) -> bool:
    """True for what a process file is called, and for `-`, which is one on stdin; never for what follows `--`."""
    if isinstance(target, Name):
        return False
    return target == "-" or bool(PROCESS_FILE.search(target)) or _exports_apps(target)


def _exports_apps(target: str) -> bool:
    if not re.search(r"\.[cm]?[jt]s$", target) or not os.path.isfile(target):
        return False
    try:
        with open(target, "rb") as file:
            return bool(_EXPORTS_APPS.search(file.read(_MOST_READ)))
    except OSError:
        return False


def refuse_missing_scripts(apps: Sequence[AppConfig]) -> None:
    """Raises UsageError for an app whose script is not there: it could only crash."""
    for app in apps:
        if not has_script(app):
            place = os.path.normpath(os.path.join(app.cwd, app.script))
            raise UsageError(
                f"the script of app '{app.name}' does not exist: {place}",
                where=app.source,
                next="build it first, or correct 'script' or 'cwd'",
            )


def has_script(app: AppConfig) -> bool:
    """False only where it is certain that there is nothing to run."""
    script, place = app.script, os.path.join(app.cwd, app.script)
    if script == STATIC_SERVER or script.startswith("-") or "://" in script:
        return True
    if app.interpreter == "none":
        path = app.env.get("PATH") or os.environ.get("PATH", os.defpath)
        return os.path.isfile(place) or (os.sep not in script and shutil.which(script, path=path) is not None)
    kind = kind_of(app.interpreter)
    if kind not in _RUNS_FILES or _is_hidden(place):
        return True
    endings = NODE_ENDINGS if kind in ("node", "bun") else ("",)
    return any(os.path.exists(f"{place}{ending}") for ending in endings)


def _is_hidden(path: str) -> bool:
    """True where we may not look, but the app's user may."""
    try:
        os.stat(path)
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def load_files(
    targets: Sequence[str], env_name: Optional[str], only: Optional[str], overrides: Optional[Mapping[str, Any]] = None
) -> list[AppConfig]:
    """The apps of all process files among the targets, or those of them that `--only` names."""
    apps: list[AppConfig] = []
    for target in filter(is_file, targets):
        if target != "-" and not os.path.isfile(target):
            raise UsageError("there is no such file", where=target, next="percore start FILE")
        text = sys.stdin.read() if target == "-" else None
        apps += load_apps(target if text is None else "stdin.json", env_name, text=text, overrides=overrides)[0]
    if not only:
        return apps
    known = {name for app in apps for name in names_of(app.name, app.namespace)}
    wanted = [only] if only in known else re.findall(r"[^,\s]+", only)  # a name may have blanks
    for name in wanted:
        if name not in known:
            like = nearest(name, [app.name for app in apps])
            raise UsageError(
                f"--only names '{name}', but no file contains it", next=f"did you mean '{like}'?" if like else ""
            )
    return [app for app in apps if {*names_of(app.name, app.namespace)} & {*wanted}]


def find_selectors(targets: Sequence[str], only: Optional[str] = None) -> list[str]:
    """As the supervisor understands them: of a process file, the apps that are known. Raises UsageError when none is."""
    others = [target for target in targets if not is_file(target)]
    selectors = as_selectors(others)
    if len(others) == len(targets):
        return selectors
    apps, workers = load_files(targets, None, only), select_workers()
    known = {full_name(worker["name"], worker["namespace"]): worker for worker in workers}
    found = [(app, worker) for app in apps if (worker := known.get(full_name(app.name, app.namespace)))]
    if not found and not selectors:
        names = ", ".join(app.name for app in apps)
        raise UsageError(f"none of its apps exists ({names})", where=targets[0], next="see 'percore list'")
    return selectors + [_selector_of_own(app, worker, workers) for app, worker in found]


def _selector_of_own(app: AppConfig, worker: Mapping[str, Any], workers: Sequence[Mapping[str, Any]]) -> str:
    """Raises UsageError for an app of another project: a file means its own."""
    record, selector = {**worker["config"], "env": {}, "hooks": {}}, selector_of(worker, workers)
    running = AppConfig.from_record(record, keeps_unknown=True)
    if is_same_project(running, app):
        return selector
    raise UsageError(
        f"app '{selector}' is of another project, from {running.source or script_of(running)}",
        where=app.source,
        next=f"name the app instead of the file: {selector}",
    )


def load_apps(
    path: str, env_name: Optional[str], *, text: Optional[str] = None, overrides: Optional[Mapping[str, Any]] = None
) -> tuple[list[AppConfig], str]:
    """The apps of a process file (or of its `text`) or of a release record, and the release's id (empty for a process file).

    `overrides` are keys that the command line gives.
    """
    if os.path.basename(path) == ".percore.json":
        return load_release(path)
    loaded = load_process_file(
        path, env_name=env_name, text=text, defaults=defaults(), overrides=overrides or {}, caller=working_directory(),
        argv=sys.argv[1:],
    )  # fmt: skip
    for warning in loaded.warnings:
        warn(warning)
    return [app._replace(source=absolute(path)) for app in loaded.apps], ""


def load_release(path: str) -> tuple[list[AppConfig], str]:
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        apps = [AppConfig.from_record(app, where=path) for app in record["apps"]]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"it is not a valid release record: {error}", where=path) from None
    # All releases of one place are the same set of apps: an app that a newer one does not name is removed.
    owner = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(path))))
    apps = [app._replace(**paths_at_home(app._asdict(), app.user)) for app in apps]
    return [app._replace(source=owner, release=record["release"]) for app in apps], record["release"]


def make_script_app(script: str, written: Mapping[str, Any]) -> AppConfig:
    """The app of a script or a command line, in the working directory, with the keys that the command line gives."""
    warnings: list[str] = []
    app = make_app(
        {"script": script}, path=os.path.join(working_directory(), "start"), number=0, env_name=None, warnings=warnings,
        defaults=defaults(), overrides=written,
    )  # fmt: skip
    for warning in warnings:
        warn(warning)
    return app._replace(source="")


def defaults() -> dict[str, Any]:
    """Defaults for what an app does not set: PM2's variables, then the settings of this home."""
    return {**read_settings(), **pm2_defaults()}


def pm2_defaults() -> dict[str, Any]:
    """Defaults from PM2's variables."""
    found: dict[str, Any] = {}
    for option in OPTIONS:
        value = os.environ.get(option.variable) if option.variable else None
        if not value:
            continue
        if option.type is FLAG:
            value = "true" if value in ("1", "true") else "false"
        try:
            option.type.read(value)
        except ValueError as error:
            raise UsageError(f"must be {error}, not '{value}'", where=option.variable) from None
        found[option.key] = value
    return found


def shell_environment() -> dict[str, str]:
    """The variables of this shell that workers get; what a worker of ours got of us is taken out."""
    env = {name: value for name, value in for_programs().items() if not _NOT_PASSED.fullmatch(name)}
    for name, ours in (("LD_PRELOAD", _OUR_SHIM), ("NODE_OPTIONS", _OUR_PRELOAD)):
        if ours.search(env.get(name, "")):
            left = " ".join(ours.sub("", env.pop(name)).split())
            env.update({name: left} if left else {})
    return env


def environment_for(selectors: Sequence[str]) -> dict[str, str]:
    """For `--update-env`: the variables of this shell. What an app sets itself wins over them, and is named here."""
    env = shell_environment()
    for name, config in {
        worker["name"]: worker["config"] for worker in select_workers(*selectors, with_env=True)
    }.items():
        if kept := [key for key, value in config["env"].items() if env.get(key, value) != value]:
            origin = config.get("source") or "the app itself"
            warn(
                f"'{name}' keeps {', '.join(kept[:_MOST_NAMED])}, as {origin} sets it -> change it there, then restart"
            )
    return env


def find_process_file() -> str:
    for name in PROCESS_FILES:
        if os.path.isfile(name):
            return name
    raise UsageError(f"there is no process file in this directory ({PROCESS_FILES[0]})", next="percore start FILE")
