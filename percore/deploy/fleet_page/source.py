"""What the page sees of a host, and what it may ask of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from percore.deploy.connection.care_messages import Figures
from percore.deploy.fleet.logs import read_line
from percore.deploy.fleet.watch import UP, HostView
from percore.deploy.rollout.host import Host, lock_owner
from percore.deploy.rollout.parallel import try_one
from percore.errors import PercoreError
from percore.web.dashboard.log_lines import MOST_LINES, LogQuery, LogReply, clean_lines
from percore.web.dashboard.orders import PageOrder
from percore.web.dashboard.sample import AppFigures, HostSample, MachineFigures, WorkerFigures, read_status

EVERY_SECONDS = 2.0


def look(host: Host) -> HostSample:
    """Raises PercoreError."""
    said: Figures = host.ask("figures")
    facts = host.agent.facts
    machine = MachineFigures(facts["cores"], said["load"], facts["memory_bytes"], said["memory_used_bytes"])
    if not said["daemon"]:
        return HostSample([], machine, "no supervisor runs", host.scope.command("start", f"--limit {host.name}"))
    connections = {int(id): SimpleNamespace(**counts) for id, counts in said["connections"].items()}
    return read_status(said["status"], connections, machine)


def try_to_look(host: Host) -> HostSample:
    """Connects where that is still to be done; why nothing is seen is in the sample."""

    def work(host: Host) -> HostSample:
        if host.remote is None:
            host.connect()
        return look(host)

    found = try_one(host, work)
    return found if isinstance(found, HostSample) else HostSample([], problem=found.what, next=found.next)


def sample_of(view: HostView) -> HostSample:
    if view.state == UP:
        found: HostSample = view.found
        return found
    return HostSample([], problem=view.reason or "there is no connection")


class FleetSource:
    """Logs and orders of the page."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = {host.name: host for host in hosts}

    def read_log(self, host: str, app: AppFigures, worker: WorkerFigures, query: LogQuery) -> LogReply:
        """Where several workers write one log, its lines are those of the first."""
        try:
            lines = self._ask_lines(host, app.name, worker.id, query)
        except PercoreError:
            if not query.search:
                raise
            every = query._replace(search="", lines=MOST_LINES)  # an older percore there cannot search
            lines = [line for line in self._ask_lines(host, app.name, worker.id, every) if query.is_in(line[1])]
        return LogReply(clean_lines(lines[-query.lines :]))

    def _ask_lines(self, host: str, app: str, id: int, query: LogQuery) -> list[tuple[str, bytes]]:
        lines: list[tuple[str, bytes]] = []
        words = [app, "--lines", str(query.lines), "--nostream", "--json"]
        words += [] if query.stream == "all" else [f"--{query.stream}"]
        words += ["--grep", f"(?i){re.escape(query.search)}"] if query.search else []

        def take(event: Mapping[str, Any]) -> None:
            fields = read_line(host, event["text"]).fields if event["event"] == "line" else {}
            if fields.get("process_id") == id:
                stream = "err" if fields.get("type") == "err" else "out"
                lines.append((stream, fields["message"].encode(errors="replace")))

        one = self._hosts[host]
        one.agent.ask("stream", target=one.target(), words=words, on_event=take)
        return lines

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
