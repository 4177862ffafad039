"""What metrics need to know of the workers: what happened to them, and a last word of those that go."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from percore.common.typing import Any, Callable
from percore.supervisor.base.loop import Loop, Timer

# Causes of a restart
CRASH, EXIT, MEMORY, UNHEALTHY, STRANDED, REQUEST, SCHEDULE, FILES = RESTART_CAUSES = (
    "crash", "exit", "memory", "unhealthy", "stranded", "request", "schedule", "files"
)  # fmt: skip
RELOADED, RELOAD_FAILED = "reloaded", "reload_failed"
# Ends of workers that had served
DRAINED, DRAIN_LIMIT = "drained", "drain_limit"
UNFINISHED = "unfinished"  # connections whose client waited for an answer when the drain limit was reached
KILLED = "killed"

LONGEST_WAIT = 0.5
_MOST_READERS = 4

Tell = Callable[[Mapping[str, Any]], None]


class Counts:
    """By name of the app, then by what is counted. They never fall, also not when the supervisor is another one."""

    def __init__(self) -> None:
        self._by_app: dict[str, dict[str, int]] = {}

    def add(self, app: str, what: str, amount: int = 1) -> None:
        counts = self._by_app.setdefault(app, {})
        counts[what] = counts.get(what, 0) + amount

    def of(self, app: str) -> Mapping[str, int]:
        return self._by_app.get(app, {})

    def restore(self, app: str, counts: Mapping[str, int]) -> None:
        self._by_app[app] = dict(counts)

    def rename(self, former: str, name: str) -> None:
        self._by_app[name] = self._by_app.pop(former, {})

    def keep(self, apps: Iterable[str]) -> None:
        """Those of apps that are gone are forgotten."""
        for name in self._by_app.keys() - set(apps):
            del self._by_app[name]


class Farewells:
    """A worker that has drained is told to end when those who read its metrics asked for them once more.

    What it counted since they asked last would be lost otherwise. They have half a second, and only where they are there.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._readers: list[Tell] = []
        self._waiting: dict[int, tuple[Timer, Callable[[], None]]] = {}  # by pid, with what comes then
        self._answers: dict[int, int] = {}  # that are still to come, by pid

    def listen(self, tell: Tell) -> None:
        """`tell` hears of each worker that is about to end, until it is told a result: then it must ask again."""
        while len(self._readers) >= _MOST_READERS:
            _dismiss(self._readers.pop(0))
        self._readers.append(tell)

    def say(self, app: str, slot: int, pid: int, end: Callable[[], None]) -> None:
        """Calls `end` when all readers have answered; at once where there is none."""
        if not self._readers or pid in self._waiting:
            end()
            return
        self._waiting[pid] = self._loop.later(LONGEST_WAIT, lambda: self._give_up(pid)), end
        self._answers[pid] = len(self._readers)
        told = {"event": "farewell", "app": app, "slot": slot, "pid": pid, "until": time.monotonic() + LONGEST_WAIT}
        for tell in list(self._readers):
            tell(told)

    def answered(self, pid: int) -> Mapping[str, Any]:
        self._answers[pid] = self._answers.get(pid, 1) - 1
        if self._answers[pid] <= 0:
            self._end(pid)
        return {}

    def _give_up(self, pid: int) -> None:
        """Whoever is there comes again; whoever is not costs no other worker this time."""
        readers, self._readers = self._readers, []
        for tell in readers:
            _dismiss(tell)
        self._end(pid)

    def _end(self, pid: int) -> None:
        self._answers.pop(pid, None)
        if pid in self._waiting:
            timer, end = self._waiting.pop(pid)
            timer.cancel()
            end()


def _dismiss(tell: Tell) -> None:
    tell({"event": "result", "ok": True})
