"""A worker that grows fast towards its limit is looked at in time; one that does not, once a second."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from percore.supervisor.automation.memory_limit import MemoryLimit
from percore.supervisor.process import usage as stats
from percore.supervisor.process.usage import Sampler, Usage

MB = 1 << 20


def seconds_between_looks(readings_mb: list[int], limit_mb: int) -> list[float]:
    """How long the watch waits after each reading."""
    waits: list[float] = []
    clock = [100.0]
    looks: list[Any] = []

    def later(seconds: float, callback: Any) -> None:
        waits.append(seconds)
        looks.append(callback)

    config = SimpleNamespace(max_memory_restart=limit_mb * MB, heap_snapshots=0)
    worker: Any = SimpleNamespace(is_ready=True, pid=1, child=SimpleNamespace(usage=Sampler()), config=config)
    app = SimpleNamespace(config=config, slots=[SimpleNamespace(worker=worker)])
    manager: Any = SimpleNamespace(apps={"api": app}, replace_over_limit=lambda *_: None)
    MemoryLimit(SimpleNamespace(later=later), manager).apps_changed()  # type: ignore[arg-type]
    clock_stands = mock.patch.object(stats.time, "monotonic", side_effect=lambda: clock[0])
    with clock_stands, mock.patch.object(stats, "usage_of_tree") as usage:
        for reading in readings_mb:
            clock[0] += waits[-1]
            usage.return_value = Usage(reading * MB, 0.0)
            looks.pop()()
    return waits[1:]


def test_the_first_reading_of_a_process_is_followed_by_another_at_once() -> None:
    assert seconds_between_looks([40], 100) == [0.2]


def test_who_does_not_grow_is_looked_at_each_second() -> None:
    assert seconds_between_looks([40, 40, 39, 40], 100)[1:] == [1.0, 1.0, 1.0]


def test_the_look_is_at_the_moment_at_which_the_limit_will_be_reached() -> None:
    assert seconds_between_looks([40, 50, 60], 80)[1] == pytest.approx(0.6)


def test_who_is_over_its_limit_already_is_not_looked_at_more_often() -> None:
    assert seconds_between_looks([90, 110], 100)[1] == 1.0
