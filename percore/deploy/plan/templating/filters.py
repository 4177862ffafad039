"""Those of Ansible's filters that inventories use most, beside Jinja's own. Pure: the same input, the same result.

Left out is what differs from run to run (`random` passwords, salts), and what collections bring (`ipaddr`, `json_query`).
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os.path
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined, Undefined, pass_environment

from percore.common.bounds import compile_regex, regex_limit
from percore.deploy.plan.host_plan import is_true

# -- texts -----------------------------------------------------------------------------------------------------------


def _b64encode(value: Any, encoding: str = "utf-8") -> str:
    return base64.b64encode(str(value).encode(encoding)).decode()


def _b64decode(value: Any, encoding: str = "utf-8") -> str:
    return base64.b64decode(str(value)).decode(encoding)


def _hash(value: Any, name: str = "sha1") -> str:
    return hashlib.new(name, str(value).encode(), usedforsecurity=False).hexdigest()


def compiled(pattern: str, *, ignorecase: bool = False, multiline: bool = False) -> re.Pattern[str]:
    return compile_regex(str(pattern), (re.I if ignorecase else 0) | (re.M if multiline else 0))


def _regex_replace(
    value: Any, pattern: str = "", replacement: str = "", ignorecase: bool = False, multiline: bool = False,
    count: int = 0, mandatory_count: int = 0,
) -> str:  # fmt: skip
    with regex_limit(str(pattern)):
        expression = compiled(pattern, ignorecase=ignorecase, multiline=multiline)
        text, found = expression.subn(str(replacement), str(value), count=count)
    if mandatory_count and found != mandatory_count:
        raise ValueError(f"'{pattern}' should match {mandatory_count} times, and matches {found} times")
    return text


def _regex_search(value: Any, pattern: str, *groups: str, ignorecase: bool = False, multiline: bool = False) -> Any:
    """What matches; with the names of groups (`\\\\1`, `\\\\g<name>`) what these match."""
    with regex_limit(str(pattern)):
        found = compiled(pattern, ignorecase=ignorecase, multiline=multiline).search(str(value))
    if found is None:
        return None
    return [found.group(_group(written)) for written in groups] if groups else found.group()


def _group(written: str) -> str | int:
    named = re.fullmatch(r"\\g<(\w+)>|\\(\d+)", str(written))
    if named is None:
        raise ValueError(f"'{written}' should name a group: \\1 or \\g<name>")
    return named[1] or int(named[2])


def _regex_findall(value: Any, pattern: str, multiline: bool = False, ignorecase: bool = False) -> list[Any]:
    with regex_limit(str(pattern)):
        return compiled(pattern, ignorecase=ignorecase, multiline=multiline).findall(str(value))


def _split(value: str, separator: str | None = None, most: int = -1) -> list[str]:
    return value.split(separator, most)


# -- values ----------------------------------------------------------------------------------------------------------


def _mandatory(value: Any, msg: str | None = None) -> Any:
    if isinstance(value, Undefined) and msg:
        raise ValueError(msg)
    return str(value) if isinstance(value, StrictUndefined) else value


def _bool(value: Any) -> bool | None:
    if value is None:
        return None
    return (
        not isinstance(value, Undefined) and is_true(value) if not isinstance(value, StrictUndefined) else bool(value)
    )


def _ternary(value: Any, true: Any, false: Any, none: Any = None) -> Any:
    if value is None and none is not None:
        return none
    return true if value else false


def _to_json(value: Any, **options: Any) -> str:
    return json.dumps(value, default=_plain, **options)


def _to_nice_json(value: Any, indent: int = 4, sort_keys: bool = True, **options: Any) -> str:
    return _to_json(value, indent=indent, sort_keys=sort_keys, **options)


def _to_yaml(value: Any, **options: Any) -> str:
    text: str = yaml.safe_dump(_simple(value), allow_unicode=True, **{"default_flow_style": None, **options})
    return text


def _to_nice_yaml(value: Any, indent: int = 4, **options: Any) -> str:
    return _to_yaml(value, indent=indent, default_flow_style=False, **options)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _simple(value: Any) -> Any:
    """YAML knows no subclasses of texts."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {_simple(key): _simple(entry) for key, entry in value.items()}
    return [_simple(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _from_yaml(value: str) -> Any:
    return yaml.safe_load(value)


# -- mappings and lists ----------------------------------------------------------------------------------------------


def _combine(*values: Any, recursive: bool = False, list_merge: str = "replace") -> dict[Any, Any]:
    """Later mappings win; `recursive` for the mappings in them, `list_merge` for the lists."""
    if list_merge not in _LIST_MERGES:
        raise ValueError(f"list_merge should be one of {', '.join(_LIST_MERGES)}")
    result: dict[Any, Any] = {}
    for value in _flatten(values):
        if not isinstance(value, Mapping):
            raise ValueError(f"combine takes mappings, and gets {type(value).__name__}")
        result = _merge(result, value, recursive, _LIST_MERGES[list_merge])
    return result


_LIST_MERGES: Mapping[str, Callable[[list[Any], list[Any]], list[Any]]] = {
    "replace": lambda old, new: new,
    "keep": lambda old, new: old,
    "append": lambda old, new: old + new,
    "prepend": lambda old, new: new + old,
    "append_rp": lambda old, new: [entry for entry in old if entry not in new] + new,
    "prepend_rp": lambda old, new: new + [entry for entry in old if entry not in new],
}


def _merge(old: Mapping[Any, Any], new: Mapping[Any, Any], recursive: bool, merge_lists: Any) -> dict[Any, Any]:
    merged = dict(old)
    for key, value in new.items():
        before = merged.get(key)
        if recursive and isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = _merge(before, value, recursive, merge_lists)
        elif isinstance(before, list) and isinstance(value, list):
            merged[key] = merge_lists(before, value)
        else:
            merged[key] = value
    return merged


def _flatten(values: Iterable[Any], levels: int | None = None, skip_nulls: bool = True) -> list[Any]:
    flat: list[Any] = []
    for value in values:
        if skip_nulls and value in (None, "None", "null"):
            continue
        if isinstance(value, (list, tuple)) and levels != 0:
            flat += _flatten(value, None if levels is None else levels - 1, skip_nulls)
        else:
            flat.append(value)
    return flat


def _dict2items(value: Mapping[Any, Any], key_name: str = "key", value_name: str = "value") -> list[dict[str, Any]]:
    return [{key_name: key, value_name: entry} for key, entry in value.items()]


def _items2dict(value: Iterable[Mapping[Any, Any]], key_name: str = "key", value_name: str = "value") -> dict[Any, Any]:
    return {entry[key_name]: entry[value_name] for entry in value}


@pass_environment
def _extract(environment: Environment, item: Any, container: Any, morekeys: Any = None) -> Any:
    keys = morekeys if isinstance(morekeys, list) else [] if morekeys is None else [morekeys]
    value = container
    for key in (item, *keys):
        value = environment.getitem(value, key)
    return value


def _once(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _difference(one: Sequence[Any], other: Sequence[Any]) -> list[Any]:
    return _once(value for value in one if value not in other)


def _pairs(*lists: Iterable[Any]) -> Iterator[list[Any]]:
    return (list(row) for row in zip(*lists, strict=False))


def _product(*lists: Iterable[Any]) -> list[list[Any]]:
    return [list(row) for row in itertools.product(*lists)]


FILTERS: Mapping[str, Callable[..., Any]] = {
    "b64decode": _b64decode,
    "b64encode": _b64encode,
    "basename": os.path.basename,
    "bool": _bool,
    "combine": _combine,
    "dict2items": _dict2items,
    "difference": _difference,
    "dirname": os.path.dirname,
    "extract": _extract,
    "flatten": _flatten,
    "from_json": json.loads,
    "from_yaml": _from_yaml,
    "hash": _hash,
    "intersect": lambda one, other: _once(value for value in one if value in other),
    "items2dict": _items2dict,
    "mandatory": _mandatory,
    "md5": lambda value: _hash(value, "md5"),
    "product": _product,
    "quote": lambda value: shlex.quote(str(value)),
    "regex_escape": lambda value: re.escape(str(value)),
    "regex_findall": _regex_findall,
    "regex_replace": _regex_replace,
    "regex_search": _regex_search,
    "sha1": _hash,
    "split": _split,
    "splitext": os.path.splitext,
    "symmetric_difference": lambda one, other: [*_difference(one, other), *_difference(other, one)],
    "ternary": _ternary,
    "to_json": _to_json,
    "to_nice_json": _to_nice_json,
    "to_nice_yaml": _to_nice_yaml,
    "to_yaml": _to_yaml,
    "union": lambda one, other: _once([*one, *other]),
    "zip": _pairs,
}
