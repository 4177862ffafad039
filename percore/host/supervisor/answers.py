"""The supervisor's answers, typed where they are read: it runs as a user that root does not believe."""

from __future__ import annotations

from typing import Any, Callable

from percore.errors import RolloutError

Answer = dict[str, Any]
Check = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _counts(most: int, *, least: int = 0) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


_IS_PORT = _or_none(_counts(65535))
_MOST_SLOTS = 1 << 16  # each is asked from an address of its own (common.socket_peers)

_STATUS: dict[str, Check] = {"release": _or_none(_is_text), "apps": _list_of(lambda app: isinstance(app, dict))}
_APP: dict[str, Check] = {
    "name": _is_text,
    "mode": _is_text,
    "wanted": _counts(_MOST_SLOTS),
    "port": _IS_PORT,
    "workers": _list_of(lambda worker: isinstance(worker, dict)),
}
_WORKER: dict[str, Check] = {
    "slot": _counts(_MOST_SLOTS - 2),
    "pid": _or_none(_counts(1 << 22)),
    "state": _is_text,
    "release": _or_none(_is_text),
    "port": _IS_PORT,
}
_MAY_LACK: dict[str, Check] = {
    "daemon": lambda value: isinstance(value, bool),
    "version": _or_none(_is_text),
    "release": _or_none(_is_text),
    "source": _is_text,
    "namespace": _is_text,
    "addresses": _list_of(_is_text),
    "unstable_restarts": _counts(1 << 62),
    "crash_looping": lambda value: isinstance(value, bool),
    "job": lambda value: isinstance(value, dict),
    "finished": lambda value: isinstance(value, bool),
    "config_hash": _is_text,
    "env_hash": _is_text,
    "failure": _or_none(_is_text),
    "memory_bytes": _is_number,
    "cpu_percent": _is_number,
    "uptime_seconds": _is_number,
    "restarts": _counts(1 << 62),
}
_RESULT: dict[str, Check] = {
    "ok": lambda value: isinstance(value, bool),
    "error": _is_text,
    "changes": _list_of(lambda change: isinstance(change, dict)),
    "log_tail": _or_none(_list_of(_is_text)),
}
_PROGRESS: dict[str, Check] = {**_WORKER, "app": _is_text}


def parse_status(answer: Any) -> Answer:
    """Raises RolloutError that names what makes no sense; what a newer supervisor says besides is kept."""
    status = _typed(answer, _STATUS, "status")
    for app in status["apps"]:
        where = f"app '{_typed(app, _APP, 'app')['name']:.50}'"
        for worker in app["workers"]:
            _typed(worker, _WORKER, f"worker of {where}")
    return status


def parse_result(answer: Any) -> Answer:
    """Of `percore apply`."""
    return _typed(answer, {key: check for key, check in _RESULT.items() if key in answer}, "result")


def is_progress(event: Answer) -> bool:
    """A worker's new state is all that goes on to the control side: another event would speak to it in the agent's name."""
    return event.get("event") == "worker" and all(check(event.get(key)) for key, check in _PROGRESS.items())


def _typed(value: Any, checks: dict[str, Check], what: str) -> Answer:
    if not isinstance(value, dict):
        raise _senseless(what)
    for key, check in checks.items():
        if key not in value or not check(value[key]):
            raise _senseless(f"{what}.{key}")
    for key, check in _MAY_LACK.items():
        if key in value and not check(value[key]):
            raise _senseless(f"{what}.{key}")
    return value


def _senseless(what: str) -> RolloutError:
    return RolloutError(f"the supervisor's answer makes no sense: {what}", next="percore update, or deploy again")
