"""The rounds in which workers are asked for their metrics, at most once a second for all readers.

Each worker is asked once more when the supervisor says that it is about to end. Between two rounds a worker may crash; what
it counted since the last one is lost, so there is a round every few seconds also where nobody reads.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Optional

from prometheus_client.core import Metric

from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.web.app_metrics.ledgers import Ledgers
from percore.web.app_metrics.scrape import SECONDS, Scraped, ScrapeError, scrape
from percore.web.app_metrics.targets import MetricsTarget, leaving_target, targets_of
from percore.web.snapshot import Snapshot, Snapshots

_THREADS = 8
_FRESH_SECONDS = 1.0
_LATEST_SECONDS = 0.1  # before a worker ends


class ScrapeResult(NamedTuple):
    """Of one worker in the last round; `problem` is empty where it went well."""

    app: str
    slot: int
    problem: str


class AppMetrics:
    def __init__(self, home: Home, snapshots: Snapshots, *, saves: bool = True) -> None:
        """Raises PercoreError where what was saved cannot be read. Without `saves` nothing is written."""
        self.ledgers = Ledgers(home, saves=saves)
        self.results: Sequence[ScrapeResult] = ()
        self.problems: Mapping[str, str] = {}  # by app: why its workers cannot be asked
        self._snapshots = snapshots
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="scrape")
        self._rounds = threading.Lock()
        self._done_at = -_FRESH_SECONDS
        self._answers: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # one of each worker at a time
        self._latest: set[str] = set()  # problems of the last round
        self._told: set[str] = set()  # those that were logged

    def configured(self, snapshot: Snapshot) -> dict[str, Mapping[str, Any]]:
        """The apps that have metrics, each with one of its workers as `describe` shows it."""
        return {each["name"]: each for each in snapshot.workers if each["config"].get("app_metrics")}

    def families(self, app: str, *, per_worker: Optional[bool] = None) -> Optional[list[Metric]]:
        """None for an app without metrics. `per_worker`: another form than the process file wants."""
        worker = self.configured(self._snapshots.get()).get(app)
        if worker is None:
            return None
        form = bool(worker["config"].get("app_metrics_per_worker")) if per_worker is None else per_worker
        return self.ledgers.merged(app, per_worker=form)

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
        configured = {name: each for name, each in self.configured(snapshot).items() if name in snapshot.apps}
        found = {name: targets_of(snapshot.apps[name], worker) for name, worker in configured.items()}
        asked = [(name, target) for name, targets in found.items() for target in targets.targets]
        self.results = tuple(self._pool.map(lambda pair: self._ask(*pair), asked))
        self.problems = {name: targets.problem for name, targets in found.items() if targets.problem}
        self._tell()
        known = self.ledgers.settle(found)
        for worker in self._answers.keys() - known:
            if not self._answers[worker].locked():
                del self._answers[worker]
        self.ledgers.save_if_due()

    def _tell(self) -> None:
        """Each problem once, until it is gone. A worker that is replaced while it is asked has none in the next round."""
        problems = {f"{name}: {problem}" for name, problem in self.problems.items()}
        problems |= {f"{each.app} {each.slot}: {each.problem}" for each in self.results if each.problem}
        lasting = problems & self._latest
        for problem in sorted(lasting - self._told):
            log(f"percore web: no metrics of {problem}")
        self._latest, self._told = problems, lasting

    def _ask(self, app: str, target: MetricsTarget) -> ScrapeResult:
        try:
            self._take(app, target)
        except ScrapeError as error:
            self.ledgers.miss(app, target.worker)
            return ScrapeResult(app, target.slot, str(error))
        return ScrapeResult(app, target.slot, "")

    def _take(self, app: str, target: MetricsTarget, *, seconds: float = SECONDS, is_certain: bool = False) -> None:
        """Raises ScrapeError."""
        worker = target.worker
        with self._answers[worker]:
            scraped = scrape(target, seconds)
            if scraped.holder or is_certain:
                self.ledgers.note(app, worker, scraped)
                return
        self._confirm(app, scraped)
        self.ledgers.note(app, worker, scraped)

    def _confirm(self, app: str, scraped: Scraped) -> None:
        """Whose processes we may not look at is believed to have answered if nothing came in its place until then."""
        target = scraped.target
        later = self._snapshots.get_after(time.monotonic())
        workers = later.apps.get(app, {}).get("workers", ())
        here = [each for each in workers if each["slot"] == target.slot and each["pid"]]
        if [each["pid"] for each in here] != [target.pid]:
            raise ScrapeError("it was replaced meanwhile: which worker answered is not known")

    def ask_again(self, app: str, slot: int, pid: int, until: float) -> None:
        """A worker that ends after `until`, for what it counted since the last round; a failure costs just that.

        A connection that comes too late would wait where nobody accepts, so the supervisor would take it for a client's.
        """
        snapshot = self._snapshots.last if app in self._snapshots.last.apps else self._snapshots.get()
        worker = self.configured(snapshot).get(app)
        target = leaving_target(snapshot.apps[app], worker, slot, pid) if worker else None
        seconds = until - time.monotonic() - _LATEST_SECONDS
        if target and seconds > 0:
            with contextlib.suppress(ScrapeError):
                self._take(app, target, seconds=seconds, is_certain=True)

    def keep_asking(self, seconds: float) -> None:
        """One round after the other, for the thread that calls it."""
        while True:
            try:
                if self.configured(self._snapshots.get()):
                    self.refresh()
            except Exception as error:  # the next round is another try
                log(f"percore web: a round of app metrics failed: {type(error).__name__}: {error}"[:400])
            time.sleep(seconds)
