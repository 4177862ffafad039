"""Whether a worker that was started is ready: which proof is asked for, and until when.

It must listen on the port that its app is known by, and wherever the worker listens that it is to take over from. What opens
first, such as a port for metrics or an inspector, proves nothing then.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Collection, Iterable

from percore.common.procfs import state_of, tree_of
from percore.common.typing import Callable, Optional
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import LoopScope, OneTimer
from percore.supervisor.config.address import Address, parse_address
from percore.supervisor.config.app import AppConfig, Place, known_port
from percore.supervisor.health.probe import WorkerTarget, target_of
from percore.supervisor.health.proofs import Proofs
from percore.supervisor.sockets.port_owner import find_other_owner
from percore.supervisor.sockets.worker_sockets import WorkerSockets

# A clustered app of which no port is known may take this long until it asks for one.
_NOWHERE_SECONDS = 3.0
_STILL_STARTING_SECONDS = 0.5  # between two looks, on a machine so busy that it is not through with its start by then
# A worker that listens on a port alone may still ask, for this long, for one to share.
_ALONE_SECONDS = 1.0
# A worker that was not given an address may go on looking for one that it is given.
_REFUSED_SECONDS = 2.0


class Readiness:
    def __init__(self, loop: LoopScope, sockets: WorkerSockets, answer: Callable[[str], None]) -> None:
        """`answer` is called with an empty text for a proof, or with the reason why none came in time; not after `cancel`."""
        self._loop = loop
        self._sockets = sockets
        self._answer = answer
        self._pid = 0  # of the process that is to become ready; 0: nothing is asked for
        self._started_at = 0.0  # monotonic seconds
        self._config: AppConfig
        self._is_incoming = False
        self._port: Optional[int] = None  # the one that the app is known by
        self._expected: Collection[Address] = ()  # that its predecessor listens on
        self._has_said = False  # that it is ready
        self._has_closed_all = False  # where it listened, as programs do that look whether a port is free
        self.is_late = False  # its time was over before
        self._timer = OneTimer(loop)
        self._proofs = Proofs(loop, self)
        self._asked: list[Address] = []  # what is to be proved

    def begin(
        self, pid: int, token: str, started_at: float, config: AppConfig, place: Place, *, is_incoming: bool
    ) -> None:
        self._pid, self._started_at = pid, started_at
        self._config, self._is_incoming = config, is_incoming
        self._has_said = self._has_closed_all = self.is_late = False
        self._port = known_port(config, place)
        if not (config.wait_ready or config.shares_port or config.port is not None):
            self._proofs.ask(())  # that it was executed is all there is to know
            return
        limit = config.listen_timeout
        self._timer.set(min(limit, _NOWHERE_SECONDS) if self._may_listen_nowhere() else limit, self._timed_out)
        port = config.port_of(place.number)
        if port and not config.shares_port and not config.wait_ready:
            other = functools.partial(_other_owner, port, token, pid)
            self._proofs.ask(
                [WorkerTarget("127.0.0.1", port, health=config.health, asked=config.health_host, find_other=other)]
            )
        elif config.listen and not config.wait_ready:
            # A program that takes LISTEN_FDS never asks for an address: that it accepts is what it shows.
            self._prove([parse_address(written) for written in config.listen][:1])

    def expect(self, addresses: Collection[Address]) -> None:
        """It is to take over from a worker that listens there."""
        self._expected = addresses

    def cancel(self) -> None:
        self._pid = 0
        self._timer.cancel()
        self._proofs.cancel()

    # -- what the worker does ----------------------------------------------------------------------------------------

    def said_ready(self) -> None:
        """The program itself told, over Node's channel or systemd's; only `wait_ready` asks for that."""
        if self._pid and self._config.wait_ready:
            self._has_said = True
            if not self._missing():
                self._answer("")

    def proved(self) -> None:
        self._answer("")

    def addresses_changed(self) -> None:
        """The worker listens on one more, or closed one."""
        config, addresses = self._config, self._sockets.addresses
        if not self._pid or not config.shares_port or (config.listen and not config.wait_ready):
            return
        self._has_closed_all = not addresses
        if self._may_listen_nowhere():
            self._timer.set(_NOWHERE_SECONDS, self._timed_out)
        if self._missing() or not addresses or (config.wait_ready and not self._has_said):
            self._proofs.cancel()
        elif config.wait_ready:
            self._proofs.ask(())
        elif not self._proofs.is_under_way or not set(self._asked) <= set(addresses):
            self._prove(self._addresses_to_prove())

    def listens_alone(self) -> None:
        """It listens on a port that the kernel chose. Where nothing shared follows soon, that is all there is to prove."""
        pid = self._pid

        def is_all() -> None:
            if not pid or pid != self._pid or self._sockets.addresses or self._expected:
                return
            if not (self._config.wait_ready or self._config.port):
                self._answer("")

        self._loop.later(_ALONE_SECONDS, is_all)

    def was_refused(self, reason: str) -> None:
        """It may only have looked for a free port. If it listens nowhere soon after, this is why."""
        pid = self._pid

        def is_all() -> None:
            if pid and pid == self._pid and not self._sockets.addresses:
                self._answer(reason)

        self._loop.later(_REFUSED_SECONDS, is_all)

    # -- what it is to prove -----------------------------------------------------------------------------------------

    def _missing(self) -> str:
        """Where it should listen and does not; empty when there is nothing."""
        addresses = self._sockets.addresses
        for address in self._expected:
            if address not in addresses:
                return f"it does not listen on {address}, where the worker before it does"
        if self._config.wait_ready and not addresses:
            return ""  # its word is enough
        if self._port and self._port not in {address.port for address in addresses}:
            elsewhere = f"listens on {', '.join(map(str, addresses))}, but " if addresses else ""
            return f"it {elsewhere}does not listen on port {self._port}"
        return ""

    def _addresses_to_prove(self) -> list[Address]:
        """The port that the app is known by comes first."""
        addresses = self._sockets.addresses
        known = [address for address in addresses if address.port == self._port][:1]
        return [*known, *(address for address in self._expected if address not in known)] or addresses[:1]

    def _prove(self, addresses: list[Address]) -> None:
        """That it holds an address to which nothing can be sent is the best proof there is."""
        self._asked = addresses
        is_known = bool(self._port or self._config.listen)
        config = self._config
        if is_known:
            without = config._replace(health=None)
            self._proofs.ask([*self._targets(addresses[:1], config), *self._targets(addresses[1:], without)])
        else:  # any of its addresses may be the one with the health path
            others = (lambda: self._targets(self._sockets.addresses, config)) if config.health else tuple
            self._proofs.ask(self._targets(addresses, config), others)

    def _targets(self, addresses: Iterable[Address], config: AppConfig) -> list[WorkerTarget]:
        found = (target_of(self._sockets, address, config, is_incoming=self._is_incoming) for address in addresses)
        return [target for target in found if target]

    # -- when it takes too long --------------------------------------------------------------------------------------

    def _may_listen_nowhere(self) -> bool:
        """A clustered app of which no port is known, such as a queue consumer: that it lives is all there is to prove."""
        config = self._config
        if config.wait_ready or config.port or config.health or config.listen:
            return False
        return not self._sockets.listeners or (self._has_closed_all and not self._expected and not self._port)

    def _timed_out(self) -> None:
        config = self._config
        left = self._started_at + config.listen_timeout - time.monotonic()
        is_guess = config.port is None and "PORT" not in config.env
        if self._may_listen_nowhere():
            if left > 0 and any(state_of(pid) in ("R", "D") for pid in tree_of(self._pid)):
                self._timer.set(min(left, _STILL_STARTING_SECONDS), self._timed_out)
            else:
                self._answer("")
        elif left > 0:  # it asked for a port meanwhile
            self._timer.set(left, self._timed_out)
        elif self._port and is_guess and self._sockets.addresses and not config.wait_ready:
            log(f"{config.name} {self._sockets.slot}: {self._missing()}, the PORT of the shell that started it")
            self._port = None
            self._timer.set(_REFUSED_SECONDS, self._timed_out)
            self.addresses_changed()
        else:
            waited_for = "the ready message" if config.wait_ready and not self._has_said else "it to listen"
            missing = self._missing() if self._sockets.addresses and waited_for == "it to listen" else ""
            reason = missing or self._proofs.reason or f"it waited for {waited_for}"
            self.is_late = True
            self._answer(f"not ready within {config.listen_timeout:g} s ({reason})")


def _other_owner(port: int, token: str, pid: int) -> str:
    """Another program may have had the port before; its answers prove nothing."""
    return find_other_owner(port, token, tree_of(pid))
