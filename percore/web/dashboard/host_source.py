"""The dashboard of this host: samples from the supervisor beside us, logs from its files, orders over its control socket."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping

import psutil

from percore.common.app_names import selector_of
from percore.common.connections import Connections, count_connections
from percore.common.cpus import usable_cores
from percore.errors import PercoreError, UsageError
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.supervisor.client import user_of
from percore.web.dashboard.board import PageBoard
from percore.web.dashboard.log_lines import LogQuery, LogReply
from percore.web.dashboard.log_tail import tail
from percore.web.dashboard.orders import PageOrder
from percore.web.dashboard.sample import AppFigures, HostSample, MachineFigures, WorkerFigures, read_status
from percore.web.snapshot import Snapshot, Snapshots, ask_supervisor

EVERY_SECONDS = 2.0
# Counting the connections of a busy host costs time: it is limited to this share of one core.
_COUNTING_SHARE = 0.03


def start_board(home: Home, snapshots: Snapshots) -> PageBoard:
    """It looks at the supervisor from now on, in a thread of its own."""
    source = HostSource(home, snapshots)
    board = PageBoard(os.uname().nodename, source, every=EVERY_SECONDS)
    threading.Thread(target=_sample_for_ever, args=(board, source), daemon=True).start()
    return board


def _sample_for_ever(board: PageBoard, source: HostSource) -> None:
    name = os.uname().nodename
    while True:
        try:
            board.take(name, source.look(), time.time())
        except Exception as error:  # the page says since when nothing new came
            log(f"percore web: a sample failed: {type(error).__name__}: {error}"[:400])
        time.sleep(EVERY_SECONDS - time.time() % EVERY_SECONDS)  # one look in each step of the history


class HostSource:
    def __init__(self, home: Home, snapshots: Snapshots) -> None:
        self._home = home
        self._snapshots = snapshots
        self._connections: Mapping[int, Connections] = {}
        self._count_at = 0.0

    def look(self) -> HostSample:
        found = self._snapshots.get()
        if found.error:
            return HostSample([], read_machine(), found.error, self._next_step())
        self._count(found)
        status = {"apps": list(found.apps.values())}
        return read_status(status, self._connections, read_machine())

    def _next_step(self) -> str:
        return "percore ping" if os.path.exists(self._home.state) else "percore start FILE"

    def _count(self, found: Snapshot) -> None:
        if time.monotonic() < self._count_at:
            return
        used_before = time.thread_time()
        self._connections = count_connections(found.workers)
        self._count_at = time.monotonic() + (time.thread_time() - used_before) / _COUNTING_SHARE

    def read_log(self, host: str, app: AppFigures, worker: WorkerFigures, query: LogQuery) -> LogReply:
        described = next((one for one in self._snapshots.get().workers if one["id"] == worker.id), None)
        if described is None:
            raise UsageError(f"'{app.name}' has no worker {worker.slot} any more")
        return tail(described, user_of(described), query)

    def carry_out(self, order: PageOrder) -> str:
        apps = list(self._snapshots.get().apps.values())
        app = next((one for one in apps if one["name"] == order.app), None)
        if app is None:
            raise PercoreError(f"no app is called '{order.app}' any more")
        selector = selector_of(app, apps)
        if order.verb == "scale":
            ask_supervisor(self._home, "scale", name=selector, count=order.workers)
            return f"scaled to {order.workers} workers"
        ask_supervisor(self._home, order.verb, selectors=[selector])
        return ""


def read_machine() -> MachineFigures:
    memory = psutil.virtual_memory()
    used = memory.total - memory.available
    return MachineFigures(usable_cores(), round(os.getloadavg()[0], 2), memory.total, used)
