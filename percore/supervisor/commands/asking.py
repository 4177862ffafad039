"""Asking the supervisor, and what is said meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from percore.common.printable import printable
from percore.common.typing import Any, Callable, Optional
from percore.errors import PercoreError, UsageError
from percore.supervisor.client import NoDaemon, request
from percore.supervisor.home import Home
from percore.supervisor.user import Identity, identity_or_none

_is_silent = False


def be_silent() -> None:
    global _is_silent
    _is_silent = True


def is_silent() -> bool:
    return _is_silent


def say(text: str) -> None:
    """What is not the answer itself; --silent keeps it back."""
    if not _is_silent:
        print(printable(text))


def warn(text: str) -> None:
    print(printable(f"percore: {text}"), file=sys.stderr)


def show_progress(event: Mapping[str, Any]) -> None:
    pid = f" (pid {event['pid']})" if event["pid"] else ""
    trouble = f": {event['failure']}" if event.get("failure") else ""
    if not _is_silent:
        text = f"{event['app']} {event['slot']}: {event['state']}{pid}{trouble}"
        print(printable(text), file=sys.stderr)


def ask(op: str, on_event: Callable[[Mapping[str, Any]], None] = lambda _: None, **arguments: Any) -> dict[str, Any]:
    """The result of one request; raises the error that the supervisor reports."""
    result: dict[str, Any] = {}
    for message in request(Home.of_user(), op, **arguments):
        if message["event"] == "result":
            result = message
        else:
            on_event(message)
    if not result["ok"]:
        error = PercoreError(result["error"], detail="\n".join(result.get("log_tail", ())))
        error.exit_code = result["exit_code"]
        error.app = result.get("app", "")
        raise error
    return result


def ask_or_nothing(op: str, **arguments: Any) -> Optional[dict[str, Any]]:
    """As `ask`, but None when no supervisor runs: nothing runs then, which is an answer."""
    try:
        return ask(op, **arguments)
    except NoDaemon:
        return None


def select_workers(*selectors: str, with_env: bool = False) -> list[dict[str, Any]]:
    """The supervisor selects, by the same rules as for `stop`; where none runs, there is nothing to select."""
    wanted = selectors or ("all",)
    answer = ask_or_nothing("describe", selectors=wanted, with_env=with_env)
    if answer is None and wanted != ("all",):
        raise UsageError(f"no app, id or namespace is called '{wanted[0]}'", next="see 'percore list'")
    return answer["workers"] if answer else []


def user_of(worker: Mapping[str, Any]) -> Optional[Identity]:
    """With whose rights its files are read and changed; None: with our own."""
    return identity_or_none(worker["config"].get("user"), worker["config"].get("group"))


def take_none(name: str, arguments: list[str]) -> None:
    """For a command without arguments: only where there are some is a parser needed, to refuse them or to help."""
    if arguments:
        from percore.supervisor.commands.arguments import make_parser

        make_parser(name).parse_args(arguments)
