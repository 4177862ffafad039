"""Jinja2, and a host's variables: the only place that knows it. Pure but for reading template files.

Values of variables are templates themselves and are resolved when first used; an undefined name is an error that says
which template, which line and which variable.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import (
    FileSystemLoader,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
    nodes,
)
from jinja2.environment import TemplateExpression
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import missing

from percore.deploy.plan.host_plan import HostPlan, is_true
from percore.deploy.plan.nginx_names import nginx_id
from percore.deploy.plan.peers import read_servers
from percore.deploy.schema import suggest
from percore.deploy.shipped import with_shipped
from percore.deploy.vault.envelope import Sealed
from percore.deploy.vault.passwords import open_sealed
from percore.deploy.yaml_files import Unsafe
from percore.errors import UsageError
from percore.supervisor.base import systemd_unit

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
        self.asked: set[str] = set()  # names that were looked up, also those that nobody set

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return name in self._raw

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
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

    def knowing(self, known: Mapping[str, Any]) -> Variables:
        """The same with the host's facts, which are never templates."""
        return Variables({**self._raw, **text_only(known)}, self._environment, self._host, self._places)

    def place(self, name: str) -> str:
        """Where a variable, or an entry of one (`NAME.ENTRY`), is set; empty where that is not known."""
        return self._places.get(name, "")

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

    def having(self, name: str, value: Any) -> Variables:
        """The same with one more, whose value is resolved already."""
        more = Variables({**self._raw, name: text_only(value)}, self._environment, self._host, self._places)
        more._done = {**self._done, name: value}
        return more

    def is_true(self, condition: object, path: str) -> bool:
        """A `when`: true, false, or an expression such as `nginx and service_manager == "systemd"`."""
        if isinstance(condition, bool):
            return condition
        return bool(self._evaluate(str(condition), path, ""))

    def _resolve_text(self, text: str, path: str, place: str) -> Any:
        try:
            if _is_one_expression(self._environment, text):
                return self._evaluate(text[2:-2].strip("-+ \n"), path, place)
            return _compile_text(self._environment, text).render({SELF: self})
        except FAULTS as error:
            raise self._fault(error, path, place) from None

    def _evaluate(self, expression: str, path: str, place: str) -> Any:
        try:
            value = _compile_expression(self._environment, expression)({SELF: self})
        except FAULTS as error:
            raise self._fault(error, path, place) from None
        if isinstance(value, StrictUndefined):
            raise self._fault(UndefinedError(value._undefined_message), path, place)
        return value

    def _fault(self, error: Exception, path: str, place: str) -> UsageError:
        return template_fault(error, where=f"{self.where(place=place)}, {path}", known=list(self))


# Hosts differ in values, hardly in texts: each text is compiled once, for however many hosts.


@functools.cache
def _compile_text(environment: SandboxedEnvironment, text: str) -> Template:
    return environment.from_string(text)


@functools.cache
def _compile_expression(environment: SandboxedEnvironment, expression: str) -> TemplateExpression:
    return environment.compile_expression(expression, undefined_to_none=False)


@functools.cache
def _is_one_expression(environment: SandboxedEnvironment, text: str) -> bool:
    """Such a value keeps the type of its result: "{{ port }}" stays a number."""
    if not (text.startswith("{{") and text.endswith("}}")):
        return False
    body = environment.parse(text).body
    parts = body[0].nodes if len(body) == 1 and isinstance(body[0], nodes.Output) else []
    return len(parts) == 1 and not isinstance(parts[0], nodes.TemplateData)


@functools.cache
def make_environment(directories: tuple[Path, ...]) -> SandboxedEnvironment:
    """Templates are looked for in the given directories, first hit wins."""
    environment = SandboxedEnvironment(
        loader=FileSystemLoader([str(directory) for directory in directories]),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.context_class = LazyContext
    environment.filters.update(FILTERS)
    environment.filters.update(systemd_unit.FILTERS)
    environment.filters.update(nginx_id=nginx_id, read_servers=read_servers, tls_pair=_tls_pair)
    environment.globals["lookup"] = _look_up
    return environment


def _tls_pair(*words: object) -> str:
    from percore.deploy.plan.certificates import tls_pair  # loads cryptography, which most runs do without

    return tls_pair(*words)


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
    advice = suggest(name.group(1), known, "set it in the inventory or in the role's defaults")
    return UsageError(f"variable '{name.group(1)}' is not defined", where=where, next=advice)


def resolve_variables(plan: HostPlan) -> Variables:
    """A host's variables; those that need facts cannot be resolved before `knowing` adds them."""
    environment = make_environment(with_shipped(plan.project / "templates"))
    return Variables(plan.variables, environment, plan.host, plan.places)


def text_only(value: Any) -> Any:
    """A value from a host, safe to use anywhere: no text in it, however deep, is a template."""
    if isinstance(value, str):
        return Unsafe(value)
    if isinstance(value, Mapping):
        return {text_only(key): text_only(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [text_only(entry) for entry in value]
    return value


def render_file(
    name: str, values: Mapping[str, Any], directories: list[Path], *, known: list[str], where: str | None = None
) -> str:
    """A template file with its values; an error names the template and its line, or `where` a missing one was named."""
    try:
        return make_environment(tuple(directories)).get_template(name).render(values)
    except TemplateError as error:
        missing_there = isinstance(error, TemplateNotFound) and where is not None
        place = where if missing_there and where else f"template {name}{_line_in_template(error, name)}"
        raise template_fault(error, where=place, known=known) from None


def render_text(template: str, values: Mapping[str, Any], directory: Path) -> str:
    """One shared template with plain values, such as the edge configuration of all hosts."""
    return render_file(template, values, [*with_shipped(directory)], known=list(values))


def _line_in_template(error: TemplateError, name: str) -> str:
    """ ":LINE" of the template in which an error arose; empty when it is not known."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith(name):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f":{line}" if line else ""
