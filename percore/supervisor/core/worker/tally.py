"""What happened to the workers of one slot since the supervisor started, for `doctor`: why a reload may have lost requests."""

from __future__ import annotations

from percore.common.typing import Any

_AGES = 5


class Tally:
    """Counts, and how old the last workers were that were replaced for their memory."""

    __slots__ = ("drain_limits", "kills", "memory_ages", "memory_restarts")

    def __init__(self) -> None:
        self.drain_limits = 0  # connections were still open when its time to finish them was over
        self.kills = 0  # it was still there after `kill_timeout`
        self.memory_restarts = 0
        self.memory_ages: tuple[int, ...] = ()  # in seconds

    def note_memory(self, age_seconds: float) -> None:
        self.memory_restarts += 1
        self.memory_ages = (*self.memory_ages, round(age_seconds))[-_AGES:]

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}
