"""The deploy's own settings out of a host's variables, checked and typed. Their defaults are in the roles' `role.yml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from percore.common import names
from percore.deploy import schema
from percore.deploy.alerts.targets import AlertTarget, read_targets
from percore.deploy.alerts.trace import Otel, read_otel
from percore.deploy.command_line import to_type
from percore.deploy.masking import REDACTOR
from percore.deploy.plan.batches import Policy
from percore.deploy.plan.site import SiteSettings, read_site
from percore.deploy.plan.variables import Variables
from percore.deploy.plan.version import require_version
from percore.deploy.schema import read_fields, read_variable
from percore.errors import UsageError
from percore.supervisor.config import env_file

_PHASES = ("build", "connect", "stage", "activate", "confirm")
VERBS = ("deploy", "rollback", "converge")
_OF_DEPLOYS = ("before_build", "after_build", "before_stage", "after_stage")
_HOOKS = (*(f"{when}_{phase}" for phase in _PHASES for when in ("before", "after")), "failed")
_COMMAND = schema.matching("a command", lambda text: text.strip())
_HOOK_VERBS = schema.lists_of(schema.choice(*VERBS))
_APP_PATH = schema.Kind("a text", lambda value: Path(schema.TEXT.convert(value)), variable="app_path")
_HOST_DIRECTORY = schema.Kind(schema.PATH.wanted, lambda value: schema.PATH.convert(value).rstrip("/"))
_OPTIONAL_TEXT = schema.optional(schema.TEXT)
_PYTHON_VERSION = schema.matching(
    "a version such as '3.12', in quotes", lambda text: re.fullmatch(r"3\.[0-9]{1,2}", text)
)
_RELOAD_WORKERS = schema.defaulting(schema.whole(least=1, most=1000), 1)
_HOST_NAME = schema.matching("a name such as shop.example.com", lambda text: re.fullmatch(r"[\w.-]+(:[0-9]+)?", text))
_STARTUP = schema.defaulting(schema.FLAG, True)
_SHARED = schema.defaulting(schema.Kind(schema.SHARED.wanted, lambda value: _to_shared(value)), ())
_RENAMED_FROM = schema.optional(
    schema.matching("APP_NAME, or APP_NAME/ENVIRONMENT", lambda text: all(map(names.is_path_word, text.split("/", 1))))
)
_PLACEMENT = schema.Kind("a mapping", lambda value: _to_texts(schema.MAPPING.convert(value)))


@dataclass(frozen=True)
class HookCommand:
    """A line for a shell on the control machine, and the verbs that run it."""

    run: str
    on: tuple[str, ...] = ("deploy",)


@dataclass(frozen=True)
class ReleaseCommand:
    """A line for a shell, run once for the whole fleet before any host switches, as this app (empty: the first one)."""

    run: str
    app: str = ""
    irreversible: bool = False


@dataclass(frozen=True)
class AppSettings:
    """What the deploy itself needs to know. Sizes in bytes, times in seconds."""

    name: Annotated[str, schema.NAME.of("app_name")]
    path: Annotated[Path, _APP_PATH]
    port: Annotated[int | None, schema.optional(schema.PORT)]
    health_path: Annotated[str | None, schema.optional(schema.URL_PATH)]
    health_host: Annotated[str | None, schema.optional(_HOST_NAME)]
    health_seconds: Annotated[int, schema.whole()]
    reload_workers: Annotated[int, _RELOAD_WORKERS]
    build_command: Annotated[str | None, _OPTIONAL_TEXT]
    install_command: Annotated[str | None, _OPTIONAL_TEXT]
    install_production_command: Annotated[str | None, _OPTIONAL_TEXT]
    package_manager: Annotated[str | None, schema.optional(schema.choice("npm", "pnpm", "yarn", "bun"))]
    python_version: Annotated[str | None, schema.optional(_PYTHON_VERSION)]
    process_file: Annotated[str | None, schema.optional(schema.INNER_PATH)]
    env_name: Annotated[str, schema.TEXT]
    process_env: Annotated[str | None, schema.optional(schema.NAME)]
    artifact_include: Annotated[list[str], schema.TEXTS]
    artifact_exclude: Annotated[list[str], schema.TEXTS]
    deploy_to: Annotated[str, _HOST_DIRECTORY]
    renamed_from: Annotated[str | None, _RENAMED_FROM]
    shared: Annotated[tuple[str, ...], _SHARED]
    keep_releases: Annotated[int, schema.whole()]
    percore_home: Annotated[str, _HOST_DIRECTORY]
    percore_user: Annotated[str | None, schema.optional(schema.USER)]
    package_path: Annotated[str, _HOST_DIRECTORY]
    launcher_path: Annotated[str, _HOST_DIRECTORY]
    service_manager: Annotated[str, schema.choice("systemd", "process")]
    startup: Annotated[bool, _STARTUP]
    nginx: Annotated[bool, schema.FLAG]
    nginx_port: Annotated[int, schema.PORT]
    server_name: Annotated[str, schema.SERVER_NAME]
    site: SiteSettings | None  # None without NGINX
    env_file: Path | None  # None where there is none
    env: Mapping[str, str] = field(repr=False)
    build_env: Mapping[str, str] = field(repr=False)
    policy: Policy
    confirm_seconds: Annotated[int, schema.whole(least=3)]  # so long without a sign of life from us
    max_clock_skew_seconds: Annotated[int, schema.whole()]
    probe_max_failed_percentage: Annotated[int, schema.whole()]
    probe_max_slowdown: Annotated[int, schema.whole()]
    hooks: Mapping[str, tuple[HookCommand, ...]]
    placement: Annotated[Mapping[str, str], _PLACEMENT]
    ask_before_switch: Annotated[bool, schema.FLAG]
    release_command: ReleaseCommand | None
    image_repository: Annotated[str | None, schema.optional(schema.IMAGE_REPOSITORY)]
    image_base: Annotated[str | None, _OPTIONAL_TEXT]

    @property
    def has_systemd(self) -> bool:
        return self.service_manager == "systemd"

    @property
    def unit(self) -> str | None:
        """The supervisor's, where there is a service manager."""
        return names.UNIT if self.has_systemd else None

    @property
    def asked_host(self) -> str:
        """By which name the app is asked whether it is well; empty: by none."""
        return self.health_host or names.first_host(self.server_name)

    @property
    def shown_port(self) -> int | None:
        """The port a visitor uses: NGINX's where there is one."""
        return self.nginx_port if self.nginx else self.port


@dataclass(frozen=True)
class HostSettings:
    """What a run needs to know of any host, also of one without the app."""

    setup_path: Annotated[str, _HOST_DIRECTORY]
    package_path: Annotated[str, _HOST_DIRECTORY]
    service_manager: Annotated[str, schema.choice("systemd", "process")]
    policy: Policy
    confirm_seconds: Annotated[int, schema.whole(least=3)]
    ask_before_switch: Annotated[bool, schema.FLAG]
    alerts: tuple[AlertTarget, ...]
    otel: Otel | None

    @property
    def has_systemd(self) -> bool:
        return self.service_manager == "systemd"


def read_host_settings(variables: Variables) -> HostSettings:
    """Before all else: is this the version of percore that may change the host?"""
    require_version(variables)
    read_variable(variables, "percore_home", _HOST_DIRECTORY)  # named itself: `setup_path` is made of it
    policy = Policy(**read_fields(Policy, variables))
    alerts, otel = read_targets(variables), read_otel(variables)
    return HostSettings(**read_fields(HostSettings, variables), policy=policy, alerts=alerts, otel=otel)


def read_settings(variables: Variables, project: Path) -> AppSettings:
    """The deploy's own settings out of a host's variables; UsageError names the variable that does not fit."""
    values = read_fields(AppSettings, variables)
    values["path"] = project / values["path"]
    if values["service_manager"] == "systemd":
        _require_safe_paths(variables)
    else:
        values["percore_user"] = None
    file = _find_env_file(variables, values["path"])
    from_file = env_file.read(str(file), strict=True) if file else {}
    return AppSettings(
        **values,
        site=read_site(variables) if values["nginx"] else None,
        env_file=file,
        env=_read_environment(variables, from_file, values["port"]),
        build_env={**from_file, **_read_env(variables, "build_env")},
        policy=Policy(**read_fields(Policy, variables)),
        hooks=_read_hooks(variables),
        release_command=_read_release_command(variables),
    )


def settings_left_out(app: Path, env: str) -> str:
    """The file with the settings of its developers, which no deploy reads, where the app has none for this environment."""
    names = (".env", ".env.example", ".env.sample", ".env.template")
    return next((name for name in names if (app / name).is_file() and not (app / f".env.{env}").exists()), "")


def _require_safe_paths(variables: Variables) -> None:
    """A unit needs plain characters. Without systemd, paths may be whatever the project's own path is."""
    for name in ("deploy_to", "percore_home", "package_path", "launcher_path"):
        read_variable(variables, name, schema.SAFE_PATH)


def _find_env_file(variables: Variables, app: Path) -> Path | None:
    """The app's env file of this environment; one that is named must be there."""
    named = read_variable(variables, "env_file", _OPTIONAL_TEXT)
    path = app / _env_file_name(variables)
    return path if named or path.is_file() else None


def _env_file_name(variables: Variables) -> str:
    named = read_variable(variables, "env_file", _OPTIONAL_TEXT)
    return named or f".env.{read_variable(variables, 'env_name', schema.TEXT)}"


def _read_environment(variables: Variables, from_file: Mapping[str, str], port: int | None) -> dict[str, str]:
    """What roles give the app, its env file, then `env`, which wins. What is named in `secrets` must not be empty."""
    env = {**_read_env(variables, "role_env"), **from_file, **_read_env(variables, "env")}
    file_name = _env_file_name(variables)
    if port is not None and env.get("PORT", str(port)) != str(port):
        raise UsageError(
            f"PORT is {env['PORT']} in the app's environment, and port is {port}",
            where=variables.where("port"),
            next=f"set port: {env['PORT']} in the inventory, or take PORT out of {file_name}",
        )
    secrets = read_variable(variables, "secrets", schema.TEXTS)
    for name in secrets:
        if not env.get(name, "").strip():
            raise UsageError(
                f"secret '{name}' is not set",
                where=variables.where("secrets"),
                next=f"set it under 'env' in the inventory ({to_type('secrets.encrypt-string')}), or in {file_name}",
            )
    REDACTOR.hide([env[name] for name in secrets])
    REDACTOR.hide_environment(env)
    return env


def _read_env(variables: Variables, name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    where = variables.where(name)
    for key, value in read_variable(variables, name, schema.MAPPING).items():
        found[str(key)] = schema.ENVIRONMENT_VALUE.read(value, f"variable '{name}.{key}'", where)
        if fault := names.variable_fault(str(key), found[str(key)]):
            raise UsageError(fault, where=where)
    return found


def _read_hooks(variables: Variables) -> dict[str, tuple[HookCommand, ...]]:
    """Commands by the hook's name."""
    written = read_variable(variables, "hooks", schema.MAPPING)
    where = variables.where("hooks")
    for name in written:
        if name not in _HOOKS:
            advice = schema.suggest(name, _HOOKS, f"known: {', '.join(_HOOKS)}")
            raise UsageError(f"hook '{name}' is not known", where=where, next=advice)
    return {
        name: tuple(_read_hook(name, entry, where) for entry in (value if isinstance(value, list) else [value]))
        for name, value in written.items()
    }


def _read_hook(name: str, written: Any, where: str) -> HookCommand:
    """A line, or a mapping of `run` and `on`."""
    if not isinstance(written, dict):
        return HookCommand(_COMMAND.read(written, f"hook '{name}'", where))
    written = schema.require_keys(written, ("run", "on"), f"hooks.{name}", where)
    line = _COMMAND.read(written.get("run"), f"'run' of hook '{name}'", where)
    verbs = _HOOK_VERBS.read(written.get("on", "deploy"), f"'on' of hook '{name}'", where)
    if name in _OF_DEPLOYS and set(verbs) != {"deploy"}:
        raise UsageError(
            f"hook '{name}' cannot be run on {' and '.join(verbs)}: only a deploy builds and stages",
            where=where,
            next="use before_activate or after_activate",
        )
    return HookCommand(line, verbs)


def _read_release_command(variables: Variables) -> ReleaseCommand | None:
    """A line, or a mapping of `run` and what is said about it."""
    name = "release_command"
    written, where = variables.get(name, ""), variables.where(name)
    if written is None or written == "":
        return None
    if not isinstance(written, dict):
        return ReleaseCommand(_COMMAND.read(written, f"variable '{name}'", where))
    schema.require_keys(written, ("run", "app", "irreversible"), name, where)
    return ReleaseCommand(
        _COMMAND.read(written.get("run"), f"variable '{name}.run'", where),
        schema.TEXT.read(written["app"], f"variable '{name}.app'", where) if written.get("app") else "",
        schema.FLAG.read(written.get("irreversible", False), f"variable '{name}.irreversible'", where),
    )


def _to_shared(value: Any) -> tuple[str, ...]:
    """None of them lies in another one: a link would lead into a link."""
    found = schema.SHARED.convert(value)
    if any(one != other and one.startswith(f"{other}/") for one in found for other in found):
        raise ValueError
    return tuple(dict.fromkeys(found))


def _to_texts(mapping: Mapping[Any, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in mapping.items()}
