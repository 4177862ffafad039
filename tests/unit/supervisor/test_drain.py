"""When a worker that drains has finished: nobody waits for it, nobody is being answered, or the time is over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from percore.supervisor.base.states import Event
from percore.supervisor.core.worker import drain as module
from percore.supervisor.core.worker.drain import Limits, drain, look
from percore.supervisor.core.worker.figures import DRAIN_LIMIT, DRAINED, UNFINISHED, Counts


class Loop:
    def __init__(self) -> None:
        self.planned: list[float] = []

    def later(self, seconds: float, _: Any) -> Any:
        self.planned.append(seconds)
        return timer()


def timer(*, is_over: bool = False) -> Any:
    return SimpleNamespace(is_over=is_over, cancel=lambda: None)


class Worker:
    """A worker that serves, with a queue of `waiting` clients, and processes that say whether they are drained."""

    def __init__(self, *, waiting: int = 0, is_drained: bool = True, shares_port: bool = True) -> None:
        self.is_ready, self.number, self.pid = True, 0, 4242
        self.config = SimpleNamespace(name="web", shares_port=shares_port, app_metrics="")
        self.liveness = SimpleNamespace(is_stuck=False, end=lambda: None)
        self.child = SimpleNamespace(adopted_at=0.0)
        self.runtime = SimpleNamespace(loop=Loop(), counts=Counts(), sharing=SimpleNamespace(mode=None))
        self.marks: list[bool] = []
        self.asked: list[bool] = []
        self.sockets = SimpleNamespace(
            addresses=[SimpleNamespace(can_steer=True, port=5000)],
            preloads=[SimpleNamespace(is_drained=is_drained, ask=self.asked.append)],
            queue_length=lambda: waiting,
            mark=lambda *, drains: self.marks.append(drains),
        )

    def handle(self, event: Event) -> None:
        assert event is Event.STOP
        self.is_ready = False

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.runtime.counts.of("web"))


@pytest.fixture(autouse=True)
def serving(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """By how its connections are looked at: milliseconds of silence after which one counts as idle. 1: one is answered."""
    found = {"patient": 0, "impatient": 0, "unanswered": 0}
    monkeypatch.setattr(
        module, "is_serving", lambda _pid, _ports, *, idle_ms: bool(found["patient" if idle_ms else "impatient"])
    )
    monkeypatch.setattr(module, "count_unanswered", lambda _pid, ports: found["unanswered"] if ports else 0)
    return found


def look_at(worker: Worker, *, is_settled: bool = True, is_patient: bool = True, is_over: bool = False) -> bool:
    """Whether it is stopped then."""
    settled_at = 0.0 if is_settled else float("inf")
    look(worker, Limits(settled_at, timer(is_over=not is_patient), timer(is_over=is_over)))  # type: ignore[arg-type]
    return not worker.is_ready


def test_a_worker_that_nobody_waits_for_is_stopped() -> None:
    worker = Worker()
    assert look_at(worker)
    assert worker.counts == {DRAINED: 1}


@pytest.mark.parametrize("busy", [{"waiting": 1}, {"is_drained": False}])
def test_a_client_in_its_queue_and_a_process_that_has_not_finished_are_waited_for(busy: dict[str, Any]) -> None:
    worker = Worker(**busy)
    assert not look_at(worker)
    assert worker.marks == [True]  # its clients are told with each answer
    assert worker.runtime.loop.planned  # another look


def test_connections_that_began_before_the_kernel_was_told_may_still_arrive() -> None:
    assert not look_at(Worker(), is_settled=False)


def test_an_idle_connection_is_waited_for_for_a_while_and_one_that_is_answered_until_the_limit(
    serving: dict[str, int],
) -> None:
    serving["patient"] = 1  # a client was heard a moment ago
    assert not look_at(Worker())
    assert look_at(Worker(), is_patient=False)
    serving["impatient"] = 1  # a client waits for its answer
    assert not look_at(Worker(), is_patient=False)


def test_at_the_limit_it_is_stopped_and_those_who_wait_are_counted(serving: dict[str, int]) -> None:
    serving.update(patient=1, impatient=1, unanswered=3)
    worker = Worker(waiting=1, is_drained=False)
    assert look_at(worker, is_over=True)
    assert worker.counts == {DRAIN_LIMIT: 1, UNFINISHED: 3}


def test_a_worker_that_shares_no_port_or_is_stuck_has_nothing_to_finish() -> None:
    alone, stuck, usual = Worker(shares_port=False), Worker(), Worker()
    stuck.liveness.is_stuck = True
    for worker in (alone, stuck, usual):
        drain(worker)  # type: ignore[arg-type]
    assert [worker.is_ready for worker in (alone, stuck, usual)] == [False, False, True]
    assert (alone.asked, len(usual.asked)) == ([], 1)
