"""The threads beside the server: a round every few seconds, and the ear for workers that are about to end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from typing import Any

from percore.errors import PercoreError
from percore.supervisor.base.home import Home
from percore.supervisor.client import request
from percore.web.app_metrics.collect import AppMetrics
from percore.web.snapshot import Snapshots, ask_supervisor

_AGAIN_SECONDS = 1.0
_OLD_SUPERVISOR_SECONDS = 30.0


def start(home: Home, snapshots: Snapshots, metrics: AppMetrics, seconds: float) -> None:
    """`seconds` between two rounds; 0: only when somebody reads."""

    def listen() -> None:
        while True:
            time.sleep(_listen(home, metrics) if metrics.configured(snapshots.get()) else _AGAIN_SECONDS)

    def go_round() -> None:
        for _ in metrics.every(seconds):
            pass

    for work in (listen, *([go_round] if seconds else [])):
        threading.Thread(target=work, daemon=True).start()


def _listen(home: Home, metrics: AppMetrics) -> float:
    """Returns how long to wait until it is asked again."""
    try:
        for message in request(home, "farewells"):
            if message["event"] == "farewell":
                threading.Thread(target=_answer, args=(home, metrics, message), daemon=True).start()
            elif not message["ok"]:
                return _OLD_SUPERVISOR_SECONDS  # it does not know what is asked
    except PercoreError:
        return _AGAIN_SECONDS
    return 0.0


def _answer(home: Home, metrics: AppMetrics, message: Mapping[str, Any]) -> None:
    try:
        metrics.ask_again(message["app"], message["slot"], message["pid"])
    finally:
        with contextlib.suppress(PercoreError):
            ask_supervisor(home, "farewell", pid=message["pid"])
