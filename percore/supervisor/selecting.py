"""Which apps and slots an operator means, in PM2's words."""

from __future__ import annotations

import re
from collections.abc import Mapping

from percore.errors import UsageError, nearest
from percore.supervisor.app import App
from percore.supervisor.slot import Slot


def select(apps: Mapping[str, App], selector: str) -> list[tuple[App, list[Slot]]]:
    """PM2's selectors: `all`, an id, a name, a namespace, `/regex/`. Raises UsageError when nothing matches."""
    everything = list(apps.values())
    if selector == "all":
        return [(app, app.slots) for app in everything]
    if selector.isdigit():
        by_id = [(app, [slot]) for app in everything for slot in app.slots if slot.id == int(selector)]
        if by_id:
            return by_id
    if len(selector) > 2 and selector.startswith("/") and selector.endswith("/"):
        try:
            pattern = re.compile(selector[1:-1])
        except re.error as error:
            raise UsageError(f"{selector} is not a regular expression: {error}") from None
        chosen = [app for app in everything if pattern.search(app.name)]
    else:
        chosen = [app for app in everything if app.name == selector] or [
            app for app in everything if app.config.namespace == selector
        ]
    if not chosen:
        known = nearest(selector, list(apps))
        hint = f"did you mean '{known}'?" if known else "see 'percore list'"
        raise UsageError(f"no app, id or namespace is called '{selector}'", next=hint)
    return [(app, app.slots) for app in chosen]
