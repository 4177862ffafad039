"""Reading what a host sends: types and bounds first, use afterwards.

A host is not trusted with more than itself. So nothing it sends is used before `read_event` or `read_result` checked it, and
what is wrong raises `WrongReply`, which the connection turns into a failure of that host alone. Names that are not known here
pass (a status goes into JSON as it came), yet nothing in the code reads them.
"""

from __future__ import annotations

import json
import math
from typing import Any

from percore.common.typed import Wrong, read
from percore.deploy.connection.messages import Failure
from percore.deploy.connection.protocol import EVENTS, OPERATIONS, ReplyLimits

DEEPEST = 32
LONGEST_NUMBER = 20
MOST_EVENTS = 100_000
MOST_BYTES = 64 << 20
"""Of one reply and all events before it, where no lines of logs or of a command are streamed."""


WrongReply = Wrong
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
    checked: dict[str, Any] = event if kind is None else read(kind, event, "")
    return checked


def read_result(op: str, event: dict[str, Any]) -> dict[str, Any]:
    """The last line of an answer: `ok` and what the operation returns, or the `error`."""
    ok = read(bool, event.get("ok"), "ok")
    checked: dict[str, Any] = (
        read(OPERATIONS[op][0], event, "") if ok else {**event, "error": read(Failure, event.get("error"), "error")}
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
