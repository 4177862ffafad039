"""Every operation of the control socket: its fields, and what each must be. What comes out is typed."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping

from percore.common.typing import Any, Callable, NamedTuple
from percore.errors import PercoreError, UsageError
from percore.supervisor.config import kinds
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.app_bounds import check_environment

_LONGEST_TEXT = 4096
signal_number = kinds.between(1, 64, "the number of a signal, 1 to 64")
_NEEDED = object()


class OperationField(NamedTuple):
    """`read` turns the value into what the operation takes; raises ValueError that says what it should be."""

    name: str
    read: Callable[[Any], Any]
    default: Any = _NEEDED


def read(request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The operation and its fields. Raises UsageError; fields that no operation has are passed over."""
    op = request.get("op")
    if not isinstance(op, str):
        raise malformed("op", "text")
    if op not in OPERATIONS:
        raise UsageError(f"the supervisor knows no operation '{op[:80]}'")
    return op, {field.name: _read_field(request, field) for field in OPERATIONS[op]}


def _read_field(request: Mapping[str, Any], field: OperationField) -> Any:
    if field.name == "selectors" and "selectors" not in request and "selector" in request:
        return (_read("selector", text, request["selector"]),)
    if field.name not in request or (request[field.name] is None and field.default is not _NEEDED):
        if field.default is _NEEDED:
            raise malformed(field.name, "there")
        return field.default
    return _read(field.name, field.read, request[field.name])


def _read(name: str, reader: Callable[[Any], Any], value: Any) -> Any:
    try:
        return reader(value)
    except PercoreError:
        raise
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise malformed(name, str(error) if isinstance(error, ValueError) else "of another kind") from None


def malformed(name: str, wanted: str) -> UsageError:
    return UsageError(f"the request is malformed: field '{name}' should be {wanted}")


# -- kinds of fields -------------------------------------------------------------------------------------------------


def text(value: Any) -> str:
    with contextlib.suppress(kinds.Wanted):
        if len(found := kinds.text(value)) <= _LONGEST_TEXT:
            return found
    raise ValueError(f"text of at most {_LONGEST_TEXT} characters")


def texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(dict.fromkeys(map(text, value)))
    raise ValueError("a list of texts")


def count(value: Any) -> str:
    written = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    if written == "max" or re.fullmatch(r"[+-]?[0-9]{1,9}", written):
        return written
    raise ValueError("N, +N, -N (nine digits at most) or max")


def pid(value: Any) -> int:
    if type(value) is int and 0 < value < 1 << 31:
        return value
    raise ValueError("the pid of a worker")


def way(value: Any) -> str:
    if value in ("start", "restart", "reload"):
        return str(value)
    raise ValueError("start, restart or reload")


def environment(value: Any) -> dict[str, str]:
    check = "a mapping of names to texts"
    if not isinstance(value, dict):
        raise ValueError(check)
    try:
        check_environment(value)
    except ValueError as error:
        raise ValueError(f"{check} ({error})") from None
    return value


def fields(value: Any) -> dict[str, Any]:
    if isinstance(value, dict) and all(len(key) <= _LONGEST_TEXT for key in value):
        return value
    raise ValueError("a mapping of keys to values")


def apps(value: Any) -> tuple[AppConfig, ...]:
    if not isinstance(value, list):
        raise ValueError("a list of apps")
    return tuple(map(app, value))


def app(value: Any) -> AppConfig:
    try:
        return AppConfig.from_record(fields(value), where="the request")
    except (TypeError, AttributeError) as error:
        raise ValueError(f"a list of apps ({error})") from None


def directory(value: Any) -> str:
    path = text(value)
    if os.path.isabs(path) and os.path.exists(path):
        return path
    raise ValueError("the absolute path of what holds percore")


def program(value: Any) -> str:
    path = text(value)
    if os.path.isabs(path) and os.path.isfile(path) and os.access(path, os.X_OK):
        return path
    raise ValueError("the absolute path of a Python that can be executed")


_SELECTORS = OperationField("selectors", texts)
_REPLACES = OperationField("replaces", kinds.flag, False)  # also apps of another project
_CHANGES = (OperationField("changes", fields, None), OperationField("base_env", environment, None))

OPERATIONS: dict[str, tuple[OperationField, ...]] = {
    "ping": (),
    "status": (),
    "describe": (_SELECTORS, OperationField("with_env", kinds.flag, False)),
    "reset": (_SELECTORS,),
    "signal": (_SELECTORS, OperationField("number", signal_number)),
    "jobs": (OperationField("selectors", texts, ()),),
    "run_job": (_SELECTORS,),
    "dump": (OperationField("force", kinds.flag, False),),
    "apply": (
        OperationField("apps", apps),
        OperationField("env", environment, None),
        OperationField("release", text),
        OperationField("owner", text),
        _REPLACES,
    ),
    "start": (
        OperationField("apps", apps),
        OperationField("env", environment, None),
        OperationField("how", way, "start"),
        _REPLACES,
    ),
    "start_selected": (_SELECTORS,),
    "stop": (_SELECTORS,),
    "delete": (_SELECTORS,),
    "restart": (_SELECTORS, *_CHANGES),
    "reload": (_SELECTORS, *_CHANGES),
    "watch": (_SELECTORS, OperationField("on", kinds.flag, None)),
    "compare": (OperationField("apps", apps), OperationField("owner", text), _REPLACES),
    "scale": (OperationField("name", text), OperationField("count", count)),
    "resurrect": (),
    "update": (OperationField("root", directory), OperationField("python", program)),
    "leave": (),
    "reload_logs": (),
    "farewells": (),
    "farewell": (OperationField("pid", pid),),
    "kill": (),
}
