"""What others say, typed and bounded where it is read: JSON against the annotations of a class. For both ends of a connection.

The class is a TypedDict, and the value is given back as it came; or it is a NamedTuple, and is made of what it names. Names that
it does not know pass. Not for the daemon: this needs `typing`.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints


class Wrong(ValueError):
    """What is wrong with it, as the end of a sentence that begins with who said it."""


class Rule(NamedTuple):
    """What a value must be, beside its type."""

    wanted: str
    fits: Callable[[Any], object]


def pattern(wanted: str, expression: str) -> Rule:
    return Rule(wanted, re.compile(expression, re.ASCII).fullmatch)


def between(least: float, most: float) -> Rule:
    return Rule(f"between {least:g} and {most:g}", lambda number: least <= number <= most)


Line = Annotated[str, Rule("a text of at most 100,000 characters", lambda text: len(text) <= 100_000)]
Count = Annotated[int, between(0, 2**63)]
Sha256 = Annotated[str, pattern("a SHA-256", r"[0-9a-f]{64}")]

_PLAIN: dict[Any, tuple[str, tuple[type, ...]]] = {
    str: ("a text", (str,)),
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
}
_UNIONS = (Union, getattr(types, "UnionType", Union))  # the second one is of Python 3.10
_NOT_REQUIRED = getattr(typing, "NotRequired", None)  # of Python 3.11, where the control side is


def read(kind: Any, value: Any, path: str = "") -> Any:
    """The value when it is of this kind; Wrong names the place where it is not."""
    if kind is Any:
        return value
    if kind in _PLAIN:
        return _read_plain(kind, value, path)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _read_ruled(arguments, value, path)
    if origin in _UNIONS:
        return None if value is None else read(arguments[0], value, path)
    if origin in (list, Sequence):
        return [read(arguments[0], entry, f"{path}[]") for entry in _of_type(list, "a list", value, path)]
    mapping = _of_type(dict, "a mapping", value, path)
    if origin in (dict, Mapping):
        name = f"a name in {path}"
        return {read(arguments[0], key, name): read(arguments[1], mapping[key], f"{path}.*") for key in mapping}
    return _read_fields(kind, mapping, path)


def as_json(value: Any) -> Any:
    """A NamedTuple, and those in it, as mappings."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: as_json(entry) for name, entry in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: as_json(entry) for name, entry in value.items()}
    return [as_json(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _read_plain(kind: Any, value: Any, path: str) -> Any:
    wanted, types_of_it = _PLAIN[kind]
    if isinstance(value, bool) and kind is not bool:
        raise _wrong(path, wanted)
    return _of_type(types_of_it, wanted, value, path)


def _read_ruled(arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    checked, rule = read(arguments[0], value, path), arguments[1]
    if not rule.fits(checked):
        raise _wrong(path, rule.wanted)
    return checked


def _read_fields(kind: Any, mapping: Mapping[str, Any], path: str) -> Any:
    checked = dict(mapping)
    fields = _fields(kind)
    for name, (hint, is_required) in fields.items():
        place = f"{path}.{name}" if path else name
        if name in mapping:
            checked[name] = read(hint, mapping[name], place)
        elif is_required:
            raise Wrong(f"without '{place}'")
    return checked if _is_mapping(kind) else kind(**{name: checked[name] for name in fields if name in checked})


def _is_mapping(kind: type) -> bool:
    return issubclass(kind, dict)


@cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """By name: the type, and whether it must be there."""
    defaults = getattr(kind, "_field_defaults", {})
    return {
        name: (get_args(hint)[0], False)
        if get_origin(hint) is _NOT_REQUIRED is not None
        else (hint, name not in defaults)
        for name, hint in get_type_hints(kind, include_extras=True).items()
    }


def _of_type(kind: Any, wanted: str, value: Any, path: str) -> Any:
    if not isinstance(value, kind):
        raise _wrong(path, wanted)
    return value


def _wrong(path: str, wanted: str) -> Wrong:
    return Wrong(f"with '{path}' that is not {wanted}" if path else f"with what is not {wanted}")
