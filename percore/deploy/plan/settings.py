"""The deploy's own settings out of a host's variables, checked and typed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from percore.common import names
from percore.deploy.masking import REDACTOR
from percore.deploy.plan.batches import MOST, Policy, read_policy
from percore.deploy.plan.variables import Variables
from percore.errors import UsageError, nearest, shown
from percore.supervisor.config import env_file

_PHASES = ("build", "connect", "stage", "activate", "confirm")
_HOOKS = (*(f"{when}_{phase}" for phase in _PHASES for when in ("before", "after")), "failed")
_NO_TEXT = r"[\0\ud800-\udfff]"

T = TypeVar("T")


@dataclass(frozen=True)
class AppSettings:
    """What the deploy itself needs to know, checked and typed. Sizes in bytes, times in seconds."""

    name: str
    path: Path
    port: int | None
    health_path: str | None
    health_seconds: float
    build_command: str | None
    install_command: str | None
    process_file: str | None
    process_env: str | None
    artifact_exclude: tuple[str, ...]
    deploy_to: str
    keep_releases: int
    percore_home: str
    percore_user: str | None
    package_path: str
    launcher_path: str
    service_manager: str
    nginx: bool
    nginx_port: int
    server_name: str
    env: Mapping[str, str] = field(repr=False)
    policy: Policy
    confirm_seconds: float
    max_clock_skew_seconds: float
    probe_max_failed_percentage: float
    probe_max_slowdown: float
    hooks: Mapping[str, tuple[str, ...]]
    placement: Mapping[str, str]
    ask_before_switch: bool

    @property
    def has_systemd(self) -> bool:
        return self.service_manager == "systemd"

    @property
    def shown_port(self) -> int | None:
        """The port a visitor uses: NGINX's where there is one."""
        return self.nginx_port if self.nginx else self.port


def read_settings(variables: Variables, project: Path) -> AppSettings:
    """The deploy's own settings out of a host's variables; UsageError names the variable that does not fit."""
    reader = _Reader(variables)
    systemd = reader.choice("service_manager", ("systemd", "process")) == "systemd"
    return AppSettings(
        name=reader.name("app_name"),
        path=project / reader.text("app_path"),
        port=reader.optional("port", reader.port),
        health_path=reader.optional("health_path", reader.url_path),
        health_seconds=reader.number("health_seconds"),
        build_command=reader.optional("build_command", reader.text),
        install_command=reader.optional("install_command", reader.text),
        process_file=reader.optional("process_file", reader.inner_path),
        process_env=reader.optional("process_env", reader.name),
        artifact_exclude=tuple(reader.texts("artifact_exclude")),
        deploy_to=reader.path("deploy_to"),
        keep_releases=reader.number("keep_releases"),
        percore_home=reader.path("percore_home"),
        percore_user=reader.optional("percore_user", reader.user) if systemd else None,
        package_path=reader.path("package_path"),
        launcher_path=reader.path("launcher_path"),
        service_manager="systemd" if systemd else "process",
        nginx=reader.flag("nginx"),
        nginx_port=reader.port("nginx_port"),
        server_name=reader.server_name("server_name"),
        env=read_environment(reader, project / reader.text("app_path")),
        policy=read_policy(
            *(variables[name] for name in ("serial", "canary", "max_fail_percentage", "soak_seconds")),
            where=variables.where(),
        ),
        confirm_seconds=reader.number("confirm_seconds", least=3),  # we say once a second that we are there
        max_clock_skew_seconds=reader.number("max_clock_skew_seconds"),
        probe_max_failed_percentage=reader.number("probe_max_failed_percentage"),
        probe_max_slowdown=reader.number("probe_max_slowdown"),
        placement={str(app): str(pattern) for app, pattern in reader.mapping("placement").items()},
        ask_before_switch=reader.flag("ask_before_switch"),
        hooks=_read_hooks(reader.mapping("hooks"), where=variables.where()),
    )


def read_environment(reader: _Reader, app: Path) -> dict[str, str]:
    """The app's env file of this environment, then `env`, which wins. What is named in `secrets` must not be empty."""
    named = reader.optional("env_file", reader.text)
    path = app / (named or f".env.{reader.text('env_name')}")
    env = {**(env_file.read(str(path), strict=True) if named or path.is_file() else {}), **reader.environment("env")}
    port = reader.optional("port", reader.port)
    if port is not None and env.get("PORT", str(port)) != str(port):
        raise UsageError(
            f"PORT is {env['PORT']} in the app's environment, and port is {port}",
            where=reader.variables.where("port"),
            next=f"set port: {env['PORT']} in the inventory, or take PORT out of {path.name}",
        )
    names = reader.texts("secrets")
    for name in names:
        if not env.get(name, "").strip():
            raise UsageError(
                f"secret '{name}' is not set",
                where=reader.variables.where("secrets"),
                next=f"set it under 'env' in the inventory (invoke secrets.encrypt-string), or in {path.name}",
            )
    REDACTOR.hide([env[name] for name in names])
    REDACTOR.hide_environment(env)
    return env


def _is_number(value: object) -> bool:
    """A whole one that can be written out; a template may make any."""
    return isinstance(value, int) and value.bit_length() < 3000


class _Reader:
    """Reads typed values; the message of a wrong one names the variable and what it holds."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables

    def value(self, name: str) -> Any:
        if name not in self.variables:
            raise UsageError(
                f"variable '{name}' is not set", where=self.variables.where(), next="set it in the inventory"
            )
        return self.variables[name]

    def optional(self, name: str, read: Callable[[str], T]) -> T | None:
        return None if name not in self.variables or self.variables[name] in (None, "") else read(name)

    def text(self, name: str) -> str:
        value = self.value(name)
        is_text = isinstance(value, str) and value != "" and not re.search(_NO_TEXT, value)
        return str(value) if is_text or _is_number(value) else self._refuse(name, value, "a text")

    def path(self, name: str) -> str:
        value = self._matching(name, names.is_absolute_path, "an absolute path without '..', and not /")
        # What a background process of this user has lies wherever his project does.
        if self.value("service_manager") == "systemd" and not names.is_safe_path(value):
            return self._refuse(name, value, "an absolute path without '..', of letters, digits and . _ - + @ : ~")
        return value.rstrip("/")

    def inner_path(self, name: str) -> str:
        return self._matching(name, names.is_inner_path, "a path in the app's directory, without '..'")

    def name(self, name: str) -> str:
        return self._matching(name, names.is_path_word, names.PATH_WORD)

    def user(self, name: str) -> str:
        return self._matching(name, names.is_user_name, "the name of a user")

    def server_name(self, name: str) -> str:
        return self._matching(name, names.is_server_name, "a name as NGINX's server_name takes it")

    def url_path(self, name: str) -> str:
        return self._matching(name, lambda path: re.fullmatch(r"/[!-~]*", path), "a path such as /health")

    def _matching(self, name: str, fits: Callable[[str], object], wanted: str) -> str:
        value = self.text(name)
        return value if fits(value) else self._refuse(name, value, wanted)

    def port(self, name: str) -> int:
        number = self.number(name)
        return number if 0 < number < 65536 else self._refuse(name, number, "a port from 1 to 65535")

    def number(self, name: str, *, least: int = 0) -> int:
        value = self.value(name)
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            return self._refuse(name, value, "a whole number")
        return value if least <= value <= MOST else self._refuse(name, value, f"a number from {least} to {MOST}")

    def flag(self, name: str) -> bool:
        value = self.value(name)
        return value if isinstance(value, bool) else self._refuse(name, value, "true or false")

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        value = self.value(name)
        return str(value) if value in known else self._refuse(name, value, " or ".join(known))

    def texts(self, name: str) -> list[str]:
        value = self.value(name)
        is_list = isinstance(value, list) and all(isinstance(entry, (str, int)) for entry in value)
        return [str(entry) for entry in value] if is_list else self._refuse(name, value, "a list of texts")

    def mapping(self, name: str) -> dict[str, Any]:
        value = self.value(name)
        return value if isinstance(value, dict) else self._refuse(name, value, "a mapping")

    def environment(self, name: str) -> dict[str, str]:
        """Texts for environment variables; a value that is null would silently become the text of a null."""
        found: dict[str, str] = {}
        for key, value in self.mapping(name).items():
            if not isinstance(value, (str, float)) and not _is_number(value):
                self._refuse(f"{name}.{key}", value, "a text, a number, or true or false")
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if fault := names.variable_fault(str(key), text):
                raise UsageError(fault, where=self.variables.where(name))
            found[str(key)] = text
        return found

    def _refuse(self, name: str, value: object, wanted: str) -> NoReturn:
        raise UsageError(
            f"variable '{name}' should be {wanted} and is {shown(value)}", where=self.variables.where(name)
        )


def _read_hooks(written: Mapping[str, object], *, where: str) -> dict[str, tuple[str, ...]]:
    """Command lines by name. Raises UsageError for a name that is none, or what is no command."""
    hooks: dict[str, tuple[str, ...]] = {}
    for name, value in written.items():
        if name not in _HOOKS:
            guess = nearest(str(name), list(_HOOKS))
            raise UsageError(
                f"hook '{name}' is not known", where=where,
                next=f"did you mean '{guess}'?" if guess else f"known: {', '.join(_HOOKS)}",
            )  # fmt: skip
        commands = value if isinstance(value, list) else [value]
        if not all(isinstance(command, str) and command.strip() and "\0" not in command for command in commands):
            raise UsageError(f"hook '{name}' should be a command or a list of commands", where=where)
        hooks[name] = tuple(map(str, commands))
    return hooks
