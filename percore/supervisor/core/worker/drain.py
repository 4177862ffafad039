"""The end of a worker that has served: it finishes its connections, then it is stopped.

Its HTTP clients are told, with the next answer, to come back over a new connection: by the program itself where it is Node
(preload.cjs), and by the bind shim in it. So those that are busy are soon gone. A client that is silent may not ask for
hours, and one that does not hear us asks for ever: neither keeps the worker from ending.
"""

from __future__ import annotations

import time

from percore.common.typing import NamedTuple
from percore.supervisor.base.loop import Timer
from percore.supervisor.base.states import Event
from percore.supervisor.core.worker.figures import DRAIN_LIMIT, DRAINED, UNFINISHED
from percore.supervisor.core.worker.worker import Worker
from percore.supervisor.sockets.sharing import Mode
from percore.supervisor.sockets.sock_diag import count_unanswered, is_serving

# After the kernel was told to steer away, handshakes that had begun still arrive at the old socket.
_SETTLE_SECONDS = 0.1
# Preloads come back to a new supervisor after 0.2 s; before, it does not know what its workers have to finish.
_REUNION_SECONDS = 1.0
_POLL_SECONDS = 0.02
# A connection that nothing went over for so long belongs to a client that is not about to ask.
_IDLE_MS = 1000
# From then on it is enough that no client waits for an answer.
_PATIENCE_SECONDS = 3.0
# Longer than Node's keepAliveTimeout (5 s), after which idle clients are gone by themselves.
_LIMIT_SECONDS = 6.0


def drain(worker: Worker) -> None:
    """At once a stop, where there is nothing that it could finish."""
    can_drain = worker.config.shares_port and not worker.liveness.is_stuck
    if not worker.is_ready or not can_drain:
        worker.handle(Event.STOP)
        return
    worker.liveness.end()
    for preload in worker.sockets.preloads:
        preload.ask(worker.runtime.sharing.mode is not Mode.STEERED)
    now = time.monotonic()
    settled_at = max(now + _SETTLE_SECONDS, worker.child.adopted_at + _REUNION_SECONDS)
    # Timers, because the time in which we are stopped ourselves counts for no limit.
    later = worker.runtime.loop.later
    look(worker, Limits(settled_at, later(_PATIENCE_SECONDS, lambda: None), later(_LIMIT_SECONDS, lambda: None)))


class Limits(NamedTuple):
    settled_at: float  # monotonic seconds
    patience: Timer
    end: Timer

    def is_reached(self, worker: Worker) -> bool:
        is_settled = time.monotonic() >= self.settled_at
        return self.end.is_over or (is_settled and _is_drained(worker, is_patient=not self.patience.is_over))


def look(worker: Worker, limits: Limits) -> None:
    now = time.monotonic()
    if worker.is_ready and not limits.is_reached(worker):
        worker.sockets.mark(drains=True)
        # A look at ten thousand connections takes a while: it is not taken all the time.
        wait = max(_POLL_SECONDS, 10 * (time.monotonic() - now))
        worker.runtime.loop.later(wait, lambda: look(worker, limits))
        return
    is_cut = limits.end.is_over
    limits.patience.cancel()
    limits.end.cancel()
    if worker.is_ready:
        _end(worker, is_cut=is_cut)


def _is_drained(worker: Worker, *, is_patient: bool) -> bool:
    sockets = worker.sockets
    if not all(preload.is_drained for preload in sockets.preloads) or sockets.queue_length() > 0:
        return False
    return not is_serving(worker.pid, _ports_of(worker), idle_ms=_IDLE_MS if is_patient else 0)


def _ports_of(worker: Worker) -> set[int]:
    return {address.port for address in worker.sockets.addresses if address.can_steer}


def _end(worker: Worker, *, is_cut: bool) -> None:
    """`is_cut`: it has not drained, but reached the limit."""
    name, runtime = worker.config.name, worker.runtime
    runtime.counts.add(name, DRAIN_LIMIT if is_cut else DRAINED)
    if unanswered := count_unanswered(worker.pid, _ports_of(worker) if is_cut else set()):
        runtime.counts.add(name, UNFINISHED, unanswered)

    def stop() -> None:
        if worker.is_ready:  # it may have ended by itself
            worker.handle(Event.STOP)

    if worker.config.app_metrics:
        runtime.farewells.say(name, worker.number, worker.pid, stop)
    else:
        stop()
