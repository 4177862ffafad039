"""One process of an app, through all its restarts. `handle` is the only place that changes its state."""

from __future__ import annotations

import time

from percore.common.typing import TYPE_CHECKING, Callable, NamedTuple
from percore.errors import PercoreError
from percore.supervisor.base.logger import InternalError
from percore.supervisor.base.loop import Loop, OneTimer
from percore.supervisor.base.states import HAS_PROCESS, Action, Event, State, WorkerRole, react
from percore.supervisor.config.app import AppConfig, Place
from percore.supervisor.core.worker.figures import CRASH, EXIT, KILLED, Counts, Farewells
from percore.supervisor.core.worker.history import (
    CALM_SECONDS,
    SERVE_AGAIN_SECONDS,
    WorkerHistory,
    ends_for_good,
    hint_of,
    may_be_cut_short,
    next_delay,
)
from percore.supervisor.health.liveness import Liveness
from percore.supervisor.health.readiness import Readiness
from percore.supervisor.process.child import Child, ChildEnd, Children
from percore.supervisor.process.command import WorkerEnvironment
from percore.supervisor.sockets.sharing import Sharing
from percore.supervisor.sockets.worker_sockets import WorkerSockets

_QUEUE_LOOK_SECONDS = 0.2  # between two looks, in a back-off, at what may end it


class Runtime(NamedTuple):
    """What all workers of one supervisor share."""

    loop: Loop
    environment: WorkerEnvironment
    children: Children
    sharing: Sharing
    manager: WorkerManager
    shared: SharedSockets
    counts: Counts
    farewells: Farewells


if TYPE_CHECKING:
    from typing import Protocol

    from percore.supervisor.sockets.worker_sockets import SharedSockets

    class WorkerManager(Protocol):
        """Who is told of all workers."""

        def worker_changed(self, worker: Worker) -> None:
            """Its state or health is another one."""

        def replace(self, worker: Worker, reason: str) -> None:
            """There should be another one in its place."""

    class WorkerOwner(Protocol):
        """The slot of a worker."""

        place: Place

        def worker_changed(self, worker: Worker) -> None: ...

        def may_start(self) -> bool:
            """Whether its worker may start again by itself."""


class WorkerFailed(PercoreError):
    """A worker did not become, or stay, ready; `detail` holds its last log lines."""

    def __init__(self, worker: Worker) -> None:
        history = worker.history
        super().__init__(
            (history.is_overdue and worker.failure) or history.last_end or f"it is {worker.state.value}",
            where=f"{worker.config.name} worker {worker.number}",
            # When another process took the place of the one that failed, the lines of the failed one.
            detail="\n".join(history.last_tail or worker.child.log_tail()),
        )
        self.app = worker.config.name


class Worker:
    def __init__(
        self,
        runtime: Runtime,
        owner: WorkerOwner,
        sockets: WorkerSockets,
        config: AppConfig,
        role: WorkerRole,
        state: State = State.STOPPED,
    ) -> None:
        """`state` is another one for what is adopted from an earlier supervisor."""
        self.runtime = runtime
        self.place = owner.place
        self.number = owner.place.number
        self.config = config
        self.role = role
        self.state = state
        self.sockets = sockets
        self.history = WorkerHistory()
        self.failure = ""
        self.is_stable = False  # the process has run for `min_uptime`
        self._owner = owner
        self._loop = runtime.loop.scoped(self._failed_within)
        self._timer = OneTimer(self._loop)
        self.readiness = Readiness(self._loop, sockets, lambda failure: _judge(self, failure))
        self.child = _new_child(self)
        self.liveness = Liveness(runtime.loop, sockets, self)

    # -- the table ---------------------------------------------------------------------------------------------------

    def handle(self, event: Event, failure: str = "") -> None:
        """`failure` says why, where the event is one."""
        self.failure = failure or self.failure
        before = self.state
        self.state, action = react(before, event)
        if action is Action.SPAWN:
            self._spawn()
        elif action is Action.TERMINATE:
            self.child.terminate(self.config)
        elif action is Action.KILL:
            self.child.kill()
            if before is State.STOPPING:
                self.runtime.counts.add(self.config.name, KILLED)
        if self.state is not before:
            self._enter()
            self.has_changed()

    def has_changed(self) -> None:
        faults = self.runtime.loop.faults
        faults.contain(f"following {self.config.name} {self.number}", self._owner.worker_changed, self)

    def ask_for_replacement(self, reason: str) -> None:
        if self.role is WorkerRole.CURRENT:
            self.runtime.manager.replace(self, reason)

    def _enter(self) -> None:
        self._timer.cancel()
        self.readiness.cancel()
        if self.state is State.STARTING:
            child = self.child
            if child.process:
                self.readiness.begin(child.process.pid, child.token, child.started_at, self.config, self.place,
                                     is_incoming=self.role is WorkerRole.INCOMING)  # fmt: skip
        elif self.state is State.RUNNING:
            self.history.was_in_time, self.history.is_overdue = not self.history.is_overdue, False
            if not self.is_stable:
                self._timer.set(self.config.min_uptime, self._became_stable)
            self.liveness.begin(self.config)
        elif self.state is State.STOPPING:
            self.liveness.end()
            self._timer.set(self.config.kill_timeout, lambda: self.handle(Event.TIMEOUT))
        elif self.state is State.BACKOFF:
            # In this turn of the loop, but not before all others saw the state.
            self._timer.set(0, self._back_off())

    def _back_off(self) -> Callable[[], None]:
        """Returns what comes next."""
        config, history = self.config, self.history
        if self.role is not WorkerRole.CURRENT:
            return lambda: self.handle(Event.GAVE_UP)
        delay = next_delay(config, history.failures)
        if delay is None:
            reason = (
                f"{history.last_end}; given up, because it ended {history.failures.quick} times in a row before its "
                f"min_uptime of {config.min_uptime:g} s (max_restarts {config.max_restarts}) -> percore start {config.name}"
            )
            return lambda: self.handle(Event.GAVE_UP, reason)
        history.last_delay = delay
        due = time.monotonic() + delay
        return lambda: self._wait_until(due)

    def _wait_until(self, due: float) -> None:
        """Clients in the queue of a worker that had served cannot go to another one, so the back-off ends sooner for them."""
        now = time.monotonic()
        if not self._owner.may_start():
            self._timer.set(_QUEUE_LOOK_SECONDS, lambda: self._wait_until(due))
            return
        can_help = self.history.had_served and may_be_cut_short(self.config)
        soonest = self.child.started_at + SERVE_AGAIN_SECONDS
        if now >= due or (can_help and now >= soonest and self.sockets.queue_length() > 0):
            self.handle(Event.TIMEOUT)
            return
        next_look = max(soonest, now + _QUEUE_LOOK_SECONDS) if can_help else due
        self._timer.set(min(due, next_look) - now, lambda: self._wait_until(due))

    def _became_stable(self) -> None:
        self.is_stable = True
        self.has_changed()
        if self.history.failures.in_a_row:
            self._timer.set(max(0.0, CALM_SECONDS - self.config.min_uptime), self._became_calm)

    def _became_calm(self) -> None:
        self.history.failures.calm()
        self.has_changed()

    # -- the process -------------------------------------------------------------------------------------------------

    def _spawn(self) -> None:
        self.failure = ""
        self.is_stable = self.history.is_overdue = False
        self.sockets.addresses = []
        self.sockets.mark(drains=False)  # of a worker before it
        self.history.unknown = {}
        self.history.started_time = time.time()
        self.child = _new_child(self)
        sockets = self.sockets.open_declared(self.runtime.shared, self.config, self.place)
        self.child.start(self.runtime.environment, self.place, self.config, sockets)

    def ended(self, ended: ChildEnd) -> None:
        history = self.history
        self.liveness.end()
        self.sockets.preloads.clear()
        self.sockets.mark(drains=False)
        history.unknown = {}
        history.had_served = self.state in (State.RUNNING, State.STOPPING)
        history.was_stable = self.is_stable
        history.exit_code = ended.exit_code
        if self.state is not State.STOPPING:
            history.last_tail = ended.log_tail
        is_plain = history.had_served or self.config.is_job or " -> " in ended.reason
        when = "" if is_plain else " before it was ready"
        hint = hint_of(self.config, ended.log_tail)
        self.failure = history.last_end = self.failure or ended.reason + when + hint
        if self.state in (State.STARTING, State.RUNNING):
            is_current = self.role is WorkerRole.CURRENT
            if is_current and ends_for_good(self.config, ended.exit_code if ended.is_known else None):
                self.handle(Event.FINISHED)
                return
            history.failures.add(time.monotonic(), was_stable=self.is_stable, was_ready=history.had_served)
            if is_current:
                history.restarts += 1
                self.runtime.counts.add(self.config.name, CRASH if ended.exit_code else EXIT)
            self.is_stable = False
        self.handle(Event.EXITED)

    def _failed_within(self, told: InternalError) -> None:
        """Something of ours failed over this worker: it alone ends, and starts again later. One that serves goes on."""
        if self.child.is_alive:
            if not self.is_ready:
                self.failure = told.what
                self.child.kill()
        elif self.state in HAS_PROCESS:
            self.handle(Event.EXITED, told.what)
        elif self.state is State.BACKOFF:
            self.failure = told.what
            self._timer.set(CALM_SECONDS, lambda: self.handle(Event.TIMEOUT))

    def go_on(self) -> None:
        """With an adopted process, in the state that this worker was made with."""
        self.is_stable = self.state is State.RUNNING
        self._enter()
        if self.state is State.STARTING:
            self.readiness.addresses_changed()  # what it had proved is not known any more
        elif self.state is State.STOPPING:
            self.child.terminate(self.config)  # it may not have been told

    @property
    def is_ready(self) -> bool:
        return self.state is State.RUNNING

    @property
    def pid(self) -> int:
        return self.child.process.pid if self.child.process else 0


def _judge(worker: Worker, failure: str) -> None:
    """Of its readiness. What was never ready in time, such as a program that starts slowly, is not killed for that."""
    history = worker.history
    is_first = worker.role is WorkerRole.CURRENT and not (history.was_in_time or worker.config.health)
    if failure and worker.readiness.is_late and is_first:
        history.is_overdue = True
        worker.failure = f"{failure}; it goes on, and serves when it is"
        worker.has_changed()
    else:
        worker.handle(Event.TIMEOUT if failure else Event.READY, failure)


def is_finished(worker: Worker) -> bool:
    """It was meant to end, and did so with success."""
    return worker.state is State.EXITED and not worker.history.has_failed(worker.config)


def _new_child(worker: Worker) -> Child:
    name = f"{worker.config.name} {worker.number}"
    return Child(worker.runtime.children, worker._loop, name, worker)
