"""Lines of many hosts as one stream: in the order of time, with as few of them in memory as hosts send."""

from __future__ import annotations

import heapq
import queue
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")

MOST_WAITING = 2000
"""Lines of one host that wait for those of others: a faster host waits, too."""

HOLD_SECONDS = 0.4
"""New lines are held for so long, since another host may still send an earlier one."""

_END = object()


@dataclass(frozen=True)
class Timed(Generic[T]):
    moment: float
    what: T


class OrderedMerge(Generic[T]):
    """Of streams that are each in order. `put` is for the thread of one stream; it waits while others are behind."""

    def __init__(self, names: Sequence[str]) -> None:
        self._queues: dict[str, queue.Queue[Any]] = {name: queue.Queue(MOST_WAITING) for name in names}
        self._last = dict.fromkeys(names, float("-inf"))

    def put(self, name: str, moment: float | None, what: T) -> None:
        """Without a moment it comes behind the line before; a moment that goes back is that of the line before, too."""
        self._last[name] = max(self._last[name], self._last[name] if moment is None else moment)
        self._queues[name].put(Timed(self._last[name], what))

    def end(self, name: str) -> None:
        self._queues[name].put(_END)

    def lines(self) -> Iterator[T]:
        streams = [self._stream(each) for each in self._queues.values()]
        return (timed.what for timed in heapq.merge(*streams, key=lambda timed: timed.moment))

    def _stream(self, waiting: queue.Queue[Any]) -> Iterator[Timed[T]]:
        while (found := waiting.get()) is not _END:
            yield found


class LiveMerge(Generic[T]):
    """Of streams that go on: each line is held for a moment, and those that came meanwhile are sorted."""

    def __init__(self, names: Sequence[str]) -> None:
        self._arrived: queue.Queue[tuple[float, Timed[T]] | None] = queue.Queue(MOST_WAITING * 10)
        self._last: dict[str, float] = {}
        self._open = len(names)

    def put(self, name: str, moment: float | None, what: T) -> None:
        """Without a moment it belongs to the line of this host before it."""
        known = self._last.get(name, time.time()) if moment is None else moment
        self._last[name] = known
        self._arrived.put((time.monotonic(), Timed(known, what)))

    def end(self, name: str) -> None:
        self._arrived.put(None)

    def lines(self) -> Iterator[T]:
        held: list[tuple[float, int, float, T]] = []  # moment, number, when it came
        number = 0
        while self._open or held:
            for came, timed in self._taken():
                heapq.heappush(held, (timed.moment, number, came, timed.what))
                number += 1
            due = time.monotonic() - HOLD_SECONDS
            while held and (not self._open or held[0][2] <= due):
                yield heapq.heappop(held)[3]

    def _taken(self) -> Iterator[tuple[float, Timed[T]]]:
        """What came within a tenth of a second."""
        try:
            found = self._arrived.get(timeout=0.1)
            while True:
                if found is None:
                    self._open -= 1
                else:
                    yield found
                found = self._arrived.get_nowait()
        except queue.Empty:
            return
