"""The rounds in which workers are asked for their metrics, at most once a second for all readers, and what is known of them.

Each worker is asked once more when the supervisor says that it is about to end. Between two rounds a worker may crash; what
it counted since the last one is lost, so there is a round every few seconds also where nobody reads.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Optional

from prometheus_client.core import Metric

from percore.errors import PercoreError
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.web.app_metrics import store
from percore.web.app_metrics.ledger import Ledger
from percore.web.app_metrics.merge import merged
from percore.web.app_metrics.scrape import Scraped, ScrapeError, scrape
from percore.web.app_metrics.targets import MetricsTarget, Targets, targets_of
from percore.web.snapshot import Snapshot, Snapshots

_THREADS = 8
_FRESH_SECONDS = 1.0
_SAVE_SECONDS = 10.0
_ABSENT_SECONDS = 600.0
FAREWELL_SECONDS = 0.4  # the supervisor waits a little longer


class ScrapeResult(NamedTuple):
    """Of one worker in the last round; `problem` is empty where it went well."""

    app: str
    slot: int
    problem: str


class AppMetrics:
    def __init__(self, home: Home, snapshots: Snapshots, *, saves: bool = True) -> None:
        """Raises PercoreError where what was saved cannot be read. Without `saves` nothing is written."""
        self._home = home
        self._snapshots = snapshots
        self._saves = saves
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="scrape")
        self._rounds = threading.Lock()
        self._lock = threading.Lock()  # of what is below
        self._ledgers: dict[str, Ledger] = store.load(home)
        self._workers: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # one answer of each at a time
        self._absent: dict[str, float] = {}
        self._done_at = self._saved_at = -_SAVE_SECONDS
        self.results: Sequence[ScrapeResult] = ()
        self.problems: Mapping[str, str] = {}  # by app: why its workers cannot be asked

    # -- what is known ---------------------------------------------------------------------------------------------

    def configured(self, snapshot: Snapshot) -> dict[str, Mapping[str, Any]]:
        """The apps that have metrics, each with one of its workers as `describe` shows it."""
        return {each["name"]: each for each in snapshot.workers if each["config"].get("app_metrics")}

    def families(self, app: str, *, per_worker: Optional[bool] = None) -> Optional[list[Metric]]:
        """None for an app without metrics. `per_worker`: another form than the process file wants."""
        worker = self.configured(self._snapshots.get()).get(app)
        if worker is None:
            return None
        form = bool(worker["config"].get("app_metrics_per_worker")) if per_worker is None else per_worker
        with self._lock:
            return merged(app, self._ledgers.get(app, Ledger()), per_worker=form)

    def dropped(self) -> dict[str, int]:
        with self._lock:
            return {name: ledger.dropped for name, ledger in self._ledgers.items()}

    # -- a round -----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """What is known is not older than a second, then."""
        with self._rounds:
            if time.monotonic() - self._done_at < _FRESH_SECONDS:
                return
            snapshot = self._snapshots.get()
            if not snapshot.error:
                self._round(snapshot)
            self._done_at = time.monotonic()

    def _round(self, snapshot: Snapshot) -> None:
        found = {name: targets_of(snapshot.apps[name], worker)
                 for name, worker in self.configured(snapshot).items() if name in snapshot.apps}  # fmt: skip
        asked = [(name, target) for name, targets in found.items() for target in targets.targets]
        self.results = tuple(self._pool.map(lambda pair: self._ask(*pair), asked))
        self.problems = {name: targets.problem for name, targets in found.items() if targets.problem}
        self._settle(found)
        self.save_if_due()

    def _ask(self, app: str, target: MetricsTarget) -> ScrapeResult:
        try:
            self._take(app, target)
        except ScrapeError as error:
            with self._lock:
                self._ledger(app).miss(target.worker)
            return ScrapeResult(app, target.slot, str(error))
        return ScrapeResult(app, target.slot, "")

    def _take(self, app: str, target: MetricsTarget, *, seconds: float = 4.0, is_certain: bool = False) -> None:
        """Raises ScrapeError."""
        worker = target.worker
        with self._workers[worker]:
            scraped = scrape(target, seconds)
            if scraped.holder or is_certain:
                self._note(app, worker, scraped)
                return
        self._confirm(app, scraped)
        self._note(app, worker, scraped)

    def _note(self, app: str, worker: str, scraped: Scraped) -> None:
        with self._lock:
            self._ledger(app).take(worker, scraped.target.slot, scraped.page, at=scraped.at, holder=scraped.holder)

    def _confirm(self, app: str, scraped: Scraped) -> None:
        """Whose processes we may not look at is believed to have answered if nothing came in its place until then."""
        target = scraped.target
        later = self._snapshots.get_after(time.monotonic())
        workers = later.apps.get(app, {}).get("workers", ())
        here = [each for each in workers if each["slot"] == target.slot and each["pid"]]
        if [each["pid"] for each in here] != [target.pid]:
            raise ScrapeError("it was replaced meanwhile: which worker answered is not known")

    def _ledger(self, app: str) -> Ledger:
        return self._ledgers.setdefault(app, Ledger())

    def _settle(self, found: Mapping[str, Targets]) -> None:
        now = time.monotonic()
        with self._lock:
            for app, targets in found.items():
                self._ledger(app).settle(targets.living, now)
            for name in list(self._ledgers):
                absent_at = self._absent.setdefault(name, now) if name not in found else self._absent.pop(name, now)
                if now - absent_at > _ABSENT_SECONDS:
                    del self._ledgers[name], self._absent[name]
            known = {worker for ledger in self._ledgers.values() for worker in ledger.entries}
            for worker in self._workers.keys() - known:
                if not self._workers[worker].locked():
                    del self._workers[worker]

    # -- what must outlive this process ---------------------------------------------------------------------------------

    def save_if_due(self) -> None:
        now = time.monotonic()
        with self._lock:
            is_due = (
                any(ledger.has_changed for ledger in self._ledgers.values()) or now - self._saved_at > _SAVE_SECONDS
            )
        if is_due:
            self.save()

    def save(self) -> None:
        if not self._saves:
            return
        with self._lock:
            self._saved_at = time.monotonic()
            if not self._ledgers:
                return
            for ledger in self._ledgers.values():
                ledger.has_changed = False
            try:
                store.save(self._home, self._ledgers)
            except PercoreError as error:
                log(f"percore web: {error}")

    # -- a worker that is about to end ----------------------------------------------------------------------------------

    def ask_again(self, app: str, slot: int, pid: int) -> None:
        """What it counted since the last round; a failure costs just that."""
        snapshot = self._snapshots.last
        worker = self.configured(snapshot).get(app)
        if worker is None or app not in snapshot.apps:
            return
        leaving = {"slot": slot, "pid": pid, "state": "running", "role": "outgoing", "port": snapshot.apps[app]["port"]}
        with contextlib.suppress(ScrapeError):
            for target in targets_of({**snapshot.apps[app], "workers": [leaving]}, worker).targets:
                self._take(app, target, seconds=FAREWELL_SECONDS, is_certain=True)

    def every(self, seconds: float) -> Iterator[None]:
        """One round after the other, for the thread that calls it."""
        while True:
            try:
                if self.configured(self._snapshots.get()):
                    self.refresh()
            except Exception as error:  # the next round is another try
                log(f"percore web: a round of app metrics failed: {type(error).__name__}: {error}"[:400])
            time.sleep(seconds)
            yield
