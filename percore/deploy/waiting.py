"""Which hosts of how many are being waited for, told to whoever reports progress."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence

NAMED = 3


class HostsWaitedFor:
    """Work on many hosts. `done` is told by the threads that do it."""

    def __init__(self, names: Sequence[str]) -> None:
        self._total = len(names)
        self._begun: dict[str, None] = {}  # and not done, in this order
        self._count = 0
        self._changing = threading.Lock()

    @contextlib.contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Work on this host."""
        with self._changing:
            self._begun[name] = None
        try:
            yield
        finally:
            with self._changing:
                self._begun.pop(name, None)
                self._count += 1

    def text(self) -> str:
        """`37 of 200 hosts done, waiting for web4, web17, web30 and 29 more`; empty when nothing is left."""
        with self._changing:
            begun, count = list(self._begun), self._count
        if not begun:
            return ""
        more = f" and {len(begun) - NAMED} more" if len(begun) > NAMED else ""
        done = f"{count} of {self._total} hosts done, " if self._total > 1 else ""
        return f"{done}waiting for {', '.join(begun[:NAMED])}{more}"


_present: list[HostsWaitedFor] = []


@contextlib.contextmanager
def waiting_for(names: Sequence[str]) -> Iterator[HostsWaitedFor]:
    """The present work; within it there may be another, which is the one that is told."""
    waiting = HostsWaitedFor(names)
    _present.append(waiting)
    try:
        yield waiting
    finally:
        _present.remove(waiting)


def waiting_text() -> str:
    """Of the innermost work on hosts; empty when there is none."""
    return _present[-1].text() if _present else ""
