"""What a page that is always open asks for every few seconds."""

from __future__ import annotations

import os

from percore.common.connections import count_connections
from percore.host import facts, replies
from percore.host import messages as m
from percore.host.release.target import Target
from percore.host.session import Session


def figures(session: Session, request: m.FiguresRequest, target: Target) -> replies.FiguresReply:
    """What runs, and the connections of its workers; no process is started for it."""
    found = target.status()
    workers = [worker for app in found["apps"] for worker in app["workers"] if "id" in worker]
    counted = count_connections(workers, {target.supervisor.uid()})
    connections = {str(id): replies.CountedConnections(*counts) for id, counts in counted.items()}
    used = facts.memory_bytes() - (facts.free_memory() or 0)
    load = round(os.getloadavg()[0], 2)
    return replies.FiguresReply(found, bool(found.get("daemon", True)), connections, load, max(0, used))
