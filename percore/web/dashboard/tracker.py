"""Compares each look at a host with the one before: what happened in between, and what goes into the history."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence

from percore.common.typing import Any, NamedTuple, Optional
from percore.web.dashboard.history import FIELDS, Timelines, Values
from percore.web.dashboard.sample import (
    RELOAD_FAILED,
    RELOADED,
    TROUBLED,
    UNPLANNED,
    AppFigures,
    HostSample,
    WorkerFigures,
    total,
)

MOST_EVENTS = 500
_LATELY = 20  # events
GOOD, NOTE, BAD = "good", "note", "bad"

_Key = tuple[str, str]  # host, app


class PageEvent(NamedTuple):
    number: int  # a higher one for each that is added
    at: float
    host: str
    app: str  # empty: it is about the host
    kind: str
    text: str
    times: int = 1  # how often it happened lately, this time the last


class EventLog:
    """The last events, the newest at the end."""

    def __init__(self) -> None:
        self._events: deque[PageEvent] = deque(maxlen=MOST_EVENTS)
        self._numbers = itertools.count(1)

    def add(self, at: float, host: str, app: str, kind: str, text: str) -> None:
        """What happens again and again, as in a crash loop, is one event with a count."""
        event = PageEvent(next(self._numbers), at, host, app, kind, text)
        for former in itertools.islice(reversed(self._events), _LATELY):
            if former[2:6] == event[2:6]:
                self._events.remove(former)
                event = event._replace(times=former.times + 1)
                break
        self._events.append(event)

    def newest(self, count: int) -> list[dict[str, Any]]:
        """The newest first."""
        chosen = itertools.islice(reversed(list(self._events)), count)
        return [event._asdict() for event in chosen]


class KnownHost(NamedTuple):
    """A host as it was last seen."""

    sample: HostSample
    at: float
    rates: Mapping[tuple[str, int], Optional[float]]  # connections accepted per second, by app and slot


class Tracker:
    """Of all hosts of a page."""

    def __init__(self, history: Timelines, events: EventLog, *, keeps_workers: bool = True) -> None:
        self.history = history
        self.events = events
        self.hosts: dict[str, KnownHost] = {}
        self._keeps_workers = keeps_workers

    def take(self, host: str, sample: HostSample, at: float) -> None:
        before = self.hosts.get(host)
        if sample.problem:
            self._lose(host, sample, at, before)
            return
        if before and before.sample.problem:
            self.events.add(at, host, "", GOOD, "answers again")
        elapsed = max(at - before.at, 0.001) if before else 0.0
        rates = dict(_rates(before.sample, sample, elapsed)) if before else {}
        self.hosts[host] = KnownHost(sample, at, rates)
        if before and before.sample.apps:
            self._tell(host, before.sample, sample, at)
        self._record(host, before, at)
        self.history.drop_old(at)

    def _lose(self, host: str, sample: HostSample, at: float, before: Optional[KnownHost]) -> None:
        """The last figures stay, for those who want to know how it was."""
        if before is None or not before.sample.problem:
            self.events.add(at, host, "", BAD, sample.problem)
        last = before.sample if before else sample
        kept = last._replace(problem=sample.problem, next=sample.next)
        self.hosts[host] = KnownHost(kept, before.at if before else at, {})

    def _tell(self, host: str, before: HostSample, now: HostSample, at: float) -> None:
        old, new = ({app.name: app for app in sample.apps} for sample in (before, now))
        for name in old.keys() - new.keys():
            self.events.add(at, host, name, NOTE, "deleted")
        for name, app in new.items():
            changes = _changes(old[name], app) if name in old else [(NOTE, "added")]
            for kind, text in changes:
                self.events.add(at, host, name, kind, text)

    def _record(self, host: str, before: Optional[KnownHost], at: float) -> None:
        now = self.hosts[host]
        old = {app.name: app for app in before.sample.apps} if before else {}
        sums = []
        for app in now.sample.apps:
            former = _by_slot(old[app.name]) if app.name in old else {}
            rows = [
                _values(worker, former.get(worker.slot), now.rates.get((app.name, worker.slot)))
                for worker in app.workers
            ]
            sums.append({**_sum(rows), **_happened(old.get(app.name, app), app)})
            self.history.put((host, app.name), at, sums[-1])
            if self._keeps_workers:
                for worker, row in zip(app.workers, rows):
                    self.history.put((host, app.name, str(worker.slot)), at, row)
        self.history.put((host,), at, _sum(sums))


def _by_slot(app: AppFigures) -> dict[int, WorkerFigures]:
    return {worker.slot: worker for worker in app.workers}


def _rates(before: HostSample, now: HostSample, elapsed: float) -> Iterator[tuple[tuple[str, int], Optional[float]]]:
    old = {(app.name, worker.slot): worker for app in before.apps for worker in app.workers}
    for app in now.apps:
        for worker in app.workers:
            key = (app.name, worker.slot)
            if worker.accepted is None:
                yield key, None
                continue
            former = old.get(key)
            is_same = former is not None and former.pid == worker.pid
            base = (former.accepted if is_same and former else 0) or 0
            yield key, max(0, worker.accepted - base) / elapsed  # fewer: a process of its tree ended


def _values(worker: WorkerFigures, former: Optional[WorkerFigures], rate: Optional[float]) -> Values:
    grown = former or worker
    return {
        "cpu": worker.cpu if worker.pid else None,
        "memory": worker.memory if worker.pid else None,
        "open": worker.open,
        "queue": worker.queue,
        "accepted": rate,
        "restarts": max(0, worker.restarts - grown.restarts),
    }


def _happened(before: AppFigures, now: AppFigures) -> Values:
    return {
        "restarts": max(0, now.restarts - before.restarts),
        "reloads": max(0, now.reloads - before.reloads),
    }


def _sum(rows: Sequence[Values]) -> Values:
    return {field: total([row.get(field) for row in rows]) for field in FIELDS}


def _changes(before: AppFigures, now: AppFigures) -> Iterator[tuple[str, str]]:
    """What happened to an app, its workers counted: a reload of 64 workers is one line."""
    if now.release != before.release and now.release:
        yield NOTE, f"release {now.release}"
    if len(now.workers) != len(before.workers):
        yield NOTE, f"{len(before.workers)} -> {len(now.workers)} workers"
    yield from _counted(before, now)
    old = _by_slot(before)
    counts: Counter[tuple[str, str]] = Counter()
    for worker in now.workers:
        if worker.slot in old:
            counts.update(_changes_of_worker(old[worker.slot], worker))
    for (kind, text), count in counts.items():
        yield kind, f"{_workers(count)} {text}"


def _counted(before: AppFigures, now: AppFigures) -> Iterator[tuple[str, str]]:
    """What the supervisor counted since."""
    for cause, count in now.counts.items():
        grown = count - before.counts.get(cause, 0)
        if grown <= 0:
            continue
        if cause == RELOADED:
            yield GOOD, "reloaded"
        elif cause == RELOAD_FAILED:
            yield BAD, "a reload failed"
        elif cause in UNPLANNED:
            yield BAD, f"{_workers(grown)} restarted: {cause}"


def _workers(count: int) -> str:
    return f"{count} {'worker' if count == 1 else 'workers'}"


def _changes_of_worker(before: WorkerFigures, now: WorkerFigures) -> Iterator[tuple[str, str]]:
    reason = f": {now.failure}" if now.failure else ""
    if now.state == before.state:
        return
    if now.state in TROUBLED:
        yield BAD, f"{now.state}{reason}"
    elif before.state in TROUBLED and now.is_up:
        yield GOOD, "recovered"
    elif now.state == "stopped":
        yield NOTE, "stopped"
    elif before.state == "stopped" and now.is_up:
        yield NOTE, "started"
