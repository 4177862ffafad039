"""A host's variables. Pure but for reading template files.

Values of variables are templates themselves and are resolved when first used; an undefined name is an error that says
which template, which line and which variable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateNotFound, Undefined, UndefinedError
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import missing

from percore.deploy.plan.host_plan import HostPlan
from percore.deploy.plan.templating.environment import (
    OMIT,
    SELF,
    compile_expression,
    compile_text,
    is_one_expression,
    keep_backslashes,
    make_environment,
    settle,
)
from percore.deploy.plan.templating.faults import template_fault
from percore.deploy.shipped import with_shipped
from percore.deploy.vault.envelope import Sealed
from percore.deploy.vault.passwords import open_sealed
from percore.deploy.yaml_files import Unsafe
from percore.errors import UsageError

MARKS = re.compile(r"\{[{%#]")
FAULTS = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)
"""What an expression of the operator can raise; an error of ours passes through."""


class Variables(Mapping[str, Any]):
    """A host's variables, each resolved when it is asked for."""

    def __init__(
        self,
        raw: Mapping[str, Any],
        environment: SandboxedEnvironment,
        host: str,
        places: Mapping[str, str],
        weaker: Mapping[str, Any],
    ) -> None:
        self._raw = raw
        self._weaker = weaker  # what counts where the value is omitted
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
            found = self.resolve(value, f"variable {name}", self._places.get(name, ""), is_variable=True)
            if found is OMIT:
                found = self.resolve(self._weaker[name], f"variable {name}", is_variable=True)
            self._done[name] = found
        finally:
            self._open.pop()
        return found

    def find(self, name: str) -> Any:
        """For templates: jinja2's own mark for what nobody set."""
        if name == "vars" and name not in self._raw:
            return View(self)
        return self.get(name, self._host if name == "ansible_host" else missing)

    def knowing(self, known: Mapping[str, Any]) -> Variables:
        """The same with the host's facts, which are never templates."""
        return Variables({**self._raw, **text_only(known)}, self._environment, self._host, self._places, self._weaker)

    def place(self, name: str) -> str:
        """Where a variable, or an entry of one (`NAME.ENTRY`), is set; empty where that is not known."""
        return self._places.get(name, "")

    def where(self, name: str = "", place: str = "") -> str:
        """For errors: the file and line that set a variable, and the host."""
        place = place or self._places.get(name, "")
        return f"{place}, host {self._host}" if place else f"host {self._host}"

    def resolve(self, value: Any, path: str, place: str = "", *, is_variable: bool = False) -> Any:
        """Templates inside texts, lists and mappings become their values, and encrypted values are opened."""
        if isinstance(value, Sealed):
            return open_sealed(value)  # never a template, as in Ansible: a password may hold braces
        if isinstance(value, Unsafe):
            return str(value)
        if isinstance(value, str):
            text = keep_backslashes(value) if is_variable else value
            return self._resolve_text(text, path, place) if MARKS.search(value) else value
        if isinstance(value, list):
            entries = [
                self.resolve(one, f"{path}[{at}]", place, is_variable=is_variable) for at, one in enumerate(value)
            ]
            return [entry for entry in entries if entry is not OMIT]
        if isinstance(value, dict):
            pairs = [
                (at, self.resolve(one, f"{path}.{at}", place, is_variable=is_variable)) for at, one in value.items()
            ]
            return {at: entry for at, entry in pairs if entry is not OMIT}
        return value

    def having(self, name: str, value: Any) -> Variables:
        """The same with one more, whose value is resolved already."""
        more = Variables(
            {**self._raw, name: text_only(value)}, self._environment, self._host, self._places, self._weaker
        )
        more._done = {**self._done, name: value}
        return more

    def is_true(self, condition: object, path: str) -> bool:
        """A `when`: true, false, or an expression such as `nginx and service_manager == "systemd"`."""
        if isinstance(condition, bool):
            return condition
        return bool(self._evaluate(str(condition), path, ""))

    def _resolve_text(self, text: str, path: str, place: str) -> Any:
        try:
            if is_one_expression(self._environment, text):
                return self._evaluate(text[2:-2].strip("-+ \n"), path, place)
            return compile_text(self._environment, text).render({SELF: self})
        except FAULTS as error:
            raise self._fault(error, path, place) from None

    def _evaluate(self, expression: str, path: str, place: str) -> Any:
        try:
            value = compile_expression(self._environment, expression)({SELF: self})
        except FAULTS as error:
            raise self._fault(error, path, place) from None
        if isinstance(value, Undefined):
            raise self._fault(UndefinedError(value._undefined_message), path, place)
        return settle(value)

    def _fault(self, error: Exception, path: str, place: str) -> UsageError:
        return template_fault(error, where=f"{self.where(place=place)}, {path}", known=list(self))


def resolve_variables(plan: HostPlan) -> Variables:
    """A host's variables; those that need facts cannot be resolved before `knowing` adds them."""
    return _resolve(plan, HostVariables(plan.plans))


def _resolve(plan: HostPlan, others: HostVariables) -> Variables:
    environment = make_environment(with_shipped(plan.project / "templates"))
    return Variables({**plan.variables, "hostvars": others}, environment, plan.host, plan.places, plan.defaults)


class View(Mapping[str, Any]):
    """A host's variables for templates, which get nothing else of them."""

    def __init__(self, variables: Variables) -> None:
        self._variables = variables

    def __getitem__(self, name: str) -> Any:
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


class HostVariables(Mapping[str, View]):
    """`hostvars`: of each host of the inventory, resolved when a template asks for them. Facts are not among them."""

    def __init__(self, plans: Mapping[str, HostPlan]) -> None:
        self._plans = plans
        self._views: dict[str, View] = {}

    def __getitem__(self, host: str) -> View:
        if host not in self._views:
            self._views[host] = View(_resolve(self._plans[host], self))
        return self._views[host]

    def __iter__(self) -> Iterator[str]:
        return iter(self._plans)

    def __len__(self) -> int:
        return len(self._plans)


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
