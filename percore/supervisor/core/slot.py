"""One numbered place of an app: its wish, and its worker or two.

Invariant: a slot has at most two workers, at most one of them not ready; the old one is stopped only after the new one is
ready; if the new one fails, the old one is untouched. The slot of an app that shares no port never has two.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from percore.common.procfs import environment_of
from percore.common.typing import Any, Optional
from percore.supervisor.base.states import HAS_PROCESS, OVER_FOR_GOOD, Event, State, WorkerRole
from percore.supervisor.config.address import Address, parse_address
from percore.supervisor.config.app import AppConfig, Place, known_port, port_in
from percore.supervisor.core.routing import SlotRoute
from percore.supervisor.core.worker.drain import drain
from percore.supervisor.core.worker.history import Failures
from percore.supervisor.core.worker.record import adopt_end, adopt_process
from percore.supervisor.core.worker.worker import Runtime, Worker
from percore.supervisor.process.pid_file import PidFile
from percore.supervisor.process.process import Process
from percore.supervisor.sockets.listener import Listener
from percore.supervisor.sockets.worker_sockets import WorkerSockets
from percore.supervisor.state.saved import SavedEnd, SavedWorker

_OVER = (State.STOPPED, State.FATAL, State.EXITED)


class Slot:
    def __init__(
        self, runtime: Runtime, config: AppConfig, place: Place, listeners: Mapping[Address, Listener]
    ) -> None:
        self.place = place
        self.number = place.number
        self.id = place.id
        self.wanted = False
        self.unknown: Mapping[str, Any] = {}  # what another version wrote of it
        self._runtime = runtime
        self._listeners = listeners
        self._pid_file = PidFile(place.id, runtime.environment.home.pids)
        self.worker = self._make_worker(config, 0, WorkerRole.CURRENT)
        self.incoming: Optional[Worker] = None
        self.outgoing: Optional[Worker] = None
        self._left_generation: Optional[int] = None  # the one that served before the last reload
        self._starts_later = False  # it was to start while an incoming worker did

    def _make_worker(
        self, config: AppConfig, generation: int, role: WorkerRole, state: State = State.STOPPED
    ) -> Worker:
        sockets = WorkerSockets(self._listeners, self.number, generation)
        return Worker(self._runtime, self, sockets, config, role, state)

    def may_start(self) -> bool:
        """Whether its worker may: not while the one that is to take its place is not ready either."""
        return self.incoming is None or self.incoming.state is not State.STARTING

    def worker_changed(self, worker: Worker) -> None:
        """It is told to all; what is over is forgotten."""
        self._pid_file.note(self.worker.config, self.number, self.worker.child.process)
        self._forget_outgoing()
        self._runtime.manager.worker_changed(worker)

    @property
    def workers(self) -> list[Worker]:
        return [worker for worker in (self.worker, self.incoming, self.outgoing) if worker]

    def route(self) -> SlotRoute:
        """Of its current worker."""
        worker = self.worker
        used = {one.sockets.generation for one in self.workers if one.child.process or one is self.incoming}
        is_ready = worker.state is State.RUNNING
        return SlotRoute(
            self.number, worker.sockets.generation, is_ready, not worker.liveness.unhealthy, frozenset(used),
            frozenset(worker.sockets.addresses),
        )  # fmt: skip

    def start(self) -> None:
        self.wanted = True
        self._starts_later = not self.may_start()
        if self._starts_later:
            return
        if not self.worker.child.process:
            self.worker.history.failures = Failures()
            self.worker.history.was_in_time = False
        self.worker.handle(Event.START)

    def stop(self) -> None:
        self.wanted = False
        self.halt()

    def halt(self) -> None:
        """Its workers end; what is wished for stays."""
        self._starts_later = False
        for worker in self.workers:
            worker.handle(Event.STOP)

    @property
    def is_down(self) -> bool:
        return all(worker.state not in HAS_PROCESS and worker.state is not State.BACKOFF for worker in self.workers)

    def replace_config(self, config: AppConfig) -> None:
        """For a slot whose worker is down."""
        self.worker.config = config

    def adopt(self, process: Process, saved: SavedWorker) -> Worker:
        """This living process of an earlier supervisor is the slot's worker, or the one that leaves it."""
        if saved.role is WorkerRole.CURRENT:
            self.worker = worker = self._make_worker(saved.config, saved.generation, WorkerRole.CURRENT, saved.state)
        else:
            # An incoming one may have got its first clients just before its supervisor died, so it drains as well.
            state = State.STOPPING if saved.state is State.STOPPING else State.RUNNING
            self.outgoing = worker = self._make_worker(saved.config, saved.generation, WorkerRole.OUTGOING, state)
        adopt_process(worker, process, saved)
        self._pid_file.note(self.worker.config, self.number, self.worker.child.process)
        return worker

    def adopt_end(self, saved: SavedEnd) -> None:
        """It was over under an earlier supervisor: a job that is done must not run twice."""
        former = self.worker
        self.worker = worker = self._make_worker(
            former.config, former.sockets.generation, WorkerRole.CURRENT, saved.state
        )
        adopt_end(worker, saved)

    @property
    def is_awaited(self) -> bool:
        """Clients may wait for it: a worker of it runs, or will by itself."""
        return not self.is_down or (self.wanted and self._is_to_start)

    @property
    def is_settled(self) -> bool:
        """Nothing of it is about to start or to end."""
        return not self.is_awaited or (self.worker.is_ready and not self.incoming and not self.outgoing)

    @property
    def is_only_wanted(self) -> bool:
        """True when nothing of it runs, and it should."""
        return self.wanted and self._is_to_start and not self.outgoing

    @property
    def _is_to_start(self) -> bool:
        return not self.worker.child.process and self.worker.state not in OVER_FOR_GOOD

    def go_on(self) -> None:
        """What an earlier supervisor had begun and did not end: the drain of a worker, a stop, a start."""
        if self.outgoing and self.outgoing.is_ready:
            self._left_generation = self.outgoing.sockets.generation
            self.retire()
        if self.wanted and self._is_to_start:
            self.start()
        elif not self.wanted and self.worker.child.process:
            self.stop()

    # -- reload: one worker more, for a while ------------------------------------------------------------------------

    def begin_reload(self, config: AppConfig) -> Worker:
        """Starts the incoming worker on the other generation's sockets."""
        assert not self.incoming, "a slot has at most two workers"
        assert not self.outgoing, "a slot has at most two workers"
        self.incoming = self._make_worker(config, 1 - self.worker.sockets.generation, WorkerRole.INCOMING)
        self.incoming.readiness.expect(_kept_addresses(self.worker, config))
        self.incoming.history.restarts = self.worker.history.restarts
        self._left_generation = None
        self.incoming.handle(Event.START)
        return self.incoming

    def promote(self) -> None:
        """The incoming worker is ready: it becomes the slot's worker, and the old one drains."""
        assert self.incoming
        assert self.incoming.is_ready
        self.outgoing, self.worker, self.incoming = self.worker, self.incoming, None
        self.worker.role = WorkerRole.CURRENT
        self._starts_later = False
        self._pid_file.note(self.worker.config, self.number, self.worker.child.process)
        self._left_generation = self.outgoing.sockets.generation
        self.retire()

    def abandon(self) -> None:
        """The incoming worker failed or is no longer wanted; the current one never noticed."""
        if self.incoming:
            self.incoming.handle(Event.STOP)
            # It stays as outgoing until its process is gone.
            self.outgoing, self.incoming = self.incoming, None
            self.outgoing.role = WorkerRole.OUTGOING
            self._forget_outgoing()
        if self.wanted and self._starts_later:
            self.start()

    def retire(self) -> None:
        """Lets the outgoing worker finish its connections, then stops it."""
        assert self.outgoing
        self.outgoing.role = WorkerRole.OUTGOING
        drain(self.outgoing)
        self._forget_outgoing()

    def leave(self) -> None:
        """The slot is given up: its worker finishes its connections and stops."""
        self.wanted = False
        self.abandon()
        if self.worker.is_ready and self.outgoing is None:
            self.outgoing, self.worker = self.worker, self._make_worker(self.worker.config, 0, WorkerRole.CURRENT)
            self.retire()
        else:
            self.stop()

    def _forget_outgoing(self) -> None:
        """Once it is over."""
        if self.outgoing and self.outgoing.state in _OVER:
            self.outgoing = None

    def note_stranded(self) -> None:
        """Clients wait where no worker accepts; `stranded` says when they can be helped."""
        self._left_generation = 1 - self.worker.sockets.generation
        self._runtime.manager.worker_changed(self.worker)

    def stranded(self) -> bool:
        """True when clients wait in the queue of the worker that left in a reload: only another reload serves them.

        What waits for an incoming worker that failed are our own probes.
        """
        left = self._left_generation
        if left is None or self.outgoing or self.incoming or not self.worker.is_ready:
            return False
        return any(
            listener.steered and listener.queue_length(self.number, left) > 0 for listener in self._listeners.values()
        )


def _kept_addresses(former: Worker, config: AppConfig) -> list[Address]:
    """Where the worker before listens for clients, who must find its successor there.

    Not where the configs say that it moves; nor at a path that nothing names, where there is another address.
    """
    port = _port_of(former)
    moved = port if known_port(config, former.place) not in (None, port) else None
    declared = {*map(parse_address, former.config.listen)} - {*map(parse_address, config.listen)}
    streams = [address for address in former.sockets.addresses if address.type == socket.SOCK_STREAM]
    kept = [address for address in streams if address not in declared and address.port != (moved or -1)]
    return [address for address in kept if address.port or len(streams) == 1 or _names(config, address.host)]


def _names(config: AppConfig, path: str) -> bool:
    """Whether clients may know the path: others, such as a program's own control socket, are not for them."""
    written = (*config.args, *config.env.values(), *config.listen)
    return any(os.path.basename(path) in text for text in written)


def _port_of(worker: Worker) -> Optional[int]:
    """The PORT that its process was given: the app's environment may be another one by now."""
    given = (variable for variable in environment_of(worker.pid) if variable.startswith(b"PORT="))
    return port_in(next(given, b"PORT=")[5:].decode(errors="replace")) or known_port(worker.config, worker.place)
