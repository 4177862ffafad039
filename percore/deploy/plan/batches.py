"""How a rollout goes through the hosts: which of them together, after which failures it stops. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from percore.errors import UsageError, shown

MOST = 1_000_000
"""Of hosts, and of seconds: eleven days."""

T = TypeVar("T")


@dataclass(frozen=True)
class Policy:
    """As in Ansible's plays: `serial` is how many hosts at once, a number, "30%", or a list of them whose last one repeats.

    `canary` hosts go first, by themselves. `max_fail_percentage` is of a batch and of the whole fleet; every kind of failure
    counts. `soak_seconds`: a host must still be well after so long before the next batch begins.
    """

    serial: tuple[str, ...] = ("100%",)
    canary: int = 1
    max_fail_percentage: float = 0.0
    soak_seconds: float = 0.0

    def batches(self, hosts: Sequence[T]) -> list[list[T]]:
        """A single batch where everything goes at once anyway."""
        left = list(hosts)
        canary = min(self.canary, len(left)) if len(left) > 1 else 0
        found = [left[:canary]] if canary else []
        left = left[canary:]
        sizes = list(self.serial)
        while left:
            size = _size(sizes.pop(0) if len(sizes) > 1 else sizes[0], len(hosts))
            found.append(left[:size])
            left = left[size:]
        return found

    def is_exceeded(self, failed: int, hosts: int) -> bool:
        return failed * 100 > self.max_fail_percentage * hosts


def read_policy(serial: Any, canary: Any, max_fail_percentage: Any, soak_seconds: Any, *, where: str) -> Policy:
    """Raises UsageError that names the variable."""
    steps = serial if isinstance(serial, list) else [serial]
    for step in steps:
        if not re.fullmatch(r"[1-9][0-9]{0,8}%?", str(step)) or (str(step).endswith("%") and int(str(step)[:-1]) > 100):
            raise UsageError(f"'serial' should be a number of hosts or a percentage, not {shown(step)}", where=where)
    if not steps:
        raise UsageError("'serial' is an empty list", where=where, next="leave it out, or write 100%")
    return Policy(
        tuple(map(str, steps)),
        int(_number(canary, "canary", where, most=MOST)),
        _number(max_fail_percentage, "max_fail_percentage", where, most=100),
        _number(soak_seconds, "soak_seconds", where, most=MOST),
    )


def _size(step: str, hosts: int) -> int:
    """A percentage is of all hosts, rounded down as in Ansible, but never no host at all."""
    return max(1, math.floor(hosts * int(step[:-1]) / 100)) if step.endswith("%") else int(step)


def _number(value: Any, name: str, where: str, *, most: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number <= most:
        raise UsageError(f"'{name}' should be a number from 0 to {most:.0f}, not {shown(value)}", where=where)
    return number
