"""Log files by hand: `flush`, `reloadLogs`, `logrotate`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from percore.errors import PercoreError
from percore.supervisor.base.home import Home
from percore.supervisor.base.user import Identity
from percore.supervisor.base.user_files import find
from percore.supervisor.client import as_selectors, ask, ask_or_nothing, select_workers, user_of
from percore.supervisor.commands.output import say, show_progress
from percore.supervisor.logs.rotate import finish_interrupted, locked, older_files

_BUSY_SECONDS = 10.0


def flush_logs(arguments: list[str]) -> int:
    """Empties the logs in place, so that their writers are not disturbed, and deletes their rotated files."""
    from percore.supervisor.commands.arguments import make_parser

    parser = make_parser("flush")
    parser.add_argument("selectors", nargs="*", metavar="TARGET", help="name, id, namespace, /regex/ or all")
    selectors = parser.parse_args(arguments).selectors
    workers = [worker for selector in as_selectors(selectors or ["all"]) for worker in select_workers(selector)]
    paths = {path: user_of(worker) for worker in workers for path in _paths(worker)}
    if not selectors:
        paths[Home.of_user().daemon_log] = None
    for path, user in sorted(paths.items()):
        try:
            if _empty(path, user):
                say(f"flushed {path}")
        except OSError as error:
            raise PercoreError(f"the log cannot be emptied: {error.strerror}", where=path) from None
    return 0


def _paths(worker: Mapping[str, Any]) -> Iterator[str]:
    return (path for path in (worker["out_file"], worker["error_file"], worker["log_file"]) if path)


def _empty(path: str, user: Optional[Identity]) -> bool:
    """False when there is nothing to be emptied."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while os.path.isfile(path):
        with find(path, user, os.O_RDWR) as found, locked(found.path) as log:
            if log >= 0:
                finish_interrupted(found.path, 0, log)
                os.ftruncate(log, 0)
                for older in list(older_files(found.path)):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(older)
                return True
        if time.monotonic() > deadline:
            raise PercoreError("its rotation does not end", where=path, next="try again")
        time.sleep(0.02)
    return False


def reload_logs(_: list[str]) -> int:
    """Workers whose log was moved or deleted are replaced without losing a request; the others keep theirs."""
    answer = ask_or_nothing("reload_logs")
    stale = [worker for worker in select_workers() if worker["has_lost_log"]] if answer else []
    left = []
    for worker in stale:
        if worker["sharing"] == "none":
            left.append(f"{worker['name']} ({worker['id']})")
        else:
            ask("reload", show_progress, selector=str(worker["id"]))
    if left:
        raise PercoreError(
            f"the logs of {', '.join(left)} were moved or deleted, and only a restart reopens them",
            next=f"percore restart {left[0].partition(' ')[0]}",
        )
    say("every log is written to its own file")
    return 0


def explain_logrotate(_: list[str]) -> int:
    say(
        "Logs are rotated automatically, without losing a line: by size (log_max_size, 10M) and by age (log_max_age, 7d);\n"
        "log_keep, log_max_total, log_min_free and log_compress set what is kept (docs/reference/logs.md).\n"
        "Remove any file in /etc/logrotate.d that rotates them as well. Nothing was changed."
    )
    return 0
