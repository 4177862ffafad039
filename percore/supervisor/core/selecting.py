"""Which apps and slots an operator means, in PM2's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from percore.common.bounds import compile_regex, regex_limit
from percore.errors import UsageError, nearest
from percore.supervisor.core.app import App
from percore.supervisor.core.slot import Slot

_LONGEST_ID = 18
Chosen = list[tuple[App, list[Slot]]]


def select_all(apps: Mapping[str, App], selectors: Iterable[str]) -> Chosen:
    """What any of the selectors means, each slot once. Raises UsageError when one of them means nothing."""
    chosen: dict[str, list[Slot]] = {}
    for selector in selectors:
        for app, slots in select(apps, selector):
            known = chosen.setdefault(app.name, [])
            known += [slot for slot in slots if slot not in known]
    return [(apps[name], slots) for name, slots in chosen.items()]


def select_whole(apps: Mapping[str, App], selectors: Iterable[str]) -> Chosen:
    """For what cannot be done to one worker of several."""
    chosen = select_all(apps, selectors)
    for app, slots in chosen:
        if len(slots) < len(app.slots):
            raise UsageError(
                f"worker {slots[0].id} is one of {len(app.slots)} of '{app.name}'",
                next=f"percore delete {app.name}, or percore scale {app.name} {len(app.slots) - 1}",
            )
    return chosen


def select(apps: Mapping[str, App], selector: str) -> Chosen:
    """PM2's selectors: `all`, an id, a name, a namespace, `/regex/`. Raises UsageError when nothing matches."""
    everything = list(apps.values())
    if selector == "all":
        return [(app, app.slots) for app in everything]
    if selector.isascii() and selector.isdigit() and len(selector) <= _LONGEST_ID:
        by_id = [(app, [slot]) for app in everything for slot in app.slots if slot.id == int(selector)]
        if by_id:
            _refuse_ambiguous(apps, selector, by_id[0][0])
            return by_id
    if len(selector) > 2 and selector.startswith("/") and selector.endswith("/"):
        try:
            pattern = compile_regex(selector[1:-1])
        except ValueError as error:
            raise UsageError(f"{selector} is not a regular expression: {error}") from None
        with regex_limit(selector):
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


def _refuse_ambiguous(apps: Mapping[str, App], selector: str, found: App) -> None:
    """An app may be called as the worker of another one is numbered."""
    if selector in apps and apps[selector] is not found:
        raise UsageError(
            f"'{selector}' is an id of '{found.name}', and the name of another app",
            next=f"/^{selector}$/ means the name",
        )
