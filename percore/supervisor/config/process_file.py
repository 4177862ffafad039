"""Process files: PM2's `ecosystem.config.js`, JSON and YAML, read into `AppConfig` values; `app_reader` reads each app."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence

from percore.common.app_names import DEFAULT_NAMESPACE, full_name, names_of
from percore.common.typing import Any, NamedTuple, Optional
from percore.errors import UsageError, nearest
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.app_reader import NOTHING, STATIC_SERVER, make_app, unknown_key
from percore.supervisor.config.dependencies import refuse_cycle
from percore.supervisor.config.formats import YamlMapping, line_of, read_content, shown
from percore.supervisor.config.job_reader import list_jobs, make_job
from percore.supervisor.config.options import OPTIONS, PATHS
from percore.supervisor.config.value_types import port

_TOP_LEVEL = {"apps", "pm2", "deploy", "static", "jobs"}
_PACKAGE = "package.json"  # has its apps under `pm2`, beside keys of others
_LISTS = [option.field for option in OPTIONS if option.default == ()]

_STATIC_PORT = 8080
_STATIC_VARIABLES = {"path": "PATH", "port": "PORT", "host": "HOST", "spa": "SPA", "ftp": "FTP", "directory": "DIRECTORY",
         "homepage": "HOMEPAGE"}  # fmt: skip
_STATIC_KEYS = (*_STATIC_VARIABLES, "basic_auth", "monitor", "name")


class ProcessFile(NamedTuple):
    apps: tuple[AppConfig, ...]
    warnings: tuple[str, ...]


def load_process_file(
    path: str,
    *,
    env_name: Optional[str] = None,
    default_env: Optional[str] = None,
    text: Optional[str] = None,
    defaults: Mapping[str, Any] = NOTHING,
    overrides: Mapping[str, Any] = NOTHING,
    caller: Optional[str] = None,
    argv: Sequence[str] = (),
    is_elsewhere: bool = False,
) -> ProcessFile:
    """The apps of a process file. Raises UsageError; `env_name` merges each app's `env_<name>`, as PM2's --env does.

    `default_env` does so where an app has that one.
    `text` is the content where it does not come from the file. `defaults` are keys for apps that do not write them,
    `overrides` keys that win over what is written. `caller` is the directory of a command that was typed, and `argv` its
    words: PM2's users count paths from the one, and read the other. `is_elsewhere`: other hosts run it, which know what `~` is.
    """
    path = absolute(path)
    argv = argv or ["start", path, *(["--env", env_name] if env_name else [])]
    content = read_content(path, text, caller=caller, argv=argv)
    warnings: list[str] = []
    more: dict[str, Any] = {
        "defaults": defaults,
        "overrides": overrides,
        "caller": caller,
        "is_elsewhere": is_elsewhere,
    }
    found = list_apps(content, path, warnings)
    env_name = env_name or find_env(found, default_env, path, warnings)
    found = [_with_deploy_env(written, content, env_name) for written in found]
    apps = [
        make_app(written, path=path, number=number, env_name=env_name, warnings=warnings, **more)
        for number, written in enumerate(found)
    ]
    jobs = list_jobs(content, path)
    more = {**more, "overrides": NOTHING}
    apps += [
        make_job(written, path=path, number=number, env_name=env_name, warnings=warnings, **more)
        for number, written in enumerate(jobs)
    ]
    apps = _settle_names(apps, path)
    refuse_cycle({app.name: app.depends_on for app in apps}, where=path)
    directory = os.path.dirname(path)
    if os.path.realpath(directory) != directory:
        # Node's __dirname is the real path: the apps of `current/` stay below the link, whatever it points to.
        move = make_mover([os.path.realpath(directory)], directory)
        apps = [move_app(app, move) for app in apps]
    return ProcessFile(tuple(apps), tuple(warnings))


def working_directory() -> str:
    """By the name that it was entered by: `current`, where os.getcwd() knows only what the link points to."""
    place = os.environ.get("PWD", "")
    with contextlib.suppress(OSError):
        if os.path.isabs(place) and os.path.samefile(place, os.curdir):
            return os.path.normpath(place)
    return os.getcwd()


def absolute(path: str) -> str:
    return os.path.normpath(os.path.join(working_directory(), path))


def _with_deploy_env(written: Mapping[str, Any], content: Any, env_name: Optional[str]) -> Mapping[str, Any]:
    """PM2's `deploy.<name>.env`, below the app's own variables."""
    deploy = content.get("deploy") if isinstance(content, Mapping) else None
    place = deploy.get(env_name) if isinstance(deploy, Mapping) and env_name else None
    env, own = place.get("env") if isinstance(place, Mapping) else None, written.get("env")
    if not isinstance(env, Mapping) or not isinstance(own, (Mapping, type(None))):
        return written
    merged = YamlMapping({**written, "env": {**env, **(own or {})}})
    merged.lines = getattr(written, "lines", {})
    return merged


def find_env(apps: Sequence[Any], name: Optional[str], path: str, warnings: list[str]) -> Optional[str]:
    """The environment of this name, where an app has a block for it. One that is called almost so is no accident."""
    keys = [str(key) for app in apps if isinstance(app, Mapping) for key in app if str(key).startswith("env_")]
    if not name or f"env_{name}" in keys:
        return name
    known = sorted({*keys} - {"env_file"})
    if like := nearest(f"env_{name}", known):
        warnings.append(f"{path}: no app has 'env_{name}' -> did you mean '{like}'?")
    return None


def resolve_for_release(
    path: str,
    *,
    release_id: str,
    release_path: str,
    tree: Optional[str] = None,
    env_name: Optional[str] = None,
    default_env: Optional[str] = None,
    extra_env: Optional[Mapping[str, str]] = None,
) -> dict[str, Any]:
    """The release record (docs/reference/process-file.md) of the built `tree`, which `path` lies in, and its `warnings`.

    Paths in that tree become paths below `release_path` on the host. `extra_env` (env file, inventory) wins over the file's
    own `env`: it is the operator's word about this one environment. Only apps that each name a port of their own keep it.
    """
    loaded = load_process_file(path, env_name=env_name, default_env=default_env, is_elsewhere=True)
    warnings = list(loaded.warnings)
    tree = os.path.abspath(tree or os.path.dirname(path))
    move = make_mover([tree, os.path.realpath(tree)], release_path)
    moved = [move_app(app, move)._replace(release=release_id, source="") for app in loaded.apps]
    apps = set_environment(moved, dict(extra_env or {}), os.path.abspath(path), warnings)
    return {"version": 1, "release": release_id, "apps": [app.to_record() for app in apps], "warnings": warnings}


def set_environment(
    apps: Sequence[AppConfig], extra_env: Mapping[str, str], path: str, warnings: list[str]
) -> list[AppConfig]:
    """The apps, with the operator's variables over their own."""
    own_ports = {app.name: str(app.port or app.env["PORT"]) for app in apps if app.port or "PORT" in app.env}
    given = extra_env.get("PORT")
    keep_ports = given is not None and len(set(own_ports.values())) > 1
    if keep_ports:
        warnings.append(
            f"{path}: PORT={given} of the environment does not apply to apps with their own port: "
            + ", ".join(own_ports)
        )
    changed = []
    for app in apps:
        env = {**app.env, **extra_env}
        if keep_ports and app.name in own_ports:
            env["PORT"] = own_ports[app.name]
        elif given is not None and app.port is not None:
            try:
                app = app._replace(port=port(given))
            except ValueError as error:
                raise UsageError(f"PORT of the environment must be {error}, not {shown(given)}", where=path) from None
        changed.append(app._replace(env=env))
    return changed


# -- moving an app to another directory ---------------------------------------------------------------------------------


def make_mover(trees: Sequence[str], target: str) -> Callable[[str], str]:
    """A function that replaces each of `trees`, wherever it stands as a whole path or the beginning of one, by `target`."""
    longest_first = sorted(set(trees), key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w.-])")
    return lambda text: pattern.sub(lambda _: target, text)


def move_app(app: AppConfig, move: Callable[[str], str]) -> AppConfig:
    """Paths, and what stands in arguments and variables because the file wrote it with __dirname."""
    changed: dict[str, Any] = {}
    for field in PATHS:
        place = getattr(app, field)
        if place and os.path.isabs(place) and (moved := move(os.path.normpath(place))) != os.path.normpath(place):
            changed[field] = moved.replace(os.sep, "/")
    for field in _LISTS:
        changed[field] = tuple(move(item) if isinstance(item, str) else item for item in getattr(app, field))
    return app._replace(env={name: move(value) for name, value in app.env.items()}, **changed)


# -- from written values to AppConfig --------------------------------------------------------------------------------


def list_apps(content: Any, path: str, warnings: list[str]) -> list[Mapping[str, Any]]:
    """The list of apps in every form PM2 accepts: `apps`, `pm2`, a bare list, a single app."""
    apps = content
    if isinstance(content, Mapping):
        if "apps" in content or "pm2" in content:
            apps = content.get("apps", content.get("pm2"))
            if isinstance(apps, Mapping) and isinstance(apps.get("apps"), (list, Mapping)):
                apps = apps["apps"]
            known = sorted(_TOP_LEVEL)
            names = () if os.path.basename(path) == _PACKAGE else content
            warnings += [unknown_key(key, known, path, "the top level") for key in names if key not in _TOP_LEVEL]
        elif not content or "static" in content or "jobs" in content:
            apps = []
    if isinstance(apps, Mapping):
        apps = [apps]
    if isinstance(content, Mapping) and content.get("static"):
        apps = [*(apps if isinstance(apps, list) else ()), *list_static(content, path, warnings)]
    if os.path.basename(path) == _PACKAGE and not {"apps", "pm2"} & {*content}:
        raise UsageError("it has no key 'pm2' with apps", where=path, next="percore start npm -- start")
    has_jobs = isinstance(content, Mapping) and content.get("jobs")
    if not isinstance(apps, list) or not (apps or has_jobs):
        raise UsageError("it contains no apps", where=path, next="see docs/reference/process-file.md")
    for number, app in enumerate(apps):
        if not isinstance(app, Mapping):
            raise UsageError(f"app {number} must be a mapping of keys to values, not {shown(app)}", where=path)
    return apps


def list_static(content: Mapping[str, Any], path: str, warnings: list[str]) -> list[Mapping[str, Any]]:
    """The entries of `static`, as apps."""
    entries = content["static"]
    found: list[Mapping[str, Any]] = []
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries]):
        if not isinstance(entry, Mapping):
            raise UsageError(f"entry {number} of 'static' must be a mapping, not {shown(entry)}", where=path)
        where = line_of(content, "static", path)
        warnings += [unknown_key(key, _STATIC_KEYS, where, "'static'") for key in entry if key not in _STATIC_KEYS]
        found.append(static_app(entry))
    return found


def static_app(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The app, as a process file would write it."""
    port = entry.get("port", _STATIC_PORT)
    env = {
        f"PM2_SERVE_{variable}": entry[key] for key, variable in _STATIC_VARIABLES.items() if entry.get(key) is not None
    }
    credentials = entry.get("basic_auth")
    if isinstance(credentials, Mapping):
        env["PM2_SERVE_BASIC_AUTH"] = True
        env["PM2_SERVE_BASIC_AUTH_USERNAME"] = credentials.get("username", "")
        env["PM2_SERVE_BASIC_AUTH_PASSWORD"] = credentials.get("password", "")
    return {
        "name": entry.get("name") or f"static-page-server-{port}",
        "script": STATIC_SERVER,
        "env": {"PM2_SERVE_PORT": port, **env},
    }


def _settle_names(apps: Sequence[AppConfig], path: str) -> list[AppConfig]:
    """Namespace and name make an app. Where two have one name, those of a namespace are known by both from here on."""
    plain = [app.name for app in apps]
    full = [full_name(app.name, app.namespace) for app in apps]
    for name, whole in zip(plain, full):
        if full.count(whole) > 1:
            advice = "give each its own name, or a namespace"
            raise UsageError(f"two apps are called '{name}'", where=path, next=advice)
    names = [
        app.name if plain.count(app.name) == 1 or app.namespace == DEFAULT_NAMESPACE else whole
        for app, whole in zip(apps, full)
    ]
    return [
        app._replace(name=name, depends_on=tuple(names[_find_need(apps, app, need, path)] for need in app.depends_on))
        for app, name in zip(apps, names)
    ]


def _find_need(apps: Sequence[AppConfig], app: AppConfig, need: str, path: str) -> int:
    """Which of the apps it is: of several, the one of the same namespace."""
    found = [number for number, other in enumerate(apps) if need in names_of(other.name, other.namespace)]
    own = [number for number in found if apps[number].namespace == app.namespace]
    if len(own or found) > 1:
        raise UsageError(
            f"'depends_on' of app '{app.name}' names '{need}', as several apps are called",
            where=path,
            next=f"write one of {' or '.join(full_name(need, apps[number].namespace) for number in found)}",
        )
    if not found or apps[(own or found)[0]] is app:
        like = nearest(need, [other.name for other in apps if other is not app])
        raise UsageError(
            f"'depends_on' of app '{app.name}' names '{need}', but this file has no other app of that name",
            where=path,
            next=f"did you mean '{like}'?" if like else "",
        )
    if apps[(own or found)[0]].is_job:
        raise UsageError(f"'depends_on' of app '{app.name}' names '{need}', which is a job", where=path)
    return (own or found)[0]
