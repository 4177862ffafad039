"""One numbered place of an app: its wish, and its worker or two.

Invariant: a slot has at most two workers, at most one of them not ready; the old one is stopped only after the new one is
ready; if the new one fails, the old one is untouched. The slot of an app that shares no port never has two.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from percore.common.typing import Any, Optional
from percore.supervisor.config.address import Address
from percore.supervisor.config.app import AppConfig, Place
from percore.supervisor.core.backoff import Failures
from percore.supervisor.core.worker import Runtime, Worker
from percore.supervisor.loop import Timer
from percore.supervisor.process.pid_file import pid_path, write_pid
from percore.supervisor.process.process import Process
from percore.supervisor.sockets.listener import Listener
from percore.supervisor.sockets.requests import is_answering
from percore.supervisor.sockets.sharing import Mode
from percore.supervisor.state.saved import SavedWorker
from percore.supervisor.states import HAS_PROCESS, OVER_FOR_GOOD, Event, Role, State
from percore.supervisor.user import identity_or_none

# After the kernel was told to steer away, handshakes that had begun still arrive at the old socket.
_SETTLE_SECONDS = 0.1
# Preloads come back to a new supervisor after 0.2 s; before, it does not know what its workers have to finish.
_REUNION_SECONDS = 1.0
_DRAIN_POLL_SECONDS = 0.02
# Longer than Node's keepAliveTimeout (5 s), after which idle clients are gone by themselves.
_DRAIN_LIMIT_SECONDS = 6.0


class Slot:
    def __init__(
        self, runtime: Runtime, config: AppConfig, place: Place, listeners: Mapping[Address, Listener]
    ) -> None:
        self.place = place
        self.wanted = False
        self.unknown: Mapping[str, Any] = {}  # what another version wrote of it
        self._runtime = runtime
        self._listeners = listeners
        self.worker = self._make_worker(config, 0, Role.CURRENT)
        self.incoming: Optional[Worker] = None
        self.outgoing: Optional[Worker] = None
        self._noted = ("", 0)  # the pid file, and what it says
        self._left_generation: Optional[int] = None  # the one that served before the last reload
        self._starts_later = False  # it was to start while an incoming worker did

    def _make_worker(self, config: AppConfig, generation: int, role: Role) -> Worker:
        return Worker(
            self._runtime, self.place, self._listeners, config, generation, role, self._worker_changed, self._may_start
        )

    def _may_start(self) -> bool:
        """Whether its worker may: not while the one that is to take its place is not ready either."""
        return self.incoming is None or self.incoming.state is not State.STARTING

    def _worker_changed(self, worker: Worker) -> None:
        self.note_pid()
        self.sweep()
        self._runtime.tell(worker)

    @property
    def number(self) -> int:
        return self.place.number

    @property
    def id(self) -> int:
        return self.place.id

    @property
    def workers(self) -> list[Worker]:
        return [worker for worker in (self.worker, self.incoming, self.outgoing) if worker]

    def note_pid(self) -> None:
        """The pid file names the slot's worker, and is gone when there is none."""
        wished = (pid_path(self.worker.config, self.id, self._runtime.site.home.pids), self.worker.pid)
        if wished == self._noted:
            return
        user = identity_or_none(self.worker.config.user, self.worker.config.group)
        for path, pid in {self._noted[0]: 0, wished[0]: wished[1]}.items():
            try:
                if path:
                    write_pid(path, pid, user)
            except (OSError, ValueError) as error:
                # The worker runs all the same; stderr is the supervisor's log.
                reason = getattr(error, "strerror", None) or error
                sys.stderr.write(f"{self.worker.config.name} {self.number}: {path} cannot be written: {reason}\n")
        self._noted = wished

    def start(self) -> None:
        self.wanted = True
        self._starts_later = not self._may_start()
        if self._starts_later:
            return
        if not self.worker.process:
            self.worker.failures = Failures()
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
        if saved.role is Role.CURRENT:
            self.worker = worker = self._make_worker(saved.config, saved.generation, Role.CURRENT)
            worker.adopt(process, saved, saved.state)
        else:
            # An incoming one may have got its first clients just before its supervisor died, so it drains as well.
            self.outgoing = worker = self._make_worker(saved.config, saved.generation, Role.OUTGOING)
            is_told = saved.state is State.STOPPING
            worker.adopt(process, saved, State.STOPPING if is_told else State.RUNNING)
        self.note_pid()
        return worker

    @property
    def is_only_wanted(self) -> bool:
        """True when nothing of it runs, and it should."""
        return self.wanted and self._is_to_start and not self.outgoing

    @property
    def _is_to_start(self) -> bool:
        return not self.worker.process and self.worker.state not in OVER_FOR_GOOD

    def go_on(self) -> None:
        """What an earlier supervisor had begun and did not end: the drain of a worker, a stop, a start."""
        if self.outgoing and self.outgoing.is_ready:
            self._left_generation = self.outgoing.generation
            self.retire()
        if self.wanted and self._is_to_start:
            self.start()
        elif not self.wanted and self.worker.process:
            self.stop()

    # -- reload: one worker more, for a while ------------------------------------------------------------------------

    def begin_reload(self, config: AppConfig) -> Worker:
        """Starts the incoming worker on the other generation's sockets."""
        assert not self.incoming, "a slot has at most two workers"
        assert not self.outgoing, "a slot has at most two workers"
        self.incoming = self._make_worker(config, 1 - self.worker.generation, Role.INCOMING)
        self.incoming.restarts = self.worker.restarts
        self._left_generation = None
        self.incoming.handle(Event.START)
        return self.incoming

    def promote(self) -> None:
        """The incoming worker is ready: it becomes the slot's worker, and the old one drains."""
        assert self.incoming
        assert self.incoming.is_ready
        self.outgoing, self.worker, self.incoming = self.worker, self.incoming, None
        self.worker.role = Role.CURRENT
        self._starts_later = False
        self.note_pid()
        self._left_generation = self.outgoing.generation
        self.retire()

    def abandon(self) -> None:
        """The incoming worker failed or is no longer wanted; the current one never noticed."""
        if self.incoming:
            self.incoming.handle(Event.STOP)
            # It stays as outgoing until its process is gone.
            self.outgoing, self.incoming = self.incoming, None
            self.outgoing.role = Role.OUTGOING
            self.sweep()
        if self.wanted and self._starts_later:
            self.start()

    def retire(self) -> None:
        """Lets the outgoing worker finish its connections, then stops it."""
        assert self.outgoing
        self.outgoing.role = Role.OUTGOING
        can_drain = self.outgoing.config.shares_port and not self.outgoing.liveness.is_stuck
        if not self.outgoing.is_ready or not can_drain:
            self.outgoing.handle(Event.STOP)
            self.sweep()
            return
        self.outgoing.liveness.end()
        for preload in self.outgoing.preloads:
            preload.ask(self._runtime.sharing.mode is not Mode.STEERED)
        now = time.monotonic()
        settled_at = max(now + _SETTLE_SECONDS, self.outgoing.adopted_at + _REUNION_SECONDS)
        # A timer, because the time in which we are stopped ourselves counts for no limit.
        self._drain(self.outgoing, settled_at, self._runtime.loop.later(_DRAIN_LIMIT_SECONDS, lambda: None))

    def _drain(self, worker: Worker, settled_at: float, limit: Timer) -> None:
        if worker is not self.outgoing or not worker.is_ready:
            limit.cancel()
            return
        now = time.monotonic()
        if limit.is_over or (now >= settled_at and self._is_drained(worker)):
            limit.cancel()
            worker.handle(Event.STOP)
        else:
            # A look at ten thousand connections takes a while: it is not taken all the time.
            wait = max(_DRAIN_POLL_SECONDS, 10 * (time.monotonic() - now))
            self._runtime.loop.later(wait, lambda: self._drain(worker, settled_at, limit))

    def _is_drained(self, worker: Worker) -> bool:
        if not all(preload.is_drained for preload in worker.preloads) or worker.queue_length() > 0:
            return False
        return not is_answering(worker.pid, {address.port for address in worker.addresses if address.can_steer})

    def leave(self) -> None:
        """The slot is given up: its worker finishes its connections and stops."""
        self.wanted = False
        self.abandon()
        if self.worker.is_ready and self.outgoing is None:
            self.outgoing, self.worker = self.worker, self._make_worker(self.worker.config, 0, Role.CURRENT)
            self.retire()
        else:
            self.stop()

    def sweep(self) -> None:
        """Forgets workers that are over."""
        over = (State.STOPPED, State.FATAL, State.EXITED)
        if self.outgoing and self.outgoing.state in over:
            self.outgoing = None

    def note_stranded(self) -> None:
        """Clients wait where no worker accepts; `stranded` says when they can be helped."""
        self._left_generation = 1 - self.worker.generation
        self._runtime.tell(self.worker)

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
