"""Asks a host over and over, at a low rate, while a rollout goes through it: how many requests failed, how slow were they?

Each agent probes another host of the fleet, so that the way there is the way of a client; where that cannot be reached, its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Optional

from percore.host.messages import ProbeTarget
from percore.host.release.health import try_once

PER_SECOND = 10.0
TOO_MANY = 429
_KEPT = 20_000
"""Samples of each phase: the percentiles of a long rollout are those of its last half hour."""


class Phase:
    """Samples before the switch, or since it began. Times in seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.asked = 0
        self.failed = 0
        self.faults: list[str] = []

    def add(self, fault: Optional[str], seconds: float) -> None:
        self.asked += 1
        if fault is None:
            self.seconds.append(seconds)
            if len(self.seconds) > 2 * _KEPT:
                del self.seconds[:_KEPT]
        else:
            self.failed += 1
            self.faults = [*self.faults[-4:], fault]

    def summary(self) -> dict[str, Any]:
        return {
            "asked": self.asked,
            "failed": self.failed,
            "faults": self.faults,
            "p50": percentile(self.seconds, 50),
            "p99": percentile(self.seconds, 99),
        }


class Prober:
    """`start` looks for the first of the targets that answers, and keeps to it; `mark` begins the phase that counts."""

    def __init__(self, targets: Sequence[ProbeTarget]) -> None:
        self._targets = list(targets)
        self._target: Optional[ProbeTarget] = None
        self._before = Phase()
        self._during: Optional[Phase] = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def mark(self) -> None:
        self._during = self._during or Phase()

    def stop(self) -> None:
        self._stop.set()

    def summary(self) -> dict[str, Any]:
        """`target` is None where nothing ever answered: then there is nothing to judge."""
        during = self._during or Phase()
        return {
            "target": self._target.name if self._target else None,
            "before": self._before.summary(),
            "during": during.summary(),
        }

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            if self._target is None:
                self._target = next((target for target in self._targets if _ask(target) is None), None)
            else:
                fault = _ask(self._target)
                (self._during or self._before).add(fault, time.monotonic() - began)
            self._stop.wait(max(0.0, 1 / PER_SECOND - (time.monotonic() - began)))


def _ask(target: ProbeTarget) -> Optional[str]:
    """Without a health path any page will do, and any answer that does not blame the server.

    That NGINX is told to keep visitors away, or that we ask too often for its limits, is no fault of the release.
    """
    answer = try_once(target.address, target.port, path=target.path or "/", host=target.site, tls=target.tls)
    if answer.is_maintenance or answer.status == TOO_MANY:
        return None
    return None if target.path is None and 200 <= answer.status < 500 else answer.fault


def percentile(values: Sequence[float], percent: float) -> Optional[float]:
    """The smallest value that so many percent do not exceed; None of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else None
