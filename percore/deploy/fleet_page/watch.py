"""Looks at every host again and again, over a connection that stays open; one that is lost is opened again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from percore.deploy.connection.figures import Figures
from percore.deploy.rollout.host import Host, lock_owner
from percore.deploy.rollout.parallel import try_one
from percore.web.dashboard.log_lines import MOST_LINES, LogQuery, LogReply, clean_lines
from percore.web.dashboard.orders import PageOrder
from percore.web.dashboard.sample import AppFigures, HostSample, MachineFigures, WorkerFigures, read_status

EVERY_SECONDS = 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 60.0
"""Before a host that was lost is tried again; twice as long each time."""

Take = Callable[[str, HostSample, float], None]


def look(host: Host) -> HostSample:
    """Raises PercoreError."""
    if host.remote is None:
        host.connect()
    said: Figures = host.ask("figures")
    facts = host.agent.facts
    machine = MachineFigures(facts["cores"], said["load"], facts["memory_bytes"], said["memory_used_bytes"])
    if not said["daemon"]:
        return HostSample([], machine, "no supervisor runs", f"invoke start --limit {host.name}")
    connections = {int(id): SimpleNamespace(**counts) for id, counts in said["connections"].items()}
    return read_status(said["status"], connections, machine)


def try_to_look(host: Host) -> HostSample:
    found = try_one(host, look)
    if isinstance(found, HostSample):
        return found
    return HostSample([], problem=found.what, next=found.next)


class FleetWatch:
    """One thread for each host, so that a slow one delays no other. Few of them connect at once (`forks`)."""

    def __init__(self, hosts: Sequence[Host], *, every: float = EVERY_SECONDS) -> None:
        self._hosts = {host.name: host for host in hosts}
        self.take: Take = lambda *_: None
        self.every = every
        self._connecting = threading.Semaphore(hosts[0].forks if hosts else 1)

    def start(self) -> None:
        for host in self._hosts.values():
            threading.Thread(target=self._watch, args=(host,), daemon=True, name=host.name).start()

    def _watch(self, host: Host) -> None:
        pause = _FIRST_PAUSE
        while True:
            sample = self.look_once(host)
            if sample.problem and host.remote is None:
                time.sleep(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
            else:
                pause = _FIRST_PAUSE
                time.sleep(self.every - time.time() % self.every)

    def look_once(self, host: Host) -> HostSample:
        if host.remote is None:
            with self._connecting:
                sample = try_to_look(host)
        else:
            sample = try_to_look(host)
        if sample.problem and not sample.machine.cores and host.remote is not None:
            host.remote.close()
            host.remote = None
        self.take(host.name, sample, time.time())
        return sample

    # -- what the page asks for --------------------------------------------------------------------------------------

    def read_log(self, host: str, app: AppFigures, worker: WorkerFigures, query: LogQuery) -> LogReply:
        """`percore logs` on the host; a search sees the last lines of each log, as many as may be asked for."""
        lines: list[tuple[str, bytes]] = []
        count = MOST_LINES if query.search else query.lines
        words = [app.name, "--lines", str(count), "--nostream", "--json"]
        if query.stream != "all":
            words.append(f"--{query.stream}")

        def take(event: Mapping[str, Any]) -> None:
            if event["event"] == "line" and (found := _line_of(event["text"], worker.id)):
                lines.append(found)

        one = self._hosts[host]
        one.agent.ask("stream", target=one.target(), words=words, on_event=take)
        chosen = [line for line in lines if query.is_in(line[1])]
        return LogReply(clean_lines(chosen[-query.lines :]))

    def carry_out(self, order: PageOrder) -> str:
        """Over a connection of its own: the lock of the host is held as long as that is open."""
        host = self._hosts[order.host]
        remote = host.new_connection()
        try:
            more: dict[str, Any] = {"count": order.workers} if order.workers else {}
            message = {"verb": order.verb, "app": order.app, "owner": lock_owner(), **more}
            remote.ask("control", target=host.target(), **message)
        finally:
            remote.close()
        return f"scaled to {order.workers} workers, until the next deploy" if order.workers else ""


def _line_of(text: str, id: int) -> tuple[str, bytes] | None:
    """A line of this worker: its stream and its text."""
    try:
        said = json.loads(text)
        if said.get("process_id", id) != id:
            return None
        return ("err" if said.get("type") == "err" else "out"), str(said["message"]).encode()
    except (ValueError, AttributeError, KeyError):
        return None
