"""What `invoke top` shows: the workers of all hosts, and the lines of one screen. Pure; `top` draws it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from percore.common.printable import printable
from percore.deploy.connection.messages import AppStatus, WorkerStatus
from percore.deploy.fleet.watch import AWAY, CONNECTING, UP, HostView
from percore.supervisor.commands.output import duration, short_size
from percore.supervisor.commands.screen import Line, Span, cells, clip_line, fit

_LOG_LINES = 2000
_STYLES = {"running": "good", "backoff": "bad", "fatal": "bad", "stopped": "dim", "exited": "dim"}

HELP = (
    "up down j k    select a worker (PageUp, PageDown, Home, End)",
    "Enter          follow its log; q or Esc comes back",
    "l              reload its app on this host, without losing a request",
    "r              restart its app on this host",
    "+  -           add a worker of its app on this host, remove one",
    "/              show only hosts, apps and states that contain a text; Esc shows all",
    "o  O           sort by the next column, by the one before",
    "q              quit",
)


class Row(NamedTuple):
    """A worker; or a host of which there is none to show."""

    host: str
    app: AppStatus | None
    worker: WorkerStatus | None
    note: str = ""
    style: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        return self.host, self.app["name"] if self.app else "", self.worker["slot"] if self.worker else -1

    @property
    def name(self) -> str:
        return printable(f"{self.app['name']} {self.worker['slot']}") if self.app and self.worker else ""

    @property
    def state(self) -> str:
        return printable(self.worker["state"]) if self.worker else self.note

    def number(self, field: str) -> float:
        return float(self.worker[field]) if self.worker else 0.0  # type: ignore[literal-required]


class TopColumn(NamedTuple):
    title: str
    width: int
    rank: int  # on a narrow terminal the highest go first
    show: Callable[[Row], str]
    order: Callable[[Row], Any] | None = None
    is_left: bool = False


class Placed(NamedTuple):
    """A column with the width that it has on this screen."""

    column: TopColumn
    width: int

    def fit(self, text: str) -> str:
        return fit(text, self.width, left=self.column.is_left)


COLUMNS = (
    TopColumn("host", 12, 0, lambda row: printable(row.host), lambda row: (), is_left=True),
    TopColumn("worker", 14, 0, lambda row: row.name, lambda row: (row.app["name"] if row.app else "",), is_left=True),
    TopColumn("status", 10, 1, lambda row: row.state, lambda row: (row.state == "running", row.state), is_left=True),
    TopColumn("cpu", 5, 2, lambda row: f"{row.number('cpu_percent'):.0f}%", lambda row: -row.number("cpu_percent")),
    TopColumn("mem", 7, 3, lambda row: short_size(row.number("memory_bytes")), lambda row: -row.number("memory_bytes")),
    TopColumn("restarts", 8, 4, lambda row: f"{row.number('restarts'):.0f}", lambda row: -row.number("restarts")),
    TopColumn("up", 4, 5, lambda row: duration(row.number("uptime_seconds")), lambda row: row.number("uptime_seconds")),
    TopColumn("pid", 7, 6, lambda row: str((row.worker and row.worker["pid"]) or "-")),
    TopColumn(
        "release", 23, 7, lambda row: printable(str((row.worker and row.worker["release"]) or "-")), is_left=True
    ),
)
SORTS = [column.title for column in COLUMNS if column.order]


class TopBoard:
    """`update` takes what was seen of the hosts, `lines` returns the screen."""

    def __init__(self, env: str, *, on_all: str = "", is_ascii: bool = False) -> None:
        """`on_all` is what to type to reload an app on all hosts."""
        self.env = env
        self._on_all = on_all
        self.is_ascii = is_ascii
        self.message = ""
        self.filter = ""
        self.sort = "host"
        self.shows_help = False
        self.log: deque[Span] | None = None  # of the selected worker, while it is shown
        self.rows: list[Row] = []
        self._views: Sequence[HostView] = ()
        self._selected: tuple[str, str, int] | None = None
        self._first_row = 0
        self._page = 10

    def update(self, views: Sequence[HostView]) -> None:
        self._views = views
        self._sort_rows()

    # -- selection ---------------------------------------------------------------------------------------------------

    @property
    def current(self) -> Row | None:
        return next((row for row in self.rows if row.key == self._selected), None)

    def move(self, step: int) -> None:
        if self.rows:
            place = next((number for number, row in enumerate(self.rows) if row.key == self._selected), 0)
            self._selected = self.rows[max(0, min(len(self.rows) - 1, place + step))].key

    def move_page(self, direction: int) -> None:
        self.move(direction * self._page)

    def sort_by(self, step: int) -> None:
        self.sort = SORTS[(SORTS.index(self.sort) + step) % len(SORTS)]
        self._sort_rows()

    def set_filter(self, text: str) -> None:
        self.filter = text
        self._sort_rows()

    def show_log(self) -> deque[Span]:
        self.log = deque(maxlen=_LOG_LINES)
        return self.log

    def _sort_rows(self) -> None:
        rows = [row for view in self._views for row in rows_of(view) if self._is_wanted(row)]
        order = next(column.order for column in COLUMNS if column.title == self.sort)
        assert order
        self.rows = sorted(rows, key=lambda row: (not row.worker and self.sort != "host", order(row)))
        if self.current is None:
            self._selected = self.rows[0].key if self.rows else None

    def _is_wanted(self, row: Row) -> bool:
        return self.filter in f"{row.host} {row.name} {row.state}"

    # -- the screen --------------------------------------------------------------------------------------------------

    def lines(self, width: int, height: int) -> list[Line]:
        """Exactly `height` lines of at most `width` cells."""
        if height < 1 or width < 1:
            return []
        self._page = max(1, height - 3)
        if self.shows_help:
            body = [[Span(f"  {text}")] for text in (*HELP, "", f"On all hosts, batch by batch: {self._on_all}")]
        elif self.log is not None:
            body = [[span] for span in list(self.log)[-self._page :]]
        else:
            body = self._table(width)
        head = log_head(self.current, width) if self.log is not None else self._heads(width)
        screen = [[Span(summary_of(self.env, self._views))], head, *body[: self._page]]
        screen += [[] for _ in range(height - 1 - len(screen))]
        screen = [*screen[: height - 1], [Span(self.message or hint_of(self), "" if self.message else "dim")]]
        return [clip_line(line, width) for line in screen]

    def _heads(self, width: int) -> Line:
        return [Span(fit(" ".join(each.fit(each.column.title) for each in self._placed(width)), width), "head")]

    def _placed(self, width: int) -> list[Placed]:
        """Hosts and workers get what they need, as far as the other columns leave it."""
        columns = _within(width)
        spare = max(0, width - sum(column.width + 1 for column in columns))
        placed = []
        for column in columns:
            longest = max((cells(column.show(row)) for row in self.rows), default=0) if column in COLUMNS[:2] else 0
            more = min(spare, max(0, longest - column.width))
            spare -= more
            placed.append(Placed(column, column.width + more))
        return placed

    def _table(self, width: int) -> list[Line]:
        if not self.rows:
            return [[Span(f"nothing contains '{self.filter}'" if self.filter else "no hosts", "dim")]]
        place = next((number for number, row in enumerate(self.rows) if row.key == self._selected), 0)
        self._first_row = max(min(self._first_row, place, max(0, len(self.rows) - self._page)), place - self._page + 1)
        shown, placed = self.rows[self._first_row : self._first_row + self._page], self._placed(width)
        return [[self._span(row, placed, width)] for row in shown]

    def _span(self, row: Row, placed: Sequence[Placed], width: int) -> Span:
        first, *others = placed
        parts = [each.fit(each.column.show(row)) for each in others] if row.worker else [row.note]
        text = " ".join([first.fit(first.column.show(row)), *parts])
        return Span(fit(text, width), "selected") if row.key == self._selected else Span(text, row.style)


def rows_of(view: HostView) -> list[Row]:
    if view.state != UP:
        note = printable(f"{view.state}: {view.reason}" if view.reason else view.state)
        return [Row(view.name, None, None, note, "bad" if view.state == AWAY else "dim")]
    rows = [Row(view.name, app, worker, "", _style_of(worker)) for app in view.apps for worker in app["workers"]]
    return rows or [Row(view.name, None, None, "nothing runs", "dim")]


def _style_of(worker: WorkerStatus) -> str:
    style = _STYLES.get(worker["state"], "warn")
    return "warn" if style == "good" and worker.get("failure") else style


def _within(width: int) -> list[TopColumn]:
    chosen = list(COLUMNS)
    while len(chosen) > 2 and sum(column.width + 1 for column in chosen) > width:
        chosen.remove(max(chosen, key=lambda column: column.rank))
    return chosen


def log_head(row: Row | None, width: int) -> Line:
    return [Span(fit(f"log of {row.name} on {printable(row.host)}" if row else "log", width), "head")]


def summary_of(env: str, views: Sequence[HostView]) -> str:
    states = Counter(view.state for view in views)
    workers = [worker for view in views for app in view.apps for worker in app["workers"]]
    down = sum(worker["state"] in ("fatal", "backoff") for worker in workers)
    memory = sum(worker["memory_bytes"] for worker in workers)
    cores = sum(worker["cpu_percent"] for worker in workers) / 100
    gone = "".join(f", {states[state]} {state}" for state in (AWAY, CONNECTING) if states[state])
    failing = f", {down} failing" if down else ""
    count = f"{states[UP]} of {len(views)} hosts{gone}"
    return f"{env}: {count}; {len(workers)} workers{failing}; cpu {cores:.1f} cores, mem {short_size(memory)}"


def hint_of(board: TopBoard) -> str:
    if board.log is not None:
        return "q back"
    chosen = f"  sort: {board.sort}" + (f"  filter: {board.filter}" if board.filter else "")
    return f"? help  Enter log  l reload  r restart  +- scale  / filter  o sort  q quit{chosen}"
