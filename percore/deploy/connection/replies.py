"""Reading what a host sends: types and bounds first, use afterwards.

A host is not trusted with more than itself. So nothing it sends is used before `read_event` or `read_result` checked it, and
what is wrong raises `WrongReply`, which the connection turns into a failure of that host alone. Names that are not known here
pass (a status goes into JSON as it came), yet nothing in the code reads them.
"""

from __future__ import annotations

import json
import math
import types
from functools import cache
from typing import Annotated, Any, NotRequired, Union, get_args, get_origin, get_type_hints

from percore.deploy.connection.messages import EVENTS, OPERATIONS, Failure, ReplyLimits

DEEPEST = 32
LONGEST_NUMBER = 20
MOST_EVENTS = 100_000
MOST_BYTES = 64 << 20
"""Of one reply and all events before it, where no lines of logs or of a command are streamed."""


class WrongReply(Exception):
    """What is wrong with it, as the end of a sentence that begins with `its agent answered 'OP'`."""


def limits_of(op: str) -> ReplyLimits:
    return OPERATIONS[op][1]


def read_line(line: bytes) -> dict[str, Any]:
    """One line as an event: a JSON object with the name of an event in it."""
    try:
        event = json.loads(line, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise WrongReply(f"with what is no JSON ({type(error).__name__})") from None
    event = _sound(event)
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise WrongReply("with what is no event")
    return event


def read_event(event: dict[str, Any]) -> dict[str, Any]:
    """An event, its values checked."""
    kind = EVENTS.get(event["event"])
    checked: dict[str, Any] = event if kind is None else _read(kind, event, "")
    return checked


def read_result(op: str, event: dict[str, Any]) -> dict[str, Any]:
    """The last line of an answer: `ok` and what the operation returns, or the `error`."""
    ok = _read(bool, event.get("ok"), "ok")
    checked: dict[str, Any] = (
        _read(OPERATIONS[op][0], event, "") if ok else {**event, "error": _read(Failure, event.get("error"), "error")}
    )
    return checked


# -- numbers, texts and depths that no reader needs to fear -------------------------------------------------------------


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError("too long a number")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("no finite number")
    return number


def _sound(value: Any, depth: int = 0) -> Any:
    """The value, not nested too deeply, and its texts such that they can be encoded: half a character stands as its escape."""
    if depth > DEEPEST:
        raise WrongReply(f"with what is nested more than {DEEPEST} deep")
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_sound(entry, depth + 1) for entry in value]
    if isinstance(value, dict):
        return {_sound(key): _sound(entry, depth + 1) for key, entry in value.items()}
    return value


# -- values against types ----------------------------------------------------------------------------------------------

_PLAIN: dict[Any, tuple[str, tuple[type, ...]]] = {
    str: ("a text", (str,)),
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
}


def _read(kind: Any, value: Any, path: str) -> Any:
    """The value when it is of this kind; WrongReply names the place where it is not."""
    if kind in _PLAIN:
        return _read_plain(kind, value, path)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _read_ruled(arguments, value, path)
    if origin in (Union, types.UnionType):
        return None if value is None else _read(arguments[0], value, path)
    if origin is list:
        return [_read(arguments[0], entry, f"{path}[]") for entry in _of_type(list, "a list", value, path)]
    mapping = _of_type(dict, "a mapping", value, path)
    if origin is dict:
        name = f"a name in {path}"
        return {_read(arguments[0], key, name): _read(arguments[1], mapping[key], f"{path}.*") for key in mapping}
    return _read_fields(kind, mapping, path)


def _read_plain(kind: Any, value: Any, path: str) -> Any:
    wanted, types_of_it = _PLAIN[kind]
    if isinstance(value, bool) and kind is not bool:
        raise _wrong(path, wanted)
    return _of_type(types_of_it, wanted, value, path)


def _read_ruled(arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    checked, rule = _read(arguments[0], value, path), arguments[1]
    if not rule.fits(checked):
        raise _wrong(path, rule.wanted)
    return checked


def _read_fields(kind: type, mapping: dict[str, Any], path: str) -> dict[str, Any]:
    checked = dict(mapping)
    for name, (hint, is_required) in _fields(kind).items():
        place = f"{path}.{name}" if path else name
        if name in mapping:
            checked[name] = _read(hint, mapping[name], place)
        elif is_required:
            raise WrongReply(f"without '{place}'")
    return checked


@cache
def _fields(kind: type) -> dict[str, tuple[Any, bool]]:
    """By name: the type, and whether it must be there."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        name: (get_args(hint)[0], False) if get_origin(hint) is NotRequired else (hint, True)
        for name, hint in hints.items()
    }


def _of_type(kind: Any, wanted: str, value: Any, path: str) -> Any:
    if not isinstance(value, kind):
        raise _wrong(path, wanted)
    return value


def _wrong(path: str, wanted: str) -> WrongReply:
    return WrongReply(f"with '{path}' that is not {wanted}" if path else f"with what is not {wanted}")
