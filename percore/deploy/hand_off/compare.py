"""How two configurations of NGINX differ in what they mean: peers, directives, blocks. Layout and remarks do not count."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import crossplane

Directive = dict[str, Any]

REPEATED = ("proxy_set_header", "add_header", "set_real_ip_from", "listen", "include")
"""Directives that may stand in a block several times: they are told apart by their first argument."""

Meaning = dict[tuple[str, ...], str]
"""The value of each directive, by the blocks around it and its name."""


def changes(old: bytes, new: bytes) -> list[str]:
    """`+ peer 10.0.0.4:80`, `~ proxy_read_timeout 60s -> 3600s`; the blocks are named where a name is not enough."""
    before, after = read_meaning(old), read_meaning(new)
    paths = list(dict.fromkeys([*before, *after]))
    different = [path for path in paths if before.get(path) != after.get(path)]
    return [_tell(path, before.get(path), after.get(path)) for path in different if not _is_within(path, different)]


def _is_within(path: tuple[str, ...], different: Sequence[tuple[str, ...]]) -> bool:
    """Of a block that came or went as a whole, its directives are not told one by one."""
    return any(path[: len(other)] == other and path != other for other in different)


def _tell(path: tuple[str, ...], before: str | None, after: str | None) -> str:
    *blocks, name = path
    where = f" ({' > '.join(blocks)})" if blocks and not name.startswith("peer ") else ""
    if name.startswith("peer ") and (before is None or after is None):
        return f"{'+' if before is None else '-'} {name}"
    if before is None or after is None:
        return f"{'+' if before is None else '-'} {f'{name} {before or after}'.rstrip()}{where}"
    return f"~ {name} {before or '(nothing)'} -> {after or '(nothing)'}{where}"


def read_meaning(text: bytes) -> Meaning:
    """Raises ValueError for what is no configuration of NGINX."""
    with tempfile.TemporaryDirectory(prefix="percore-nginx-") as directory:
        path = Path(directory, "read.conf")
        path.write_bytes(text)
        parsed = crossplane.parse(str(path), single=True, check_ctx=False, check_args=False)
    if parsed["errors"]:
        raise ValueError(parsed["errors"][0]["error"])
    return dict(_flatten(parsed["config"][0]["parsed"], ()))


def _flatten(directives: Sequence[Directive], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    seen: Counter[str] = Counter()
    for each in directives:
        name, value = _name_of(each, path)
        seen[name] += 1
        name = name if seen[name] == 1 else f"{name} ({seen[name]})"
        yield (*path, name), value
        yield from _flatten(each.get("block", ()), (*path, name))


def _name_of(each: Directive, path: tuple[str, ...]) -> tuple[str, str]:
    """What tells a directive apart from others of its block, and what it says."""
    name, words = each["directive"], list(map(str, each["args"]))
    if name == "server" and "block" not in each:
        return f"peer {words[0]}", " ".join(words[1:])
    if name == "server":
        return f"server {_listens_on(each)}".rstrip(), ""
    if "block" in each:
        return " ".join([name, *words]), ""
    if name in REPEATED or (path and path[-1].startswith(("map ", "geo "))):
        return " ".join([name, *words[:1]]) if name in REPEATED else name, " ".join(words[name in REPEATED :])
    return name, " ".join(words)


def _listens_on(server: Directive) -> str:
    return next((each["args"][0] for each in server["block"] if each["directive"] == "listen"), "")
