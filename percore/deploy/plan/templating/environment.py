"""The one environment in which templates become values: a sandbox, strict about names that nobody set."""

from __future__ import annotations

import functools
import re
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, Template, nodes
from jinja2.environment import TemplateExpression
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import missing

from percore.deploy.plan.nginx_names import nginx_id
from percore.deploy.plan.peers import read_servers
from percore.deploy.plan.templating.conditions import TESTS
from percore.deploy.plan.templating.filters import FILTERS
from percore.deploy.plan.templating.lookups import look_up, query
from percore.supervisor.base import systemd_unit

SELF = "percore_variables"
"""The name under which a template's context carries the host's variables."""


class Omitted:
    """What `default(omit)` gives: the variable, or the entry of a mapping or list, is as if nobody had set it."""

    def __str__(self) -> str:
        raise ValueError("omit stands for a whole value, it cannot be part of a text")


OMIT = Omitted()


class LazyContext(Context):
    """Looks a name up among the host's variables only when the template uses it."""

    def resolve_or_missing(self, key: str) -> Any:
        found = super().resolve_or_missing(key)
        variables = self.parent.get(SELF)
        return variables.find(key) if found is missing and variables is not None else found


_STRING = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_IN_STRING = re.compile(_STRING, re.S)
_EXPRESSION = re.compile(rf"\{{%-?\s*raw\b.*?endraw|\{{\{{(?:{_STRING}|[^'\"])*?\}}\}}", re.S)
_ESCAPED = re.compile(r"\\(.)", re.S)


def keep_backslashes(text: str) -> str:
    """As Ansible reads variables: in a string of an expression a backslash stands for itself, but before a quote."""
    if "\\" not in text:
        return text
    return _EXPRESSION.sub(lambda found: found[0] if found[0][1] == "%" else _doubled(found[0]), text)


def _doubled(expression: str) -> str:
    return _IN_STRING.sub(lambda string: _ESCAPED.sub(_double, string[0]), expression)


def _double(found: re.Match[str]) -> str:
    return found[0] if found[1] in "'\"" else rf"\\{found[1]}" if found[1] != "\\" else "\\" * 4


def settle(value: Any) -> Any:
    """What an expression leaves, as a value: lists instead of what makes their entries, and nothing that is omitted."""
    if isinstance(value, dict):
        return {key: settle(entry) for key, entry in value.items() if entry is not OMIT}
    if isinstance(value, (list, tuple, set, range, Iterator, KeysView, ValuesView, ItemsView)):
        return [settle(entry) for entry in value if entry is not OMIT]
    return value


# Hosts differ in values, hardly in texts: each text is compiled once, for however many hosts.


@functools.cache
def compile_text(environment: SandboxedEnvironment, text: str) -> Template:
    return environment.from_string(text)


@functools.cache
def compile_expression(environment: SandboxedEnvironment, expression: str) -> TemplateExpression:
    return environment.compile_expression(expression, undefined_to_none=False)


@functools.cache
def is_one_expression(environment: SandboxedEnvironment, text: str) -> bool:
    """Such a value keeps the type of its result: "{{ port }}" stays a number."""
    if not (text.startswith("{{") and text.endswith("}}")):
        return False
    body = environment.parse(text).body
    parts = body[0].nodes if len(body) == 1 and isinstance(body[0], nodes.Output) else []
    return len(parts) == 1 and not isinstance(parts[0], nodes.TemplateData)


def _with_full_names(table: Mapping[str, Any]) -> dict[str, Any]:
    return {**table, **{f"ansible.builtin.{name}": found for name, found in table.items()}}


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
    environment.filters.update(_with_full_names({**environment.filters, **FILTERS}), **systemd_unit.FILTERS)
    environment.filters.update(nginx_id=nginx_id, read_servers=read_servers, tls_pair=_tls_pair)
    environment.tests.update(_with_full_names({**environment.tests, **TESTS}))
    environment.globals.update(lookup=look_up, query=query, q=query, omit=OMIT)
    return environment


def _tls_pair(*words: object) -> str:
    from percore.deploy.plan.certificates import tls_pair  # loads cryptography, which most runs do without

    return tls_pair(*words)
