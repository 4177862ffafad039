"""The sums of one app: what its workers say now, and what those that are gone had counted.

A counter never falls: the last values of a worker stay, whether it was reloaded, restarted or crashed. Pure: the clock is an
argument.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Optional

from percore.web.app_metrics.page import Family, MetricsPage, Series, add_buckets

# A worker that is gone may still be asked for its last figures: so long they replace those before.
_LATE_SECONDS = 60.0
MOST_KEPT_SERIES = 50_000
_MOST_FAMILIES = 5_000


class Sums(NamedTuple):
    """What can be added up."""

    counters: dict[Series, float]
    buckets: dict[Series, dict[str, float]]

    @property
    def size(self) -> int:
        return len(self.counters) + sum(map(len, self.buckets.values()))


def nothing() -> Sums:
    return Sums({}, {})


def add(into: Sums, more: Sums, *, most: int = MOST_KEPT_SERIES) -> int:
    """Returns how many series had no room."""
    dropped, room = 0, most - into.size
    for series, value in more.counters.items():
        if series not in into.counters and room <= 0:
            dropped += 1
            continue
        room -= series not in into.counters
        into.counters[series] = into.counters.get(series, 0.0) + value
    for series, found in more.buckets.items():
        known = into.buckets.get(series, {})
        if len(found) > room and not known:
            dropped += len(found)
            continue
        into.buckets[series] = add_buckets(known, found) if known else dict(found)
        room -= len(into.buckets[series]) - len(known)
    return dropped


class Entry:
    """One worker, by what it said last."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.sums = nothing()
        self.others: dict[Series, float] = {}  # of the last round only
        self.holder = 0
        self.asked_at = 0.0  # when it was asked what it said
        self.gone_at: Optional[float] = None

    def take(self, page: MetricsPage, holder: int) -> Sums:
        """`holder` is the process that answered; returns what it has begun to count again, and must not be lost."""
        is_same = holder == self.holder or not self.holder
        lost = nothing()
        for series, value in page.counters.items():
            known = self.sums.counters.get(series, 0.0)
            if value < known and is_same:
                lost.counters[series] = known
            self.sums.counters[series] = value if value >= known or is_same else known
        for series, found in page.buckets.items():
            known_buckets = self.sums.buckets.get(series, {})
            has_fallen = any(value < known_buckets.get(le, 0.0) for le, value in found.items())
            if has_fallen and is_same:
                lost.buckets[series] = known_buckets
            if is_same or not has_fallen:
                self.sums.buckets[series] = found
        self.others, self.holder = page.others, holder
        return lost


class Ledger:
    def __init__(self) -> None:
        self.base: dict[int, Sums] = {}  # of workers that are gone, by slot
        self.entries: dict[str, Entry] = {}  # by worker: its process, and when that was started
        self.families: dict[str, Family] = {}
        self.owners: dict[str, str] = {}
        self.dropped = 0  # series that had no room
        self.has_changed = False  # in what must not be lost: it is to be written

    def take(self, worker: str, slot: int, page: MetricsPage, *, at: float, holder: int = 0) -> None:
        """`at`: when it was asked; of two answers the later counts, in whatever order they are taken."""
        entry = self.entries.setdefault(worker, Entry(slot))
        if at < entry.asked_at:
            return
        entry.asked_at = at
        lost = entry.take(page, holder)
        if lost.size:
            self._keep(slot, lost)
        self.families.update(page.families)
        self.owners.update(page.owners)
        for name in list(self.families)[:-_MOST_FAMILIES]:
            del self.families[name]

    def miss(self, worker: str) -> None:
        """It did not answer: what it counted stays, what it had then is not known now."""
        if worker in self.entries:
            self.entries[worker].others = {}

    def settle(self, living: Collection[str], now: float) -> None:
        """Those that do not live are gone, and after a while they are not told apart any more."""
        for worker, entry in list(self.entries.items()):
            if worker in living:
                entry.gone_at = None
                continue
            if entry.gone_at is None:
                entry.gone_at, entry.others, self.has_changed = now, {}, True
            if now - entry.gone_at > _LATE_SECONDS:
                self._keep(entry.slot, entry.sums)
                del self.entries[worker]

    def _keep(self, slot: int, sums: Sums) -> None:
        self.dropped += add(self.base.setdefault(slot, nothing()), sums)
        self.has_changed = True

    def by_slot(self) -> dict[int, Sums]:
        totals: dict[int, Sums] = {}
        for slot, sums in self.base.items():
            add(totals.setdefault(slot, nothing()), sums)
        for entry in self.entries.values():
            add(totals.setdefault(entry.slot, nothing()), entry.sums)
        return totals

    def total(self) -> Sums:
        whole = nothing()
        for sums in self.by_slot().values():
            add(whole, sums)
        return whole

    def gauges(self) -> dict[int, dict[Series, float]]:
        return {entry.slot: entry.others for entry in self.entries.values() if entry.others}
