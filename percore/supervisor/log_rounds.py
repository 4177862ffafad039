"""Goes round all logs and has those rotated that are too long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable

from percore.supervisor.loop import Loop
from percore.supervisor.rotation import Limits, rotate

_SHORTEST_WAIT = 1.0
_LONGEST_WAIT = 10.0


class LogRounds:
    def __init__(self, loop: Loop, limits: Callable[[], Mapping[str, Limits]], log: Callable[[str], None]) -> None:
        """`limits` gives the paths of all logs, each with its limits."""
        self._loop = loop
        self._limits = limits
        self._log = log
        self._wait = 0.0
        self._said: set[str] = set()

    def go_round(self) -> None:
        """Looks at every log now and then, at once again while one is too long, and rarely while none grows."""
        moved = 0
        for path, limits in self._limits().items():
            try:
                moved += rotate(path, limits)
            except OSError as error:
                self._say_once(f"{path} cannot be rotated: {error.strerror}")
        self._wait = 0.0 if moved else min(_LONGEST_WAIT, max(_SHORTEST_WAIT, 2 * self._wait))
        self._loop.later(self._wait, self.go_round)

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._log(sentence)
