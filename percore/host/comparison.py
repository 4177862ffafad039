"""What would become different, in words and as unified diffs. Compares only: nothing here changes anything."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

LONGEST_DIFF = 200
"""Lines of one file's diff; the rest is counted."""

_OWN_ENTRY = {"env"}  # compared entry by entry


def diff_text(old: bytes, new: bytes, path: str) -> str:
    """A unified diff; one line when a side is no text."""
    import difflib  # most runs show none

    try:
        before, after = old.decode().splitlines(keepends=True), new.decode().splitlines(keepends=True)
    except UnicodeDecodeError:
        return f"{path}: {len(old)} bytes become {len(new)}, not a text"
    lines = list(difflib.unified_diff(before, after, path, path))
    shown = "".join(
        line if line.endswith("\n") else f"{line}\n\\ no newline at the end\n" for line in lines[:LONGEST_DIFF]
    )
    return shown + (f"... {len(lines) - LONGEST_DIFF} more lines\n" if len(lines) > LONGEST_DIFF else "")


def app_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """How two release records differ, app by app: why their workers are replaced. Variables by name only."""
    before = {app["name"]: app for app in old.get("apps", [])}
    after = {app["name"]: app for app in new.get("apps", [])}
    found = [f"app {name} is new" for name in after if name not in before]
    found += [f"app {name} goes" for name in before if name not in after]
    for name in after:
        if name in before:
            found += [f"app {name}: {text}" for text in _changed_fields(before[name], after[name])]
    return found


def _changed_fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    names = sorted({*before, *after} - {"release", "source", *_OWN_ENTRY})
    texts = [
        f"{name} {_shown(before.get(name))} -> {_shown(after.get(name))}"
        for name in names
        if before.get(name) != after.get(name)
    ]
    old, new = before.get("env", {}), after.get("env", {})
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            how = "is new" if name not in old else "goes" if name not in new else "changes"
            texts.append(f"variable {name} {how}")
    return texts


def _shown(value: Any) -> str:
    return "default" if value is None else str(value)


def record_hashes(app: Mapping[str, Any]) -> tuple[str, str]:
    """(config, env) of an app of a release record, as the supervisor says them of a worker that runs it."""
    rest = {name: value for name, value in app.items() if name not in ("release", "source", "env")}
    return _hash_of(rest), _hash_of(app.get("env", {}))


def _hash_of(value: Any) -> str:
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"
