"""The threads beside the server: a round every few seconds, and the ear for workers that are about to end."""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Mapping
from typing import Any

from percore.errors import PercoreError
from percore.supervisor.base.home import Home
from percore.supervisor.client import OpenLink
from percore.web.app_metrics.collect import AppMetrics
from percore.web.snapshot import ask_supervisor

_AGAIN_SECONDS = 1.0
_OLD_SUPERVISOR_SECONDS = 30.0
_BEGIN_SECONDS = 2.0


def start(home: Home, metrics: AppMetrics, seconds: float) -> None:
    """`seconds` between two rounds; 0: only when somebody reads. Returns when it listens, where a supervisor runs."""
    began = threading.Event()

    def listen() -> None:
        while True:
            wait = _listen(home, metrics, began)
            began.set()
            time.sleep(wait)

    threading.Thread(target=listen, daemon=True).start()
    if seconds:
        threading.Thread(target=metrics.keep_asking, args=(seconds,), daemon=True).start()
    began.wait(_BEGIN_SECONDS)


def _listen(home: Home, metrics: AppMetrics, began: threading.Event) -> float:
    """Until the supervisor ends, or wants to be asked again; returns how long to wait until then."""
    link = OpenLink(home)
    if not link.open():
        return _AGAIN_SECONDS
    with contextlib.closing(link):
        link.send("farewells")
        began.set()
        while link.is_open:
            select.select([link], [], [])
            for message in link.read():
                if message["event"] == "farewell":
                    threading.Thread(target=_answer, args=(home, metrics, message), daemon=True).start()
                else:  # a supervisor of an earlier version does not know what is asked
                    return 0.0 if message["ok"] else _OLD_SUPERVISOR_SECONDS
    return _AGAIN_SECONDS


def _answer(home: Home, metrics: AppMetrics, message: Mapping[str, Any]) -> None:
    try:
        metrics.ask_again(message["app"], message["slot"], message["pid"], message["until"])
    finally:
        with contextlib.suppress(PercoreError):
            ask_supervisor(home, "farewell", pid=message["pid"])
