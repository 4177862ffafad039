"""What is wrong with a template, in one line."""

from __future__ import annotations

import re

from jinja2 import TemplateNotFound, TemplateSyntaxError
from jinja2.filters import FILTERS
from jinja2.tests import TESTS

from percore.deploy.command_line import to_type
from percore.deploy.plan.templating import conditions, filters
from percore.deploy.schema import suggest
from percore.errors import UsageError

MISSING_NAME = re.compile(r"'([^']+)' is undefined")
MISSING_ENTRY = re.compile(r"(View|HostVariables) object' has no attribute '([^']+)'")
MISSING_PART = re.compile(r"No (filter|test) named '([^']+)'")


def template_fault(error: Exception, *, where: str, known: list[str]) -> UsageError:
    """One line for a template that cannot be rendered: which, on which line, and the variable with its nearest name."""
    if isinstance(error, TemplateSyntaxError) and (part := MISSING_PART.search(str(error.message))):
        return _missing_part(part[1], part[2], error.filename or where)
    if isinstance(error, TemplateSyntaxError):
        return UsageError(f"template is not valid: {error.message}", where=f"{error.filename or where}:{error.lineno}")
    if isinstance(error, TemplateNotFound):
        return UsageError(f"template '{error.name}' does not exist", where=where, next="look in templates/ of the role")
    name = MISSING_NAME.search(str(error))
    lacking = MISSING_ENTRY.search(str(error))
    if lacking:
        what = "hostvars has no host" if lacking[1] == "HostVariables" else "that host of hostvars has no variable"
        return UsageError(f"{what} '{lacking[2]}'", where=where, next=f"see: {to_type('inventory')}")
    if name is None:
        return UsageError(f"template fails: {error}", where=where)
    advice = suggest(name.group(1), known, "set it in the inventory or in the role's defaults")
    if name.group(1).startswith("ansible_"):
        advice = "facts of Ansible are not gathered; set it in the inventory"
    return UsageError(f"variable '{name.group(1)}' is not defined", where=where, next=advice)


def _missing_part(kind: str, name: str, where: str) -> UsageError:
    known = {*filters.FILTERS, *FILTERS} if kind == "filter" else {*conditions.TESTS, *TESTS}
    advice = "see docs/reference/inventory.md for those there are, or set the value itself"
    return UsageError(f"{kind} '{name}' is not supported", where=where, next=suggest(name, sorted(known), advice))
