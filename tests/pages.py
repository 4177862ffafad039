"""A dashboard that shows what a test says, served as `percore web` serves its own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence

from waitress import wasyncore

from percore.web.auth import Access
from percore.web.dashboard.board import PageBoard
from percore.web.dashboard.log_lines import LogQuery, LogReply, clean_lines
from percore.web.dashboard.orders import PageOrder
from percore.web.dashboard.sample import AppFigures, HostSample, MachineFigures, WorkerFigures
from percore.web.http import HttpRoute
from percore.web.server import WebSite, make_server

MACHINE = MachineFigures(cores=8, load=1.5, memory_bytes=32 << 30, memory_used_bytes=9 << 30)
LOG = [("out", b"GET /cart 200 in 12 ms"), ("err", b"<b>cache</b> is \x1b[31mcold"), ("out", b"GET /pay 200 in 31 ms")]


class FakeSource:
    """Notes the orders; its log is always the same."""

    def __init__(self) -> None:
        self.orders: list[PageOrder] = []

    def read_log(self, host: str, app: AppFigures, worker: WorkerFigures, query: LogQuery) -> LogReply:
        lines = [line for line in LOG if query.is_in(line[1]) and query.stream in ("all", line[0])]
        return LogReply(clean_lines(lines))

    def carry_out(self, order: PageOrder) -> str:
        self.orders.append(order)
        return ""


def make_worker(slot: int, *, cpu: float = 12.0, state: str = "running", failure: str = "") -> WorkerFigures:
    is_up = state == "running"
    return WorkerFigures(
        id=slot, slot=slot, pid=1000 + slot if is_up else 0, state=state, cpu=cpu if is_up else 0.0, memory=90 << 20,
        uptime=3700.0 + slot, restarts=0, failure=failure, is_up=is_up, open=3, queue=0, accepted=100 * (slot + 1),
    )  # fmt: skip


def make_app(
    name: str,
    workers: Sequence[WorkerFigures],
    *,
    counts: dict[str, int] | None = None,
    release: str = "20261129-ab12cd",
) -> AppFigures:
    return AppFigures(
        name, "cluster", release, ["0.0.0.0:3000"], len(workers), False, workers, counts or {"reloaded": 1}
    )


def usual_sample(step: int = 0) -> HostSample:
    shop = make_app("shop", [make_worker(slot, cpu=10 + (slot * 7 + step * 3) % 20) for slot in range(4)])
    mailer = make_app(
        "mailer", [make_worker(0, state="crash-looping", failure="exited with code 1")], counts={"crash": 3 + step}
    )
    return HostSample([shop, mailer, make_app("blog", [make_worker(0), make_worker(1)])], MACHINE)


def fill(board: PageBoard, host: str, samples: Sequence[HostSample]) -> None:
    """As if it had looked every two seconds until now."""
    now = time.time()
    for number, sample in enumerate(samples):
        board.take(host, sample, now - 2 * (len(samples) - 1 - number))


@contextlib.contextmanager
def serving(
    board: PageBoard, *, allows_actions: bool = True, access: Access | None = None, routes: Sequence[HttpRoute] = ()
) -> Iterator[str]:
    """Its address."""
    access = access or Access([], port=0, allows_actions=allows_actions)
    server = make_server(WebSite(routes or board.routes(), access), "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}/"
    finally:
        server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map))  # in its own thread
        thread.join(10)
        server.task_dispatcher.shutdown()
        assert not thread.is_alive()
