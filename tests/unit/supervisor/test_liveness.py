"""What a queue tells of a worker, and what a pause of our own must not tell."""

from __future__ import annotations

import pytest

from percore.supervisor.base.loop import Loop
from percore.supervisor.config.app import AppConfig
from percore.supervisor.health.liveness import Liveness
from percore.supervisor.sockets.worker_sockets import WorkerSockets


@pytest.fixture
def replaced() -> list[str]:
    return []


class Owner:
    def __init__(self, replaced: list[str]) -> None:
        self.config = AppConfig(name="api", script="x", cwd="/", liveness_timeout=5.0)
        self.ask_for_replacement = replaced.append

    def has_changed(self) -> None:
        pass


@pytest.fixture
def liveness(replaced: list[str]) -> Liveness:
    owner = Owner(replaced)
    made = Liveness(Loop(), WorkerSockets({}, 0, 0), owner)
    made.begin(owner.config)
    return made


def look(liveness: Liveness, since: float, until: float, length: int = 3) -> None:
    for tenth in range(round(since * 10), round(until * 10) + 1):
        liveness.note_queue(length, tenth / 10)


def test_a_queue_that_does_not_move_for_the_whole_time_asks_for_another_worker(
    liveness: Liveness, replaced: list[str]
) -> None:
    look(liveness, 10, 14)
    assert liveness.is_stuck
    assert replaced == []
    look(liveness, 14, 16)
    assert replaced == ["it accepts no connections, for 5 s"]


def test_a_queue_as_long_as_before_we_were_stopped_for_a_minute_tells_nothing(
    liveness: Liveness, replaced: list[str]
) -> None:
    look(liveness, 10, 10.5)
    look(liveness, 70, 70.5)
    assert not liveness.is_stuck
    look(liveness, 70.5, 74)
    assert liveness.is_stuck
    assert replaced == []
