"""The end of a worker that has served: it finishes its connections, then it is stopped."""

from __future__ import annotations

import time

from percore.supervisor.base.loop import Timer
from percore.supervisor.base.states import Event
from percore.supervisor.core.worker.figures import DRAIN_LIMIT, DRAINED, UNFINISHED
from percore.supervisor.core.worker.worker import Worker
from percore.supervisor.sockets.sharing import Mode
from percore.supervisor.sockets.sock_diag import count_unanswered, is_answering

# After the kernel was told to steer away, handshakes that had begun still arrive at the old socket.
_SETTLE_SECONDS = 0.1
# Preloads come back to a new supervisor after 0.2 s; before, it does not know what its workers have to finish.
_REUNION_SECONDS = 1.0
_POLL_SECONDS = 0.02
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
    # A timer, because the time in which we are stopped ourselves counts for no limit.
    look(worker, settled_at, worker.runtime.loop.later(_LIMIT_SECONDS, lambda: None))


def look(worker: Worker, settled_at: float, limit: Timer) -> None:
    if not worker.is_ready:
        limit.cancel()
        return
    now = time.monotonic()
    if limit.is_over or (now >= settled_at and _is_drained(worker)):
        is_cut = limit.is_over
        limit.cancel()
        _end(worker, is_cut=is_cut)
    else:
        # A look at ten thousand connections takes a while: it is not taken all the time.
        wait = max(_POLL_SECONDS, 10 * (time.monotonic() - now))
        worker.runtime.loop.later(wait, lambda: look(worker, settled_at, limit))


def _is_drained(worker: Worker) -> bool:
    sockets = worker.sockets
    if not all(preload.is_drained for preload in sockets.preloads) or sockets.queue_length() > 0:
        return False
    return not is_answering(worker.pid, {address.port for address in sockets.addresses if address.can_steer})


def _end(worker: Worker, *, is_cut: bool) -> None:
    """`is_cut`: it has not drained, but reached the limit."""
    name, runtime = worker.config.name, worker.runtime
    runtime.counts.add(name, DRAIN_LIMIT if is_cut else DRAINED)
    ports = {address.port for address in worker.sockets.addresses if address.can_steer} if is_cut else set()
    if unanswered := count_unanswered(worker.pid, ports):
        runtime.counts.add(name, UNFINISHED, unanswered)

    def stop() -> None:
        if worker.is_ready:  # it may have ended by itself
            worker.handle(Event.STOP)

    if worker.config.app_metrics:
        runtime.farewells.say(name, worker.number, worker.pid, stop)
    else:
        stop()
