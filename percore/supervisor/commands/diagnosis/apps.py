"""The apps of a supervisor as the checks see them: the workers that `describe` tells, by app."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.records import recorded_as

Worker = Mapping[str, Any]


class AppFacts(NamedTuple):
    """`config` is as `describe` has it: what differs from the defaults."""

    name: str
    workers: Sequence[Worker]

    @property
    def config(self) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self.workers[0]["config"]
        return config

    def setting(self, field: str) -> Any:
        return self.config.get(recorded_as(field), AppConfig._field_defaults.get(field))

    @property
    def wanted(self) -> int:
        return sum(bool(worker["wanted"]) for worker in self.workers)

    @property
    def memory_limit(self) -> Optional[int]:
        """max_memory_restart, or the limit of the kernel where that is less."""
        found = [self.setting(field) for field in ("max_memory_restart", "memory_max")]
        return min((int(limit) for limit in found if limit), default=None)

    @property
    def largest(self) -> int:
        return max(int(worker["memory_bytes"]) for worker in self.workers)

    @property
    def is_fork(self) -> bool:
        return bool(self.workers[0]["mode"] == "fork")

    def count(self, name: str) -> int:
        """What the supervisor counted of the app, at any time; an older one counts nothing."""
        return int(self.workers[0].get("counts", {}).get(name, 0))


def apps_of(workers: Iterable[Worker]) -> list[AppFacts]:
    by_name: dict[str, list[Worker]] = {}
    for worker in workers:
        by_name.setdefault(worker["name"], []).append(worker)
    return [AppFacts(name, own) for name, own in by_name.items()]


# -- words ---------------------------------------------------------------------------------------------------------------


def age_text(seconds: float) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
