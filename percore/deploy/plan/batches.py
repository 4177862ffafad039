"""How a rollout takes the hosts: which of them together, after which failures it stops. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from percore.deploy import schema

T = TypeVar("T")


def _to_steps(value: Any) -> tuple[str, ...]:
    steps = tuple(map(str, value if isinstance(value, list) else [value]))
    if not steps or not all(re.fullmatch(r"[1-9][0-9]{0,8}|(100|[1-9][0-9]?)%", step) for step in steps):
        raise ValueError
    return steps


_SERIAL = schema.Kind("a number of hosts, a percentage such as 30%, or a list of them", _to_steps)
_COUNT = schema.Kind(schema.number(schema.MOST).wanted, lambda value: int(schema.number(schema.MOST).convert(value)))


@dataclass(frozen=True)
class Policy:
    """As in Ansible's plays: `serial` is how many hosts at once, a number, "30%", or a list of them whose last one repeats.

    `canary` hosts go first, by themselves. `max_fail_percentage` is of a batch and of all hosts; every kind of failure
    counts. `soak_seconds`: a host must still be healthy after so long before the next batch begins.
    """

    serial: Annotated[tuple[str, ...], _SERIAL]
    canary: Annotated[int, _COUNT]
    max_fail_percentage: Annotated[float, schema.number(100)]
    soak_seconds: Annotated[float, schema.number(schema.MOST)]

    def batches(self, hosts: Sequence[T]) -> list[list[T]]:
        """A single batch where all hosts are taken at once anyway."""
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


def _size(step: str, hosts: int) -> int:
    """A percentage is of all hosts, rounded down as in Ansible, but never no host at all."""
    return max(1, math.floor(hosts * int(step[:-1]) / 100)) if step.endswith("%") else int(step)
