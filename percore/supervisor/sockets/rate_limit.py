"""How often others may make us do something."""

from __future__ import annotations

import time


class Allowance:
    """So many at once, and so many a second after that."""

    def __init__(self, most: float, per_second: float) -> None:
        self._most = self._left = most
        self._per_second = per_second
        self._counted_at = time.monotonic()

    def take(self) -> bool:
        """False when it is used up for now."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._counted_at) * self._per_second)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
