"""The ledgers of all apps, for several threads, and what of them is on disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from prometheus_client.core import Metric

from percore.errors import PercoreError
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.web.app_metrics import store
from percore.web.app_metrics.ledger import Ledger
from percore.web.app_metrics.merge import merged
from percore.web.app_metrics.scrape import Scraped
from percore.web.app_metrics.targets import Targets

_SAVING_SHARE = 0.05  # of the time
_ABSENT_SECONDS = 600.0  # then an app is forgotten: it was deleted, or has no metrics any more


class Ledgers:
    def __init__(self, home: Home, *, saves: bool) -> None:
        """Raises PercoreError where what was saved cannot be read."""
        self._home = home
        self._saves = saves
        self._lock = threading.Lock()
        self._by_app: dict[str, Ledger] = store.load(home)
        self._absent: dict[str, float] = {}  # since when, by app
        self._save_at = 0.0

    def merged(self, app: str, *, per_worker: bool) -> list[Metric]:
        with self._lock:
            return merged(app, self._of(app), per_worker=per_worker)

    def dropped(self) -> dict[str, int]:
        with self._lock:
            return {name: ledger.dropped for name, ledger in self._by_app.items()}

    def note(self, app: str, worker: str, scraped: Scraped) -> None:
        with self._lock:
            self._of(app).take(worker, scraped.target.slot, scraped.page, at=scraped.at, holder=scraped.holder)

    def miss(self, app: str, worker: str) -> None:
        with self._lock:
            self._of(app).miss(worker)

    def settle(self, found: Mapping[str, Targets]) -> set[str]:
        """After a round; returns the workers that are known now."""
        now = time.monotonic()
        with self._lock:
            for app, targets in found.items():
                self._of(app).settle(targets.living, now)
            self._forget(found, now)
            return {worker for ledger in self._by_app.values() for worker in ledger.entries}

    def _forget(self, found: Mapping[str, Targets], now: float) -> None:
        for name in list(self._by_app):
            if name in found:
                self._absent.pop(name, None)
            elif now - self._absent.setdefault(name, now) > _ABSENT_SECONDS:
                del self._by_app[name], self._absent[name]

    def _of(self, app: str) -> Ledger:
        return self._by_app.setdefault(app, Ledger())

    def save_if_due(self) -> None:
        """Before a reader is told: what it has seen must not be less later. Where that takes long, not each time; but at
        once where a worker is gone, which cannot be asked again."""
        has_changed = any(ledger.has_changed for ledger in list(self._by_app.values()))
        if has_changed or time.monotonic() >= self._save_at:
            began = time.monotonic()
            self.save()
            self._save_at = time.monotonic() + (time.monotonic() - began) / _SAVING_SHARE

    def save(self) -> None:
        if not self._saves:
            return
        with self._lock:
            for ledger in self._by_app.values():
                ledger.has_changed = False
            try:
                if self._by_app:
                    store.save(self._home, self._by_app)
            except PercoreError as error:
                log(f"percore web: {error}")
