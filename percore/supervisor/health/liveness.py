"""Whether a running worker still serves: asked by health checks, seen in its accept queue.

An unhealthy worker gets no new connections, at once; after `liveness_timeout` a replacement is asked for.
"""

from __future__ import annotations

import time

from percore.common.typing import TYPE_CHECKING, Optional
from percore.supervisor.base.loop import Loop, OneTimer
from percore.supervisor.config.app import AppConfig
from percore.supervisor.health.probe import Probe, WorkerTarget, target_of
from percore.supervisor.sockets.worker_sockets import WorkerSockets

# From when on a queue that does not move is called stuck; until then the program may just be busy.
_STUCK_SECONDS = 1.0
_STUCK = "it accepts no connections"

if TYPE_CHECKING:
    from typing import Protocol

    class LivenessOwner(Protocol):
        """The worker that is to serve."""

        config: AppConfig

        def has_changed(self) -> None:
            """It became healthy or unhealthy."""

        def ask_for_replacement(self, reason: str) -> None: ...


def checkup_target(config: AppConfig, sockets: WorkerSockets) -> Optional[WorkerTarget]:
    """Where the health of a worker that serves is asked for; None where it has no address for that."""
    port = config.port_of(sockets.slot)
    if not config.shares_port:
        return WorkerTarget("127.0.0.1", port, health=config.health, asked=config.health_host) if port else None
    for address in sockets.addresses:
        if port in (None, address.port) and (listener := sockets.listeners.get(address)) and listener.steered:
            return target_of(sockets, address, config, is_incoming=False)
    return None


class Liveness:
    def __init__(self, loop: Loop, sockets: WorkerSockets, owner: LivenessOwner) -> None:
        self.unhealthy = ""  # why it gets no new connections although it runs
        self._loop = loop
        self._sockets = sockets
        self._owner = owner
        self._timeout = 0.0
        self._interval = 0.0
        self._unhealthy_since = 0.0
        self._timer = OneTimer(loop)
        self._probe: Optional[Probe] = None
        self._queue_length = 0
        self._queue_moved_at = self._looked_at = 0.0

    @property
    def is_stuck(self) -> bool:
        """It takes nothing from its queue: what it has begun will not end either."""
        return self.unhealthy == _STUCK

    def begin(self, config: AppConfig) -> None:
        """The worker serves from now on."""
        self._timeout = config.liveness_timeout
        self._interval = config.health_interval if config.health else 0.0
        self._plan()

    def end(self) -> None:
        self._timer.cancel()
        if self._probe:
            self._probe.cancel()
            self._probe = None
        self.unhealthy = ""
        self._queue_length = 0

    def note_queue(self, length: int, now: float) -> None:
        """What a look at its accept queue found. A queue that nothing was taken from for long means a blocked program.

        While clients wait, looks come close together; after a longer pause we were stopped, and what moved is not known.
        """
        if length == 0 or length < self._queue_length or now - self._looked_at > _STUCK_SECONDS:
            self._queue_moved_at = now
            if self.unhealthy == _STUCK:
                self._set_unhealthy("")
        elif self._queue_length == 0:
            self._queue_moved_at = now
        elif now - self._queue_moved_at > _STUCK_SECONDS and not self.unhealthy:
            self._set_unhealthy(_STUCK)
            self._unhealthy_since = self._queue_moved_at
        self._queue_length, self._looked_at = length, now
        self._replace_if_unhealthy_too_long(now)

    def _plan(self) -> None:
        if self._interval:
            self._timer.set(self._interval, self._check)

    def _check(self) -> None:
        target = checkup_target(self._owner.config, self._sockets)
        if target:
            self._probe = Probe(self._loop, target, self._passed, self._failed)
        else:
            self._plan()  # it has not bound its address yet, or gave it up

    def _passed(self) -> None:
        self._probe = None
        self._set_unhealthy("")
        self._plan()

    def _failed(self, reason: str) -> None:
        self._set_unhealthy(reason)
        self._replace_if_unhealthy_too_long(time.monotonic())

    def _set_unhealthy(self, reason: str) -> None:
        has_changed = bool(reason) != bool(self.unhealthy)
        self.unhealthy = reason
        if has_changed:
            self._unhealthy_since = time.monotonic()
            self._owner.has_changed()

    def _replace_if_unhealthy_too_long(self, now: float) -> None:
        if self.unhealthy and self._timeout and now - self._unhealthy_since >= self._timeout:
            self._unhealthy_since = now  # where the replacement fails as well, the next one is not due at once
            self._owner.ask_for_replacement(f"{self.unhealthy}, for {self._timeout:g} s")
