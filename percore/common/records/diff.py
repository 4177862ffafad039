"""What would become different, in words and as unified diffs. Compares only: nothing here changes anything."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, Union

LONGEST_DIFF = 200
"""Lines of one file's diff; the rest is counted."""

_BY_NAME = {"env": "variable", "hooks": "hook"}  # compared entry by entry, and their values not shown


NO_PLACES: Mapping[str, str] = {}

ALL = "all"
"""Instead of the lines that are not shown: the whole file was encrypted."""

MASK = "********"


class Side(NamedTuple):
    """One side of a diff. `secret` are the lines not to be shown, by number (as JSON has it), and what is shown instead.

    None: it is not known which they are, so none of its own is shown.
    """

    content: bytes
    secret: Union[Mapping[str, str], str, None]


def diff_text(old: Side, new: Side, path: str) -> str:
    """A unified diff; one line when a side is no text, or was encrypted."""
    if ALL in (old.secret, new.secret):
        return f"{path}: it is encrypted, so its lines are not shown\n"
    try:
        before, after = old.content.decode().splitlines(), new.content.decode().splitlines()
    except UnicodeDecodeError:
        return f"{path}: {len(old.content)} bytes become {len(new.content)}, not a text"
    lines = list(_unified(before, after, old, new))
    if before == after and old.content != new.content:
        lines.append("\\ the ends of its lines differ")
    head = [f"--- {path}", f"+++ {path}"] if lines else []
    shown = [*head, *lines[:LONGEST_DIFF]]
    more = [f"... {len(lines) - LONGEST_DIFF} more lines"] if len(lines) > LONGEST_DIFF else []
    return "".join(f"{line}\n" for line in shown + more)


def _unified(before: list[str], after: list[str], old: Side, new: Side) -> Iterator[str]:
    import difflib  # most runs show none

    for group in difflib.SequenceMatcher(None, before, after).get_grouped_opcodes(3):
        (_, first, _, other, _), (_, _, last, _, end) = group[0], group[-1]
        yield f"@@ -{_range(first, last)} +{_range(other, end)} @@"
        for what, i, j, k, m in group:
            if what == "equal":
                yield from (f" {_common(before, old, new, i + n, k + n)}" for n in range(j - i))
            else:
                yield from (f"-{_line(before, old, n)}" for n in range(i, j))
                yield from (f"+{_line(after, new, n)}" for n in range(k, m))


def _range(start: int, stop: int) -> str:
    length = stop - start
    return f"{start + 1 if length else start}" + ("" if length == 1 else f",{length}")


def _line(lines: list[str], side: Side, index: int) -> str:
    if side.secret is None or isinstance(side.secret, str):
        return MASK
    return side.secret.get(str(index + 1), lines[index])


def _common(lines: list[str], old: Side, new: Side, i: int, k: int) -> str:
    """A line of both: whichever side knows that it is secret is believed."""
    places = ((old.secret, i), (new.secret, k))
    shown = [secret.get(str(n + 1), lines[i]) for secret, n in places if isinstance(secret, Mapping)]
    return next((text for text in shown if text != lines[i]), shown[0] if shown else MASK)


def app_changes(old: Mapping[str, Any], new: Mapping[str, Any], places: Mapping[str, str] = NO_PLACES) -> list[str]:
    """How two release records differ, app by app: why their workers are replaced. Variables by name only.

    `places` say where a field or a variable (`env.NAME`) is set; `apps` where all others are.
    """
    before = {app["name"]: app for app in old.get("apps", [])}
    after = {app["name"]: app for app in new.get("apps", [])}
    found = [f"app {name} is new" for name in after if name not in before]
    found += [f"app {name} goes" for name in before if name not in after]
    for name in after:
        if name in before:
            secret = {field for record in (old, new) for field in record.get("secret", {}).get(name, ())}
            changes = _changed_fields(before[name], after[name], secret)
            found += [f"app {name}: {text}{set_at(places, about)}" for about, text in changes]
    return found


def set_at(places: Mapping[str, str], about: str) -> str:
    place = places.get(about) or places.get("apps")
    return f" ({place})" if place else ""


def _changed_fields(
    before: Mapping[str, Any], after: Mapping[str, Any], secret: Collection[str]
) -> Iterator[tuple[str, str]]:
    """What is changed, and how. `secret` are fields that hold, or held, a secret."""
    for name in sorted({*before, *after} - {"release", "source", *_BY_NAME}):
        old, new = before.get(name), after.get(name)
        if old != new and name in secret:
            yield name, f"{name} changes, and is not shown"
        elif old != new:
            yield name, f"{name} {_shown(old)} -> {_shown(new)}"
    for field, title in _BY_NAME.items():
        old, new = before.get(field, {}), after.get(field, {})
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                how = "is new" if name not in old else "goes" if name not in new else "changes"
                yield f"{field}.{name}", f"{title} {name} {how}"


def _shown(value: Any) -> str:
    return "default" if value is None else str(value)


# -- of which a host runs a part ----------------------------------------------------------------------------------------


def without_apps(record: Mapping[str, Any], absent: Collection[str]) -> dict[str, Any]:
    """The record without the apps that other hosts run; no app here waits for one of those."""
    here = [_without_needs(app, absent) for app in record["apps"] if app["name"] not in absent]
    return {**record, "apps": here}


def _without_needs(app: dict[str, Any], absent: Collection[str]) -> dict[str, Any]:
    needs = [name for name in app.get("depends_on", ()) if name not in absent]
    if needs == list(app.get("depends_on", ())):
        return app
    kept = {key: value for key, value in app.items() if key != "depends_on"}
    return {**kept, "depends_on": needs} if needs else kept
