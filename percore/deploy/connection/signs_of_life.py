"""An agent that has nothing to do hears every few seconds that we are there; else it rolls back what was not confirmed.

One thread tells it to all agents. With a thread for each of them, a control machine that is as busy as its hosts gave some of
them no turn for half a minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SECONDS = 1.0
"""Between two signs of life to the same agent, where there are few."""

MOST_A_SECOND = 20
"""Each sign is a turn of its thread among all threads of this process; where the machine is too busy, a turn takes its time."""


SayAlive = Callable[[], bool]
"""Tells one of them, without waiting for anything; False when nothing is to be said there any more."""


class SignsOfLife:
    """The thread starts with the first who is to be told, and ends when none is left."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._changing = threading.Lock()
        self._told: set[SayAlive] = set()
        self._is_running = False

    def add(self, say: SayAlive) -> None:
        with self._changing:
            self._told.add(say)
            if not self._is_running:
                threading.Thread(target=self._run, daemon=True, name="signs-of-life").start()
                self._is_running = True

    def remove(self, say: SayAlive) -> None:
        with self._changing:
            self._told.discard(say)

    def _run(self) -> None:
        while told := self._to_tell():
            time.sleep(max(self._seconds, len(told) / MOST_A_SECOND))
            for say in told:
                if not _is_said(say):
                    self.remove(say)

    def _to_tell(self) -> list[SayAlive]:
        with self._changing:
            self._is_running = bool(self._told)
            return list(self._told)


def _is_said(say: SayAlive) -> bool:
    """What is wrong with one of them must not silence us for the others; who asks it next is told."""
    try:
        return say()
    except Exception:
        return False


SIGNS_OF_LIFE = SignsOfLife()
"""To all agents of this process."""
