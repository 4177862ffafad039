"""`percore monit`: a live view of all workers. It handles keys, replies and new log lines; `monit_view` does the layout.

curses is the terminal library of Python itself: it draws only what changed, so nothing flickers, and it is on every host.
"""

from __future__ import annotations

import contextlib
import locale
import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, Callable, Optional

import psutil

from percore.common.app_names import selector_of
from percore.common.connections import count_connections
from percore.common.cpus import usable_cores
from percore.errors import PercoreError, UsageError
from percore.supervisor.base.home import Home
from percore.supervisor.client import OpenLink
from percore.supervisor.commands.arguments import make_parser
from percore.supervisor.commands.monit_log import LogPane
from percore.supervisor.commands.monit_view import Dashboard
from percore.supervisor.commands.output import short_size
from percore.supervisor.commands.screen import FilterPrompt, board_keys, draw, is_ascii_only, make_styles

try:
    import curses
except ImportError:  # some builds of Python are without it
    curses = None  # type: ignore[assignment]

_LOG_SECONDS = 0.25
# Counting the connections of a busy host costs time: it is limited to this share of one core.
_COUNTING_SHARE = 0.03
_ESCAPE = 27


def show_monitor(arguments: list[str]) -> int:
    parser = make_parser("monit")
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="SECONDS", help="seconds between two refreshes (1)"
    )
    options = parser.parse_args(arguments)
    if not 0.2 <= options.interval <= 60:
        raise UsageError("--interval must be between 0.2 and 60 seconds")
    if curses is None:
        raise PercoreError("this Python has no curses module", next="percore list")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("monit needs a terminal", next="percore list, or percore jlist for programs")
    locale.setlocale(locale.LC_ALL, "")
    try:
        curses.setupterm()
    except curses.error:
        raise UsageError(
            f"there is no description of the terminal '{os.environ.get('TERM', '')}'", next="TERM=xterm percore monit"
        ) from None
    os.environ.setdefault("ESCDELAY", "25")  # milliseconds for which Esc might be the beginning of an arrow key
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt):
        curses.wrapper(lambda screen: Monitor(screen, Home.of_user(), options.interval).run())
    return 0


class Monitor:
    def __init__(self, screen: Any, home: Home, interval: float) -> None:
        self._screen = screen
        self._home = home
        self._interval = interval
        self._board = Dashboard(is_ascii=is_ascii_only())
        self._looks = OpenLink(home)
        self._orders: list[OpenLink] = []  # one each, so that a long reload does not block other requests
        self._logs = LogPane(self._board)
        self._filter = FilterPrompt(self._board)
        self._is_asked = False
        self._look_at = self._count_at = 0.0
        self._question: Optional[tuple[str, Callable[[], None]]] = None
        self._is_running = True
        self._styles = make_styles()
        self._keys = self._make_keys()

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGWINCH, lambda *_: None)
        self._screen.nodelay(True)
        self._screen.keypad(True)
        with contextlib.suppress(curses.error):
            curses.curs_set(0)
        psutil.cpu_percent()  # the first reading is the beginning of the span
        while self._is_running:
            self._look()
            draw(self._screen, self._board, self._styles)
            links = [link for link in (self._looks, *self._orders) if link.is_open]
            wait = max(0.0, min(self._look_at - time.monotonic(), _LOG_SECONDS))
            ready = select.select([sys.stdin, read_end, *links], [], [], wait)[0]
            if read_end in ready:
                os.read(read_end, 4096)
                curses.update_lines_cols()
                curses.resizeterm(*os.get_terminal_size()[::-1])
            if sys.stdin in ready:
                self._take_keys()
            for link in links:
                if link in ready:
                    self._take_replies(link)
            self._logs.follow(self._board.current)

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + self._interval
        self._board.host = host_line(self._board.workers)
        if not self._looks.open():
            self._is_asked = False
            self._board.update([])
            self._board.message = f"no supervisor runs in {self._home.path}; percore start FILE starts one"
        elif not self._is_asked:
            self._is_asked = True
            self._looks.send("describe", selector="all")

    def _take_replies(self, link: OpenLink) -> None:
        for reply in link.read():
            if link is self._looks:
                self._is_asked = False
                self._show_workers(reply)
            elif reply["event"] == "worker":
                self._board.message = f"{reply['app']} {reply['slot']}: {reply['state']}"
            elif reply["event"] == "result":
                self._board.message = "done" if reply["ok"] else str(reply["error"])
                self._look_at = 0.0
                link.close()
        self._orders = [order for order in self._orders if order.is_open]

    def _show_workers(self, reply: Mapping[str, Any]) -> None:
        if not reply["ok"]:
            self._board.message = str(reply["error"])
            return
        if self._board.message.startswith("no supervisor runs"):
            self._board.message = ""
        self._board.update(reply["workers"])
        if time.monotonic() >= self._count_at:
            used_before = time.process_time()
            self._board.connections = count_connections(reply["workers"])
            self._count_at = time.monotonic() + (time.process_time() - used_before) / _COUNTING_SHARE

    # -- keys --------------------------------------------------------------------------------------------------------

    def _make_keys(self) -> dict[int, Callable[[], None]]:
        board = self._board
        keys: dict[int, Callable[[], None]] = {
            **board_keys(board, self._filter),
            ord("o"): board.sort_by_next, ord("q"): self._quit, 3: self._quit,
            ord("+"): lambda: self._sure("one worker more of", lambda: self._scale("+1"), but_not_of="cluster"),
            ord("-"): lambda: self._sure("one worker fewer of", lambda: self._scale("-1")),
        }  # fmt: skip
        orders = (("l", "reload", False), ("r", "restart", True), ("s", "stop", True), ("t", "start_selected", False))
        for key, op, asks in orders:
            for letter, is_whole in ((key, False), (key.upper(), True)):
                keys[ord(letter)] = self._make_order(op, is_whole=is_whole, asks=asks)
        return keys

    def _take_keys(self) -> None:
        while (key := self._screen.getch()) != -1:
            if self._question:
                question, self._question = self._question, None
                self._board.message = ""
                if key in (ord("y"), ord("Y")):
                    question[1]()
            elif self._filter.is_open:
                self._filter.take(key)
            else:
                self._board.message = ""
                self._keys.get(key, lambda: None)()

    def _quit(self) -> None:
        self._is_running = False

    def _make_order(self, op: str, *, is_whole: bool, asks: bool) -> Callable[[], None]:
        verb = op.partition("_")[0]

        def give() -> None:
            worker = self._board.current
            if worker is None:
                return
            selector = selector_of(worker, self._board.workers) if is_whole else str(worker["id"])
            shown = worker["name"] if is_whole else f"{worker['name']} {worker['slot']}"

            def order() -> None:
                self._order(f"{verb} {shown}", op, selector=selector)

            self._ask(f"{verb} {shown}? y/n", order, is_needed=asks)

        return give

    def _sure(self, words: str, order: Callable[[], None], *, but_not_of: str = "") -> None:
        current = self._board.current
        if current:
            self._ask(f"{words} {current['name']}? y/n", order, is_needed=current["mode"] != but_not_of)

    def _ask(self, text: str, order: Callable[[], None], *, is_needed: bool = True) -> None:
        if is_needed:
            self._question, self._board.message = (text, order), text
        else:
            order()

    def _scale(self, count: str) -> None:
        if worker := self._board.current:
            name = selector_of(worker, self._board.workers)
            self._order(f"scale {worker['name']} {count}", "scale", name=name, count=count)

    def _order(self, title: str, op: str, **arguments: Any) -> None:
        link = OpenLink(self._home)
        if link.open():
            link.send(op, **arguments)
            self._orders.append(link)
            self._board.message = f"{title}..."


def host_line(workers: list[dict[str, Any]]) -> str:
    memory = psutil.virtual_memory()
    load = " ".join(f"{value:.2f}" for value in psutil.getloadavg())
    own = sum(worker["memory_bytes"] for worker in workers)
    return (
        f"percore: {len(workers)} workers, {short_size(own)}   host: cpu {psutil.cpu_percent():.0f}% of {usable_cores()} cores,"
        f" load {load}, memory {short_size(memory.total - memory.available)} of {short_size(memory.total)}"
    )
