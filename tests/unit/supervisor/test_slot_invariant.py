"""No order of events breaks a slot's promise: at most two workers, at most one not ready, a singleton never twice."""

from __future__ import annotations

import atexit
import errno
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Optional
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from percore.supervisor.base.logger import Faults
from percore.supervisor.base.loop import Callback, Timer
from percore.supervisor.base.states import HAS_PROCESS, Event, State, WorkerRole
from percore.supervisor.config.app import AppConfig
from percore.supervisor.core.slot import Slot
from percore.supervisor.core.worker import drain as drain_module
from percore.supervisor.core.worker.figures import Counts, Farewells
from percore.supervisor.core.worker.worker import Worker
from percore.supervisor.logs import files
from percore.supervisor.process import child as child_module
from percore.supervisor.process.child import Children
from percore.supervisor.process.command import Place
from percore.supervisor.sockets.sharing import Mode


def null() -> int:
    return os.open(os.devnull, os.O_WRONLY)


PIDS = tempfile.mkdtemp(prefix="percore-pids-")
atexit.register(shutil.rmtree, PIDS)


class FakeLoop:
    """Time stands still; the test says which timer is due."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self.faults = Faults()
        self.outer = self
        self.contain = self.faults.contain

    def scoped(self, _: object) -> FakeLoop:
        return self

    def later(self, seconds: float, callback: Callback) -> Timer:
        self.timers.append(Timer(seconds, callback))
        return self.timers[-1]

    def due(self) -> list[Timer]:
        self.timers = [timer for timer in self.timers if timer.callback]
        return self.timers

    def watch(self, *_: object, **__: object) -> None:
        pass

    def unwatch(self, *_: object) -> None:
        pass


class FakeProcess:
    """Lives until it is killed or the test ends it."""

    pids = iter(range(100_000, 10_000_000))

    def __init__(self) -> None:
        self.pid = next(self.pids)
        self.channel = None
        self.is_child = True
        self.is_told = self.is_over = False

    def signal(self, number: int, **_: object) -> None:
        self.is_told = True

    def kill(self, **_: object) -> None:
        self.is_told = True

    def close(self) -> None:
        pass


@contextmanager
def no_real_processes(spawned: list[FakeProcess]) -> Iterator[None]:
    tries = itertools.count(1)

    def spawn(_: object) -> FakeProcess:
        if next(tries) % 5 == 0:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        spawned.append(FakeProcess())
        return spawned[-1]

    nothing: Mapping[str, Any] = {
        "spawn": spawn, "make_command": lambda *_, **__: None, "kill_orphans": lambda *_, **__: None,
        "open_orphans": lambda *_, **__: [],
    }  # fmt: skip
    with (
        mock.patch.multiple(child_module, **nothing),
        mock.patch.object(drain_module, "is_answering", return_value=False),
        mock.patch.object(files, "last_words", return_value=[]),
    ):
        yield


class SlotMachine(RuleBasedStateMachine):
    """Every step is something that the system, the clock or an operator may do at that moment."""

    shares_port = True

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[FakeProcess] = []
        self._patches = no_real_processes(self.spawned)
        self._patches.__enter__()
        self.loop = FakeLoop()
        environment = SimpleNamespace(
            home=SimpleNamespace(logs="/nonexistent", pids=PIDS), open_logs=lambda *_: [null(), null()]
        )
        runtime: Any = SimpleNamespace(
            loop=self.loop, environment=environment, sharing=SimpleNamespace(mode=Mode.STEERED), children=Children(),
            manager=SimpleNamespace(worker_changed=lambda _: None, replace=lambda *_: None),
            shared=SimpleNamespace(open=lambda *_: None), counts=Counts(), farewells=Farewells(self.loop),
        )  # fmt: skip
        self.config = AppConfig("app", "a.js", "/", mode="cluster" if self.shares_port else "fork", disable_logs=True)
        self.slot = Slot(runtime, self.config, Place(0, 0, {}), {})

    def teardown(self) -> None:
        self._patches.__exit__(None, None, None)

    @property
    def alive(self) -> list[Worker]:
        return [worker for worker in self.slot.workers if worker.child.process]

    # -- what an operator may do -------------------------------------------------------------------------------------

    @rule()
    def start(self) -> None:
        self.slot.start()

    @rule()
    def stop(self) -> None:
        self.slot.stop()

    @rule()
    def halt(self) -> None:
        self.slot.halt()

    @precondition(lambda self: self.shares_port and self.slot.worker.is_ready and len(self.slot.workers) == 1)
    @rule()
    def reload(self) -> None:
        self.slot.begin_reload(self.config)

    @precondition(lambda self: self.slot.incoming and self.slot.incoming.is_ready)
    @rule()
    def promote(self) -> None:
        self.slot.promote()

    @precondition(lambda self: self.slot.incoming and not self.slot.outgoing)
    @rule()
    def abandon(self) -> None:
        self.slot.abandon()

    # -- what happens by itself --------------------------------------------------------------------------------------

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def become_ready(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.alive)).handle(Event.READY)

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), status=st.sampled_from([0, 9, 256, None]))
    def end(self, data: st.DataObject, status: Optional[int]) -> None:
        worker = data.draw(st.sampled_from(self.alive))
        assert isinstance(worker.child.process, FakeProcess)
        worker.child.process.is_over = True
        worker.child.main_process_died()
        worker.child.has_ended(status)

    @precondition(lambda self: self.loop.due())
    @rule(data=st.data())
    def let_time_pass(self, data: st.DataObject) -> None:
        timer = data.draw(st.sampled_from(self.loop.due()))
        callback, timer.callback = timer.callback, None
        assert callback
        callback()

    # -- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def nothing_fails_unexpectedly(self) -> None:
        assert not self.loop.faults.count, self.loop.faults.last

    @invariant()
    def at_most_two_workers_and_one_of_a_singleton(self) -> None:
        assert len(self.alive) <= (2 if self.shares_port else 1)

    @invariant()
    def at_most_one_is_not_ready(self) -> None:
        assert sum(worker.state is State.STARTING for worker in self.slot.workers) <= 1

    @invariant()
    def a_state_and_its_process_belong_together(self) -> None:
        for worker in self.slot.workers:
            assert not (worker.child.process and worker.state not in HAS_PROCESS), worker.state

    @invariant()
    def nobody_is_forgotten(self) -> None:
        known = [worker.child.process for worker in self.slot.workers]
        assert all(process.is_over or process in known for process in self.spawned)

    @invariant()
    def roles_are_what_the_slot_says(self) -> None:
        assert self.slot.worker.role is WorkerRole.CURRENT
        assert self.slot.incoming is None or self.slot.incoming.role is WorkerRole.INCOMING
        assert self.slot.outgoing is None or self.slot.outgoing.role is WorkerRole.OUTGOING

    @invariant()
    def a_worker_that_serves_is_not_told_to_go_for_one_that_does_not(self) -> None:
        if self.slot.incoming:
            told = getattr(self.slot.worker.child.process, "is_told", False)
            assert not (told and self.slot.wanted and self.slot.worker.is_ready)


class SingletonMachine(SlotMachine):
    shares_port = False


TestSharedSlot = SlotMachine.TestCase
TestSharedSlot.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestSingleton = SingletonMachine.TestCase
TestSingleton.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def test_a_worker_that_ends_while_its_successor_starts_waits_for_how_that_goes() -> None:
    machine = SlotMachine()
    try:
        machine.start()
        machine.slot.worker.handle(Event.READY)
        machine.reload()
        machine.slot.worker.child.has_ended(256)
        machine.start()
        machine.at_most_one_is_not_ready()
        machine.abandon()
        assert machine.slot.worker.state is State.STARTING
        machine.at_most_one_is_not_ready()
    finally:
        machine.teardown()
