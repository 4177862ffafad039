"""HostPlan -> HostState: the only place that knows Jinja. Pure but for reading template files.

Values of variables are templates themselves and are resolved when first used; an undefined name is an error that says
which template, which line and which variable.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from jinja2 import (
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
    nodes,
)
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import missing

import percore
from percore.deploy.batches import read_policy
from percore.deploy.documents import Unsafe
from percore.deploy.env_file import read_env_file
from percore.deploy.hooks import read_hooks
from percore.deploy.keyring import keyring, open_sealed
from percore.deploy.plan import AppSettings, HostPlan, HostState, is_true
from percore.deploy.redaction import REDACTOR
from percore.deploy.roles import Item, Role
from percore.deploy.vault import HEADER, Sealed
from percore.errors import UsageError, nearest

T = TypeVar("T")

SHIPPED = Path(percore.__file__).parent / "supervisor"
"""Holds the unit of the supervisor, which `percore startup` writes too."""

MARKS = re.compile(r"\{[{%#]")
FAULTS = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)
"""What an expression of the operator can raise; an error of ours passes through."""

MISSING_NAME = re.compile(r"'([^']+)' is undefined")


SELF = "percore_variables"
"""The name under which a template's context carries the host's variables."""


class LazyContext(Context):
    """Looks a name up among the host's variables only when the template uses it."""

    def resolve_or_missing(self, key: str) -> Any:
        found = super().resolve_or_missing(key)
        variables = self.parent.get(SELF, {})
        return variables[key] if found is missing and key in variables else found


class Variables(Mapping[str, Any]):
    """A host's variables, each resolved when it is asked for."""

    def __init__(
        self, raw: Mapping[str, Any], environment: SandboxedEnvironment, host: str, places: Mapping[str, str]
    ) -> None:
        self._raw = raw
        self._environment = environment
        self._host = host
        self._places = places
        self._done: dict[str, Any] = {}
        self._open: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __contains__(self, name: object) -> bool:
        return name in self._raw

    def __getitem__(self, name: str) -> Any:
        if name in self._done:
            return self._done[name]
        value = self._raw[name]
        if name in self._open:
            circle = " > ".join([*self._open[self._open.index(name) :], name])
            raise UsageError(f"variables refer to each other in a circle: {circle}", where=self.where(name))
        self._open.append(name)
        try:
            self._done[name] = self.resolve(value, f"variable {name}", self._places.get(name, ""))
        finally:
            self._open.pop()
        return self._done[name]

    def where(self, name: str = "", place: str = "") -> str:
        """For errors: the file and line that set a variable, and the host."""
        place = place or self._places.get(name, "")
        return f"{place}, host {self._host}" if place else f"host {self._host}"

    def resolve(self, value: Any, path: str, place: str = "") -> Any:
        """Templates inside texts, lists and mappings become their values, and encrypted values are opened."""
        if isinstance(value, Sealed):
            return open_sealed(value)  # never a template, as in Ansible: a password may hold braces
        if isinstance(value, Unsafe):
            return str(value)
        if isinstance(value, str):
            return self._resolve_text(value, path, place) if MARKS.search(value) else value
        if isinstance(value, list):
            return [self.resolve(entry, f"{path}[{index}]", place) for index, entry in enumerate(value)]
        if isinstance(value, dict):
            return {key: self.resolve(entry, f"{path}.{key}", place) for key, entry in value.items()}
        return value

    def is_true(self, condition: object, path: str) -> bool:
        """A `when`: true, false, or an expression such as `nginx and service_manager == "systemd"`."""
        if isinstance(condition, bool):
            return condition
        return bool(self._evaluate(str(condition), path, ""))

    def _resolve_text(self, text: str, path: str, place: str) -> Any:
        try:
            if self._is_one_expression(text):
                return self._evaluate(text[2:-2].strip("-+ \n"), path, place)
            return self._environment.from_string(text).render({SELF: self})
        except FAULTS as error:
            raise self._fault(error, path, place) from None

    def _is_one_expression(self, text: str) -> bool:
        """Such a value keeps the type of its result: "{{ port }}" stays a number."""
        if not (text.startswith("{{") and text.endswith("}}")):
            return False
        body = self._environment.parse(text).body
        parts = body[0].nodes if len(body) == 1 and isinstance(body[0], nodes.Output) else []
        return len(parts) == 1 and not isinstance(parts[0], nodes.TemplateData)

    def _evaluate(self, expression: str, path: str, place: str) -> Any:
        try:
            compiled = self._environment.compile_expression(expression, undefined_to_none=False)
            value = compiled({SELF: self})
        except FAULTS as error:
            raise self._fault(error, path, place) from None
        if isinstance(value, StrictUndefined):
            raise self._fault(UndefinedError(value._undefined_message), path, place)
        return value

    def _fault(self, error: Exception, path: str, place: str) -> UsageError:
        return template_fault(error, where=f"{self.where(place=place)}, {path}", known=list(self))


def make_environment(folders: list[Path]) -> SandboxedEnvironment:
    """Templates are looked for in the given folders, first hit wins."""
    environment = SandboxedEnvironment(
        loader=FileSystemLoader([str(folder) for folder in folders]),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.context_class = LazyContext
    environment.filters.update(FILTERS)
    environment.globals["lookup"] = _look_up
    return environment


def _mandatory(value: Any) -> Any:
    return str(value) if isinstance(value, StrictUndefined) else value


def _look_up(kind: str, *names: str) -> str:
    """`lookup('env', NAME)`: a variable of the control machine's environment; one that is not set is an error."""
    if kind not in ("env", "ansible.builtin.env"):
        raise ValueError(f"lookup('{kind}') is not supported, only lookup('env', NAME)")
    missing_names = [name for name in names if name not in os.environ]
    if missing_names:
        raise ValueError(f"environment variable {missing_names[0]} is not set here")
    return ",".join(os.environ[name] for name in names)


FILTERS: Mapping[str, Callable[..., Any]] = {
    "b64encode": lambda value: base64.b64encode(str(value).encode()).decode(),
    "b64decode": lambda value: base64.b64decode(str(value)).decode(),
    "bool": is_true,
    "mandatory": _mandatory,
    "quote": lambda value: shlex.quote(str(value)),
    "to_json": lambda value: json.dumps(value),
}
"""Those of Ansible's filters that values in inventories use most, beside Jinja's own."""


def template_fault(error: Exception, *, where: str, known: list[str]) -> UsageError:
    """One line for a template that cannot be rendered: which, on which line, and the variable with its nearest name."""
    if isinstance(error, TemplateSyntaxError):
        return UsageError(f"template is not valid: {error.message}", where=f"{error.filename or where}:{error.lineno}")
    if isinstance(error, TemplateNotFound):
        return UsageError(f"template '{error.name}' does not exist", where=where, next="look in templates/ of the role")
    name = MISSING_NAME.search(str(error))
    if name is None:
        return UsageError(f"template fails: {error}", where=where)
    guess = nearest(name.group(1), known)
    advice = f"did you mean '{guess}'?" if guess else "set it in the inventory or in the role's defaults"
    return UsageError(f"variable '{name.group(1)}' is not defined", where=where, next=advice)


def plan_settings(plan: HostPlan) -> AppSettings:
    """The settings of a host before it was asked for facts: they may not depend on those."""
    return read_settings(resolve_variables(plan), plan.project)


def resolve_variables(plan: HostPlan, known: Mapping[str, Any] | None = None) -> Variables:
    """A host's variables; without `known`, those that need facts cannot be resolved yet."""
    environment = make_environment([plan.project / "templates"])
    return Variables({**plan.variables, **(known or {})}, environment, plan.host, plan.places)


def render_plan(plan: HostPlan, *, known: Mapping[str, Any]) -> HostState:
    """Resolve one host's roles. `known` are values learnt from the host (facts) and of percore's own package."""
    variables = resolve_variables(plan, known)
    settings = read_settings(variables, plan.project)
    maker = _StateMaker(plan, variables)
    for role in plan.roles:
        if role.when is None or variables.is_true(role.when, f"{role.file} when"):
            maker.add(role)
    return HostState(plan.host, settings, tuple(maker.prepare), tuple(maker.before), tuple(maker.after), maker.files)


class _StateMaker:
    """Collects the specs of the roles in the order in which a host does them."""

    def __init__(self, plan: HostPlan, variables: Variables) -> None:
        self.plan = plan
        self.variables = variables
        self.prepare: list[dict[str, Any]] = []
        self.before: list[dict[str, Any]] = []
        self.after: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}

    def add(self, role: Role) -> None:
        packages = list(self._items(role, "packages"))
        if packages:
            self.prepare.append({"kind": "packages", "packages": packages})
        self.prepare += [{"kind": "user", **item} for item in self._items(role, "users")]
        self.prepare += [_rights({"kind": "directory", **item}) for item in self._items(role, "directories")]
        self.before += [self._file(role, item) for item in self._items(role, "files")]
        self.before += [_link(item) for item in self._items(role, "links")]
        self.before += [spec for item in self._items(role, "units") for spec in self._unit(role, item)]
        self.before += [_command(item) for item in self._items(role, "commands")]
        self.after += [spec for item in self._items(role, "sites") for spec in self._site(role, item)]

    def _items(self, role: Role, kind: str) -> Iterator[dict[str, Any]]:
        """The items of a kind whose `when` holds, with every value resolved."""
        for index, item in enumerate(role[kind]):
            path = f"{role.file} {kind}[{index}]"
            if "when" not in item or self.variables.is_true(item["when"], f"{path}.when"):
                yield self.variables.resolve({key: value for key, value in item.items() if key != "when"}, path)

    def _content(self, role: Role, item: Item) -> str:
        """Keep the content of a template, copied file or literal; returns its SHA-256."""
        if "template" in item:
            content = self._render(role, str(item["template"])).encode()
        elif "copy" in item:
            content = _read(role.folder / "files" / str(item["copy"]), role)
        else:
            content = str(item["content"]).encode()
        sha256 = hashlib.sha256(content).hexdigest()
        self.files[sha256] = content
        return sha256

    def _render(self, role: Role, name: str) -> str:
        environment = make_environment([role.folder / "templates", self.plan.project / "templates", SHIPPED])
        try:
            return environment.get_template(name).render({SELF: self.variables})
        except TemplateError as error:
            line = _line_in_template(error, name)
            where = str(role.file) if isinstance(error, TemplateNotFound) else f"template {name}{line}"
            raise template_fault(error, where=where, known=list(self.variables)) from None

    def _file(self, role: Role, item: Item) -> dict[str, Any]:
        spec = {
            "kind": "file",
            "sha256": self._content(role, item),
            **_without(item, "template", "copy", "content"),
        }
        if isinstance(spec.get("validate"), str):
            spec["validate"] = _words(spec["validate"], f"{role.file} files, validate of {item['path']}")
        return _rights(spec)

    def _unit(self, role: Role, item: Item) -> Iterator[dict[str, Any]]:
        """A unit is its file, checked by systemd itself, and its state."""
        if "template" in item:
            yield _rights(
                {
                    "kind": "unit-file",
                    "path": item.get("path", f"/etc/systemd/system/{item['name']}"),
                    "sha256": self._content(role, item),
                    "mode": item.get("mode", "0644"),
                    "validate": ["systemd-analyze", "verify", "--man=no", "%s"],
                }
            )
        yield {"kind": "unit", "name": item["name"], **{key: item[key] for key in ("active", "enabled") if key in item}}

    def _site(self, role: Role, item: Item) -> Iterator[dict[str, Any]]:
        name = item["name"]
        without = list(item.get("replaces", []))
        yield from ({"kind": "absent", "path": path} for path in without)
        yield {
            "kind": "site",
            "path": item.get("path", f"/etc/nginx/sites-available/{name}"),
            "link": item.get("link", f"/etc/nginx/sites-enabled/{name}"),
            "sha256": self._content(role, item),
            "without": without,
        }


def render_text(template: str, values: Mapping[str, Any], folder: Path) -> str:
    """One shared template with plain values, such as the edge configuration of all hosts."""
    try:
        return make_environment([folder]).get_template(template).render(**values)
    except TemplateError as error:
        raise template_fault(
            error, where=f"template {template}{_line_in_template(error, template)}", known=list(values)
        ) from None


def read_settings(variables: Variables, project: Path) -> AppSettings:
    """The deploy's own settings out of a host's variables; UsageError names the variable that does not fit."""
    reader = _Reader(variables)
    systemd = reader.choice("service_manager", ("systemd", "process")) == "systemd"
    return AppSettings(
        name=reader.text("app_name"),
        path=project / reader.text("app_path"),
        port=reader.optional("port", reader.number),
        health_path=reader.optional("health_path", reader.text),
        health_seconds=reader.number("health_seconds"),
        build_command=reader.optional("build_command", reader.text),
        install_command=reader.optional("install_command", reader.text),
        process_file=reader.optional("process_file", reader.text),
        process_env=reader.optional("process_env", reader.text),
        artifact_exclude=tuple(reader.texts("artifact_exclude")),
        deploy_to=reader.path("deploy_to"),
        keep_releases=reader.number("keep_releases"),
        percore_home=reader.path("percore_home"),
        percore_user=reader.optional("percore_user", reader.text) if systemd else None,
        package_path=reader.path("package_path"),
        launcher_path=reader.path("launcher_path"),
        service_manager="systemd" if systemd else "process",
        nginx=reader.flag("nginx"),
        nginx_port=reader.number("nginx_port"),
        server_name=reader.text("server_name"),
        env=read_environment(reader, project / reader.text("app_path")),
        policy=read_policy(
            *(variables[name] for name in ("serial", "canary", "max_fail_percentage", "soak_seconds")),
            where=variables.where(),
        ),
        confirm_seconds=reader.number("confirm_seconds"),
        max_clock_skew_seconds=reader.number("max_clock_skew_seconds"),
        probe_max_failed_percentage=reader.number("probe_max_failed_percentage"),
        probe_max_slowdown=reader.number("probe_max_slowdown"),
        placement={str(app): str(pattern) for app, pattern in reader.mapping("placement").items()},
        hooks=read_hooks(reader.mapping("hooks"), where=variables.where()),
    )


def read_environment(reader: _Reader, app: Path) -> dict[str, str]:
    """The app's env file of this environment, then `env`, which wins. What is named in `secrets` must not be empty."""
    named = reader.optional("env_file", reader.text)
    path = app / (named or f".env.{reader.text('env_name')}")
    env = {**(read_env_file(path) if named or path.is_file() else {}), **reader.environment("env")}
    port = reader.optional("port", reader.number)
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
        return str(value) if isinstance(value, (str, int)) and value != "" else self._refuse(name, value, "a text")

    def path(self, name: str) -> str:
        value = self.text(name)
        return value.rstrip("/") if value.startswith("/") else self._refuse(name, value, "an absolute path")

    def number(self, name: str) -> int:
        value = self.value(name)
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        return (
            value
            if isinstance(value, int) and not isinstance(value, bool)
            else self._refuse(name, value, "a whole number")
        )

    def flag(self, name: str) -> bool:
        value = self.value(name)
        return value if isinstance(value, bool) else self._refuse(name, value, "true or false")

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        value = self.value(name)
        return str(value) if value in known else self._refuse(name, value, " or ".join(known))

    def texts(self, name: str) -> list[str]:
        value = self.value(name)
        return [str(entry) for entry in value] if isinstance(value, list) else self._refuse(name, value, "a list")

    def mapping(self, name: str) -> dict[str, Any]:
        value = self.value(name)
        return value if isinstance(value, dict) else self._refuse(name, value, "a mapping")

    def environment(self, name: str) -> dict[str, str]:
        """Texts for environment variables; a value that is null would silently become the text of a null."""
        found: dict[str, str] = {}
        for key, value in self.mapping(name).items():
            if value is None or isinstance(value, (dict, list)):
                self._refuse(f"{name}.{key}", value, "a text, a number, or true or false")
            found[str(key)] = str(value).lower() if isinstance(value, bool) else str(value)
        return found

    def _refuse(self, name: str, value: object, wanted: str) -> NoReturn:
        raise UsageError(f"variable '{name}' should be {wanted} and is {value!r}", where=self.variables.where(name))


def _rights(spec: dict[str, Any]) -> dict[str, Any]:
    """YAML reads mode 0644 as the number 420: both ways of writing it mean the same."""
    if isinstance(spec.get("mode"), int):
        spec["mode"] = f"{spec['mode']:04o}"
    return spec


def _link(item: Item) -> dict[str, Any]:
    return {"kind": "absent", "path": item["path"]} if item.get("state") == "absent" else {"kind": "link", **item}


def _command(item: Item) -> dict[str, Any]:
    spec = {"kind": "command", **item}
    for key in ("run", "unless"):
        if isinstance(spec.get(key), str):
            spec[key] = _words(spec[key], f"{key} of a command")
    return spec


def _without(item: Item, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in keys}


def _words(text: str, where: str) -> list[str]:
    """A command line as a shell would split it; nothing else of a shell happens to it."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(
            f"'{text}' cannot be split into words: {error}", where=where, next="close the quotes"
        ) from None


def _read(path: Path, role: Role) -> bytes:
    """A file of a role; one that is encrypted reaches the host in plain text, as in Ansible."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"file '{path.name}' cannot be read: {error.strerror}", where=str(role.file)) from None
    return keyring().open_bytes(content.decode(), str(path)) if content.startswith(HEADER.encode()) else content


def _line_in_template(error: TemplateError, name: str) -> str:
    """ ":LINE" of the template in which an error arose; empty when nobody knows."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith(name):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f":{line}" if line else ""
