"""Whether a worker that was started is ready: which proof is asked for, and until when."""

from __future__ import annotations

import time

from percore.common.procfs import state_of, tree_of
from percore.common.typing import Callable, Optional
from percore.supervisor.base.loop import LoopScope, OneTimer
from percore.supervisor.config.address import Address, parse_address
from percore.supervisor.config.app import AppConfig
from percore.supervisor.health.probe import Probe, WorkerTarget, target_of
from percore.supervisor.sockets.port_owner import find_other_owner
from percore.supervisor.sockets.worker_sockets import WorkerSockets

# A clustered app of which no port is known may take this long until it asks for one.
_NOWHERE_SECONDS = 3.0
_STILL_STARTING_SECONDS = 0.5  # between two looks, on a machine so busy that it is not through with its start by then
# A worker that listens on a port alone may still ask, for this long, for one to share.
_ALONE_SECONDS = 1.0


class Readiness:
    def __init__(self, loop: LoopScope, sockets: WorkerSockets, answer: Callable[[str], None]) -> None:
        """`answer` is called with an empty text for a proof, or with the reason why none came in time; not after `cancel`."""
        self._loop = loop
        self._sockets = sockets
        self._answer = answer
        self._pid = 0  # of the process that is to become ready; 0: nothing is asked for
        self._token = ""
        self._started_at = 0.0  # monotonic seconds
        self._config: AppConfig
        self._is_incoming = False
        self._expected: Optional[int] = None  # the port that its predecessor listens on for clients
        self._timer = OneTimer(loop)
        self._probe: Optional[Probe] = None

    def begin(self, pid: int, token: str, started_at: float, config: AppConfig, *, is_incoming: bool) -> None:
        self._pid, self._token, self._started_at = pid, token, started_at
        self._config, self._is_incoming = config, is_incoming
        if not (config.wait_ready or config.shares_port or config.port is not None):
            self._ready_soon()  # that it was executed is all there is to know
            return
        limit = config.listen_timeout
        self._timer.set(min(limit, _NOWHERE_SECONDS) if self._may_listen_nowhere() else limit, self._timed_out)
        port = config.port_of(self._sockets.slot)
        if port and not config.shares_port and not config.wait_ready:
            other, asked = self._find_other_owner, config.health_host
            self._start_probe(WorkerTarget("127.0.0.1", port, health=config.health, asked=asked, find_other=other))
        elif config.listen and not config.wait_ready:
            self._await_accepting(config)

    def expect(self, port: Optional[int]) -> None:
        """It is to take over from a worker that listens on its PORT: to listen elsewhere proves nothing."""
        self._expected = port

    def cancel(self) -> None:
        self._pid = 0
        self._timer.cancel()
        if self._probe:
            self._probe.cancel()
            self._probe = None

    def said_ready(self) -> None:
        """The program itself told, over Node's channel or systemd's; only `wait_ready` asks for that."""
        if self._pid and self._config.wait_ready:
            self._answer(self._listens_elsewhere())

    def bound(self, address: Address) -> None:
        """The worker asked for, and got, its socket of this address."""
        if not self._pid or self._config.wait_ready or self._probe:
            return
        if self._config.port_of(self._sockets.slot) not in (None, address.port) or self._listens_elsewhere():
            return
        target = target_of(self._sockets, address, self._config, is_incoming=self._is_incoming)
        if target:
            self._start_probe(target)
        else:
            # Nothing can be sent to this one worker alone; that it holds the address is the best proof there is.
            self._ready_soon()

    def _listens_elsewhere(self) -> str:
        """Empty unless it listens, and not where it should."""
        ports = sorted({address.port for address in self._sockets.addresses if address.port})
        if self._expected is None or self._expected in ports or not ports:
            return ""
        return f"it listens on port {', '.join(map(str, ports))}, not on {self._expected}"

    def listens_alone(self) -> None:
        """It listens on a port that the kernel chose. Where nothing shared follows soon, that is all there is to prove."""
        pid = self._pid

        def is_all() -> None:
            if not pid or pid != self._pid or self._sockets.addresses or self._probe:
                return
            if not (self._config.wait_ready or self._config.port):
                self._answer("")

        self._loop.later(_ALONE_SECONDS, is_all)

    def _await_accepting(self, config: AppConfig) -> None:
        """A program that takes LISTEN_FDS never asks for an address: that it accepts is what it shows."""
        for address in map(parse_address, config.listen):
            target = target_of(self._sockets, address, config, is_incoming=self._is_incoming)
            if target:
                self._start_probe(target)
                return
        self._ready_soon()

    def _find_other_owner(self) -> str:
        """Another program may have had the port before; its answers prove nothing."""
        port = self._config.port_of(self._sockets.slot)
        if not self._pid or not port:
            return ""
        return find_other_owner(port, self._token, tree_of(self._pid))

    def _may_listen_nowhere(self) -> bool:
        """A clustered app of which no port is known, such as a queue consumer: that it lives is all there is to prove."""
        config = self._config
        return not (config.wait_ready or config.port or config.health or config.listen or self._sockets.listeners)

    def _timed_out(self) -> None:
        config = self._config
        left = self._started_at + config.listen_timeout - time.monotonic()
        if self._may_listen_nowhere():
            if left > 0 and any(state_of(pid) in ("R", "D") for pid in tree_of(self._pid)):
                self._timer.set(min(left, _STILL_STARTING_SECONDS), self._timed_out)
            else:
                self._answer("")
            return
        if left > 0:  # it asked for a port meanwhile
            self._timer.set(left, self._timed_out)
            return
        waited_for = "the ready message" if config.wait_ready else "it to listen"
        reason = self._probe.reason if self._probe else self._listens_elsewhere() or f"it waited for {waited_for}"
        self._answer(f"not ready within {config.listen_timeout:g} s ({reason})")

    def _start_probe(self, target: WorkerTarget) -> None:
        self._probe = Probe(self._loop.outer, target, lambda: self._answer(""))

    def _ready_soon(self) -> None:
        """In this turn of the loop, but not before all others saw that it starts."""
        self._timer.set(0, lambda: self._answer(""))
