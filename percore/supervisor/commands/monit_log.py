"""The log lines below the table of `percore monit`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Optional

from percore.supervisor.client import user_of
from percore.supervisor.commands.monit_view import Dashboard
from percore.supervisor.commands.screen import Span, plain
from percore.supervisor.logs.follow import Follower

_FIRST_LOG_LINES = 100


class LogPane:
    """Follows the logs of one worker into the dashboard."""

    def __init__(self, board: Dashboard) -> None:
        self._board = board
        self._worker_id: Optional[int] = None
        self._followers: dict[str, tuple[Follower, str]] = {}

    def follow(self, worker: Optional[Mapping[str, Any]]) -> None:
        """Shows what is new, and begins anew when the worker is another."""
        if worker is None or worker["id"] != self._worker_id:
            self._begin(worker)
        for follower, style in self._followers.values():
            self._show(follower.read().splitlines(), style)

    def _begin(self, worker: Optional[Mapping[str, Any]]) -> None:
        self._worker_id = worker["id"] if worker else None
        for follower, _ in self._followers.values():
            follower.close()
        self._followers = {}
        self._board.log.clear()
        for path, style in ((worker["out_file"], ""), (worker["error_file"], "bad")) if worker else ():
            if path != os.devnull and path not in self._followers:
                follower = Follower(path, user=user_of(worker) if worker else None)
                self._followers[path] = follower, style
                self._show(follower.last_lines(_FIRST_LOG_LINES), style)

    def _show(self, lines: list[bytes], style: str) -> None:
        self._board.log.extend(Span(plain(line.decode(errors="replace")), style) for line in lines)
