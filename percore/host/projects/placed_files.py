"""What the resources of a release put elsewhere on a host."""

from __future__ import annotations

from collections.abc import Iterable

from percore.host.messages import Spec


def files_of(specs: Iterable[Spec]) -> dict[str, str]:
    """By path, what tells the content."""
    return {path: str(spec.get("sha256") or spec.get("to", "")) for spec in specs for path in paths_of(spec)}


def paths_of(spec: Spec) -> list[str]:
    if spec["kind"] == "site":
        return [spec["link"], spec["path"]]
    return [spec["path"]] if spec["kind"] in {"file", "unit-file", "link"} else []
