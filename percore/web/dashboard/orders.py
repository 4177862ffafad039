"""What the page may have done: restart, reload, scale. One at a time for each app; the outcome is an event."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping

from percore.common.typing import Any, Callable, NamedTuple
from percore.errors import PercoreError, UsageError
from percore.web.dashboard.tracker import BAD, GOOD, NOTE

VERBS = ("reload", "restart", "scale")
_MOST_WORKERS = 1_024
_MOST_AT_ONCE = 8
_LONGEST_NAME = 300


class PageOrder(NamedTuple):
    host: str
    app: str
    verb: str
    workers: str = ""  # of workers, where it is `scale`


def read_order(given: Mapping[str, Any]) -> PageOrder:
    """Raises UsageError."""
    host, app, verb = (given.get(name) for name in ("host", "app", "verb"))
    if not all(isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME for name in (host, app)):
        raise UsageError("host and app should be names")
    if verb not in VERBS:
        raise UsageError(f"verb should be one of {', '.join(VERBS)}")
    if verb != "scale":
        return PageOrder(str(host), str(app), str(verb))
    count = str(given.get("workers", ""))
    if not re.fullmatch(r"[0-9]{1,4}", count) or not 1 <= int(count) <= _MOST_WORKERS:
        raise UsageError(f"workers should be a number of workers from 1 to {_MOST_WORKERS}")
    return PageOrder(str(host), str(app), str(verb), str(int(count)))


class Orders:
    def __init__(self, carry_out: Callable[[PageOrder], str], tell: Callable[[str, str, str, str], None]) -> None:
        """`carry_out` returns what there is to say of it, or raises PercoreError."""
        self._carry_out = carry_out
        self._tell = tell
        self._lock = threading.Lock()
        self._running: dict[tuple[str, str], tuple[PageOrder, float]] = {}

    def running(self) -> list[dict[str, Any]]:
        with self._lock:
            return [{**order._asdict(), "since": since} for order, since in self._running.values()]

    def begin(self, order: PageOrder) -> None:
        """Goes on by itself. Raises UsageError where another one is not done yet."""
        key = (order.host, order.app)
        with self._lock:
            if key in self._running:
                raise UsageError(f"'{self._running[key][0].verb}' of {order.app} is not done yet")
            if len(self._running) >= _MOST_AT_ONCE:
                raise UsageError(f"{len(self._running)} orders are not done yet", next="try again later")
            self._running[key] = order, time.time()
        said = f"{order.verb} {order.workers}".strip()
        self._tell(order.host, order.app, NOTE, f"{said}: asked for in the dashboard")
        threading.Thread(target=self._run, args=(order,), daemon=True).start()

    def _run(self, order: PageOrder) -> None:
        kind, text = BAD, f"{order.verb} failed"
        try:
            kind, text = GOOD, self._carry_out(order) or f"{order.verb}: done"
        except PercoreError as error:
            text = f"{order.verb} failed: {error.what}"
        finally:
            with self._lock:
                del self._running[order.host, order.app]
            self._tell(order.host, order.app, kind, text)
