"""What `percore monit` shows: the workers, their short history, and the lines of one screen. Pure; `monit` draws it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional

from percore.common.connections import Connections
from percore.supervisor.commands.output import duration, short_size
from percore.supervisor.commands.pm2_json import shown_state
from percore.supervisor.commands.screen import Line, Span, cells, clip_line, fit

_HISTORY = 60
_GRAPH_WIDTH = 8
_LOG_LINES = 500
_LEAST_LOG_HEIGHT = 3
_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.,-=+*#"

HELP = (
    "up down j k    select a worker (PageUp, PageDown, Home, End)",
    "l  L           reload the worker; the whole app",
    "r  R           restart the worker; the whole app",
    "s  S           stop the worker; the whole app",
    "t  T           start the worker; the whole app",
    "+  -           add a worker, remove one",
    "/              show only names that contain a text; Esc shows all",
    "o              sort by the next column",
    "q              quit",
    "",
    "connections: accepted: total of the running processes; conns: open now; queue: not yet accepted",
)


class Column(NamedTuple):
    key: str
    title: str
    width: int
    rank: int  # on a narrow terminal the highest go first
    show: Callable[[Dashboard, Mapping[str, Any]], str]
    order: Optional[Callable[[Dashboard, Mapping[str, Any]], Any]] = None  # None: nothing to sort by


class LoadHistory:
    """What each worker used lately, as small graphs."""

    def __init__(self, bars: str) -> None:
        self._bars = bars
        self._values: dict[str, dict[int, deque[float]]] = {"cpu_percent": {}, "memory_bytes": {}}

    def add(self, workers: Sequence[Mapping[str, Any]]) -> None:
        known = {worker["id"] for worker in workers}
        for field, values in self._values.items():
            for gone in set(values) - known:
                del values[gone]
            for worker in workers:
                values.setdefault(worker["id"], deque(maxlen=_HISTORY)).append(worker[field])

    def graph(self, worker: Mapping[str, Any], field: str, full: float) -> str:
        """Its height is `full`, or the largest value where that is more."""
        values = list(self._values[field].get(worker["id"], ()))
        full = max([full, *values])
        return "".join(self._bars[min(7, int(value / full * 8))] for value in values[-_GRAPH_WIDTH:])


class Dashboard:
    """`update` takes the reply of the supervisor, `lines` returns the screen."""

    def __init__(self, *, is_ascii: bool = False) -> None:
        self.workers: list[dict[str, Any]] = []
        self.connections: Mapping[int, Connections] = {}
        self.host = ""
        self.message = ""
        self.filter = ""
        self.sort = "id"
        self.selected: Optional[int] = None  # the id of a worker
        self.log: deque[Span] = deque(maxlen=_LOG_LINES)
        self.shows_help = False
        self.is_ascii = is_ascii
        self.history = LoadHistory(_ASCII_BARS if is_ascii else _BARS)
        self._rule = "-" if is_ascii else "─"
        self._first_row = 0
        self._page = 10

    def update(self, workers: Sequence[dict[str, Any]]) -> None:
        self.workers = list(workers)
        self.history.add(workers)
        self._keep_selection()

    # -- selection ----------------------------------------------------------------------------------------------

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The workers that are shown, in their order."""
        shown = [worker for worker in self.workers if self.filter in worker["name"]]
        order = next(column.order for column in COLUMNS if column.key == self.sort)
        assert order
        return sorted(shown, key=lambda worker: (order(self, worker), worker["id"]))

    @property
    def current(self) -> Optional[dict[str, Any]]:
        return next((worker for worker in self.rows if worker["id"] == self.selected), None)

    def move(self, step: int) -> None:
        rows = self.rows
        if rows:
            ids = [worker["id"] for worker in rows]
            place = ids.index(self.selected) if self.selected in ids else 0
            self.selected = ids[max(0, min(len(ids) - 1, place + step))]

    def move_page(self, direction: int) -> None:
        self.move(direction * self._page)

    def sort_by_next(self) -> None:
        keys = [column.key for column in COLUMNS if column.order]
        self.sort = keys[(keys.index(self.sort) + 1) % len(keys)]

    def set_filter(self, text: str) -> None:
        self.filter = text
        self._keep_selection()

    def _keep_selection(self) -> None:
        if self.current is None:
            self.selected = self.rows[0]["id"] if self.rows else None

    # -- the screen --------------------------------------------------------------------------------------------------

    def lines(self, width: int, height: int) -> list[Line]:
        """Exactly `height` lines of at most `width` cells."""
        if height < 1 or width < 1:
            return []
        body = max(0, height - 3)
        if self.shows_help:
            table = [[Span(f"  {text}")] for text in HELP[:body]]
            log: list[Line] = []
        else:
            rows = len(self.rows)
            log_height = max(min(_LEAST_LOG_HEIGHT, body // 2), body - rows)
            self._page = max(1, body - log_height)
            table = self._table(width, self._page)
            log = self._log_lines(width, body - len(table))
        screen = [[Span(self.host)], self._heads(width), *table, *log]
        screen += [[] for _ in range(height - 1 - len(screen))]
        screen = [*screen[: height - 1], [Span(self.message or hint_of(self), "" if self.message else "dim")]]
        return [clip_line(line, width) for line in screen]

    def _cells(self, width: int, texts: Sequence[str], columns: Sequence[Column]) -> str:
        """A name gets what it needs, as far as the other columns leave it."""
        spare = max(0, width - sum(column.width + 1 for column in columns))
        longest = max((cells(_shown_name(worker)) for worker in self.rows), default=0)
        widths = {"name": min(max(12, longest), 12 + spare)}
        return " ".join(
            fit(text, widths.get(column.key, column.width), left=column.key in _LEFT)
            for text, column in zip(texts, columns)
        )

    def _heads(self, width: int) -> Line:
        columns = columns_within(width)
        return [Span(fit(self._cells(width, [column.title for column in columns], columns), width), "head")]

    def _table(self, width: int, height: int) -> list[Line]:
        rows, columns = self.rows, columns_within(width)
        place = next((number for number, worker in enumerate(rows) if worker["id"] == self.selected), 0)
        self._first_row = max(min(self._first_row, place, max(0, len(rows) - height)), place - height + 1)
        lines: list[Line] = []
        for worker in rows[self._first_row : self._first_row + height]:
            text = self._cells(width, [column.show(self, worker) for column in columns], columns)
            is_selected = worker["id"] == self.selected
            lines.append([Span(fit(text, width), "selected") if is_selected else Span(text, style_of(worker))])
        return lines

    def _log_lines(self, width: int, height: int) -> list[Line]:
        worker = self.current
        if height < 1:
            return []
        if worker is None:
            why = f"no name contains '{self.filter}'" if self.filter else "no workers"
            return [[Span(why, "dim")]]
        title = f"{self._rule * 2} log of {worker['name']} {worker['slot']} "
        trouble = f"{worker['failure']} " if worker["failure"] and worker["wanted"] else ""
        rest = max(0, width - cells(title) - cells(trouble))
        head = [Span(title, "dim"), Span(trouble, "bad"), Span(self._rule * rest, "dim")]
        return [head, *([span] for span in list(self.log)[len(self.log) - min(len(self.log), height - 1) :])]


def connections_of(board: Dashboard, worker: Mapping[str, Any], field: str) -> str:
    value = getattr(board.connections.get(worker["id"]), field, None)
    return "-" if value is None else str(value)


def _count(field: str) -> Callable[[Dashboard, Mapping[str, Any]], int]:
    def order(board: Dashboard, worker: Mapping[str, Any]) -> int:
        return -int(getattr(board.connections.get(worker["id"]), field, None) or 0)

    return order


def _shown_name(worker: Mapping[str, Any]) -> str:
    return f"{worker['name']} {worker['slot']}"


_LEFT = ("name", "mode", "state", "cpu graph", "mem graph")
COLUMNS = (
    Column("id", "id", 3, 0, lambda _, worker: str(worker["id"]), lambda _, worker: worker["id"]),
    Column("name", "name", 12, 0, lambda _, worker: _shown_name(worker), lambda _, worker: worker["name"]),
    Column("mode", "mode", 7, 13, lambda _, worker: worker["mode"]),
    Column("pid", "pid", 7, 10, lambda _, worker: str(worker["pid"] or "-")),
    Column("state", "status", 15, 2, lambda _, worker: shown_state(worker), lambda _, worker: shown_state(worker)),
    Column("cpu", "cpu", 5, 3, lambda _, worker: f"{worker['cpu_percent']:.0f}%", lambda _, worker: -worker["cpu_percent"]),
    Column("cpu graph", "", 8, 11, lambda board, worker: board.history.graph(worker, "cpu_percent", 100.0)),
    Column("mem", "mem", 7, 4, lambda _, worker: short_size(worker["memory_bytes"]),
           lambda _, worker: -worker["memory_bytes"]),
    Column("mem graph", "", 8, 12, lambda board, worker: board.history.graph(worker, "memory_bytes", 1.0)),
    Column("restarts", "↺", 4, 5, lambda _, worker: str(worker["restarts"]), lambda _, worker: -worker["restarts"]),
    Column("uptime", "up", 4, 6, lambda _, worker: duration(worker["uptime_seconds"]) if worker["pid"] else "-",
           lambda _, worker: -worker["uptime_seconds"]),
    Column("accepted", "accepted", 9, 9, lambda board, worker: connections_of(board, worker, "accepted"), _count("accepted")),
    Column("conns", "conns", 6, 8, lambda board, worker: connections_of(board, worker, "open"), _count("open")),
    Column("queue", "queue", 5, 7, lambda board, worker: connections_of(board, worker, "queue"), _count("queue")),
)  # fmt: skip


def hint_of(board: Dashboard) -> str:
    chosen = f"  sort: {board.sort}" + (f"  filter: {board.filter}" if board.filter else "")
    return f"? help  l reload  r restart  s stop  t start  +- scale  / filter  o sort  q quit{chosen}"


def columns_within(width: int) -> list[Column]:
    chosen = list(COLUMNS)
    while len(chosen) > 2 and sum(column.width + 1 for column in chosen) > width:
        chosen.remove(max(chosen, key=lambda column: column.rank))
    return chosen


def style_of(worker: Mapping[str, Any]) -> str:
    state = shown_state(worker)
    if state == "online":
        return "warn" if worker["failure"] else "good"
    if state in ("errored", "crash-looping", "waiting restart"):
        return "bad"
    return "dim" if state == "stopped" else "warn"
