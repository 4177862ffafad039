"""`invoke top`: a live view of all workers on all hosts. It handles keys and what hosts say; `top_view` does the layout.

It is drawn as `percore monit` is, with Python's own curses: a terminal library of a hundred modules would do no more in a plain
terminal over SSH, and would start more slowly.
"""

from __future__ import annotations

import contextlib
import locale
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from percore.deploy.connection.agent import Remote
from percore.deploy.fleet.logs import read_line
from percore.deploy.fleet.top_view import Row, TopBoard
from percore.deploy.fleet.watch import LiveHosts
from percore.deploy.masking import REDACTOR
from percore.deploy.rollout.host import Host, lock_owner
from percore.deploy.rollout.hosts import load_hosts
from percore.deploy.rollout.parallel import try_one
from percore.deploy.rollout.scope import Scope
from percore.errors import PercoreError, UsageError
from percore.supervisor.commands.screen import (
    FilterPrompt,
    Span,
    Wakeup,
    board_keys,
    draw,
    is_ascii_only,
    make_styles,
    plain,
)

try:
    import curses
except ImportError:  # Windows
    curses = None  # type: ignore[assignment]

_DRAW_SECONDS = 0.2
_ESCAPE, _ENTER = 27, (10, 13)
_LOG_LINES = "200"
_MOST_EMPTY_READS = 100  # in a row: nobody sits at the terminal any more
_QUITS = (3, ord("q"))


def top(scope: Scope, *, interval: float = 1.0) -> None:
    instead = scope.command("status")
    if not 0.2 <= interval <= 60:
        raise UsageError("it must be between 0.2 and 60 seconds", where="--interval")
    if curses is None:
        raise UsageError("this Python has no curses module", next=instead)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("top needs a terminal", next=f"{instead}, with --json for programs")
    hosts = load_hosts(scope)
    locale.setlocale(locale.LC_ALL, "")
    try:
        curses.setupterm()
    except curses.error:
        what = f"there is no description of the terminal '{os.environ.get('TERM', '')}'"
        raise UsageError(what, next=f"TERM=xterm {scope.command('top')}") from None
    os.environ.setdefault("ESCDELAY", "25")  # milliseconds for which Esc might be the beginning of an arrow key
    with contextlib.suppress(KeyboardInterrupt):
        curses.wrapper(lambda screen: Top(screen, scope, hosts, interval).run())


class LogView:
    """The log of one worker, over a connection of its own, until it is closed."""

    def __init__(self, host: Host, row: Row, lines: deque[Span], tell: Callable[[], object]) -> None:
        self._host, self._row, self._lines, self._tell = host, row, lines, tell
        self._remote: Remote | None = None
        self._is_closed = False
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self._is_closed = True
        if self._remote:
            threading.Thread(target=self._remote.close, daemon=True).start()

    def _run(self) -> None:
        fault = try_one(self._host, self._follow)
        if isinstance(fault, PercoreError) and not self._is_closed:
            self._lines.append(Span(plain(str(fault)), "bad"))
            self._tell()

    def _follow(self, host: Host) -> None:
        assert self._row.app
        self._remote = host.new_connection()
        if not self._is_closed:
            words = [self._row.app["name"], "--json", "--lines", _LOG_LINES, "--follow"]
            self._remote.ask("stream", target=host.target(), words=words, on_event=self._take)

    def _take(self, event: dict[str, Any]) -> None:
        if event["event"] != "line":
            return
        shown = read_line(self._row.host, event["text"])
        own = self._row.worker["id"] if self._row.worker and "id" in self._row.worker else None
        if own is None or shown.fields.get("process_id", own) == own:
            text = REDACTOR.text(shown.fields.get("message", shown.text))
            self._lines.append(Span(plain(text), "bad" if shown.fields.get("type") == "err" else ""))
            self._tell()


class Top:
    def __init__(self, screen: Any, scope: Scope, hosts: list[Host], interval: float) -> None:
        self._screen = screen
        self._wakeup = Wakeup()
        self._board = TopBoard(
            scope.env,
            on_all=scope.command("reload", "--app APP"),
            is_ascii=is_ascii_only(),
        )
        self._watch = LiveHosts(hosts, interval, lambda _: self._wakeup.call())
        self._filter = FilterPrompt(self._board)
        self._log: LogView | None = None
        self._question: Callable[[], None] | None = None
        self._is_running = True
        self._empty_reads = 0
        self._styles = make_styles()
        self._keys = self._make_keys()

    def run(self) -> None:
        self._wakeup.hear_signals()
        self._screen.nodelay(True)
        self._screen.keypad(True)
        with contextlib.suppress(curses.error):
            curses.curs_set(0)
        self._watch.start()
        try:
            while self._is_running:
                self._turn()
        finally:
            self._wakeup.end()
            self._leave_log()
            self._watch.close()

    def _turn(self) -> None:
        self._board.update(self._watch.views())
        draw(self._screen, self._board, self._styles)
        drawn = time.monotonic()
        ready = select.select([sys.stdin, self._wakeup], [], [], 1.0)[0]
        if sys.stdin not in ready:  # keys are handled at once; what hosts say, a few times a second
            ready += select.select([sys.stdin], [], [], max(0.0, _DRAW_SECONDS - (time.monotonic() - drawn)))[0]
        if self._wakeup in ready:
            self._wakeup.take()
            size = os.get_terminal_size()
            if (size.lines, size.columns) != self._screen.getmaxyx():
                curses.resizeterm(size.lines, size.columns)
        if sys.stdin in ready:
            self._take_keys()

    # -- keys --------------------------------------------------------------------------------------------------------

    def _make_keys(self) -> dict[int, Callable[[], None]]:
        board = self._board
        keys: dict[int, Callable[[], None]] = {
            **board_keys(board, self._filter),
            ord("o"): lambda: board.sort_by(1),
            ord("O"): lambda: board.sort_by(-1),
            ord("l"): lambda: self._ask_for("reload", "reload {app} on {host}"),
            ord("r"): lambda: self._ask_for("restart", "restart {app} on {host}"),
            ord("+"): lambda: self._ask_for("scale", "one worker more of {app} on {host}", "+1"),
            ord("-"): lambda: self._ask_for("scale", "one worker fewer of {app} on {host}", "-1"),
            **dict.fromkeys((*_ENTER, curses.KEY_ENTER), self._open_log),
            **dict.fromkeys(_QUITS, self._quit),
        }
        return keys

    def _take_keys(self) -> None:
        key = self._screen.getch()
        self._empty_reads = self._empty_reads + 1 if key == -1 else 0
        if self._empty_reads > _MOST_EMPTY_READS:
            self._quit()
        while key != -1:
            self._take_key(key)
            key = self._screen.getch()

    def _take_key(self, key: int) -> None:
        board = self._board
        if self._question:
            order, self._question, board.message = self._question, None, ""
            if key in (ord("y"), ord("Y")):
                order()
        elif self._filter.is_open:
            self._filter.take(key)
        elif board.log is not None:
            if key in (*_QUITS, _ESCAPE):
                self._leave_log()
        else:
            board.message = ""
            self._keys.get(key, lambda: None)()

    def _quit(self) -> None:
        self._is_running = False

    # -- on the selected worker ----------------------------------------------------------------------------------------

    def _open_log(self) -> None:
        row = self._board.current
        if row and row.worker:
            self._log = LogView(self._watch.hosts[row.host], row, self._board.show_log(), self._wakeup.call)

    def _leave_log(self) -> None:
        if self._log:
            self._log.close()
        self._log = self._board.log = None

    def _ask_for(self, verb: str, words: str, count: str = "") -> None:
        row = self._board.current
        if row is None or row.app is None:
            return
        title = plain(words.format(app=row.app["name"], host=row.host))
        app, host = row.app["name"], self._watch.hosts[row.host]
        self._board.message = f"{title}? y/n"
        self._question = lambda: self._order(title, host, verb, app, count)

    def _order(self, title: str, host: Host, verb: str, app: str, count: str) -> None:
        """Over a connection of its own: the host is looked at meanwhile."""
        self._board.message = f"{title}..."

        def work() -> None:
            fault = try_one(host, lambda each: control(each, verb, app, count))
            told = plain(str(fault)) if isinstance(fault, PercoreError) else "done"
            self._board.message = f"{title}: {told}"
            self._watch.look_again(host.name)
            self._wakeup.call()

        threading.Thread(target=work, daemon=True).start()


def control(host: Host, verb: str, app: str, count: str = "") -> None:
    remote = host.new_connection()
    try:
        more: dict[str, Any] = {"count": count} if count else {}
        remote.ask("control", target=host.target(), verb=verb, owner=lock_owner(), app=app, **more)
    finally:
        remote.close()
