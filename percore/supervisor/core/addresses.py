"""Where the workers of one app listen: what is opened for them, and when it is closed.

An address lives as long as a worker listens there, or one that did is about to start again. Who listens is asked of the kernel:
a worker tells when it closes something, but another process of it may go on.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence

from percore.common.typing import TYPE_CHECKING, Optional
from percore.errors import PercoreError
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Timer
from percore.supervisor.base.rlimits import share_of_descriptors
from percore.supervisor.base.states import State
from percore.supervisor.config.address import Address, AddressInUse
from percore.supervisor.core.routing import Router
from percore.supervisor.core.slot import Slot
from percore.supervisor.core.worker.worker import Runtime, Worker
from percore.supervisor.process.process import members_of
from percore.supervisor.sockets.bind_rights import Rights, needs_rights
from percore.supervisor.sockets.listener import Listener
from percore.supervisor.sockets.rate_limit import Allowance

MOST_ADDRESSES = 64  # that the workers of one app may share
_NEW_ADDRESSES_PER_SECOND = 4  # each costs the loop some milliseconds
# A program that closes its server in order to end is soon gone, and clients wait for the next one.
_CLOSED_SECONDS = 0.5

if TYPE_CHECKING:
    from typing import Protocol

    class AddressOwner(Protocol):
        """The app."""

        runtime: Runtime
        router: Router
        slots: list[Slot]
        leaving: list[Slot]

        @property
        def name(self) -> str: ...

        @property
        def living(self) -> Iterator[Worker]: ...

        def steer(self) -> None: ...


class AppAddresses:
    def __init__(self, owner: AddressOwner) -> None:
        self.new_ones = Allowance(MOST_ADDRESSES, _NEW_ADDRESSES_PER_SECOND)
        self._owner = owner
        self._review: Optional[Timer] = None

    @property
    def _listeners(self) -> dict[Address, Listener]:
        return self._owner.router.listeners

    # -- opened ------------------------------------------------------------------------------------------------------

    def open(self, address: Address, rights: Rights) -> Listener:
        """The shared sockets, opened when the first worker asks. Raises PercoreError or OSError."""
        known = self.find(address, rights)
        if known and not known.restore_path():
            self._close([address])  # its path cannot lead to it any more
            known = None
        if known is None:
            self._make_room(address)
            owner = self._owner
            if len(self._listeners) >= most_addresses(len(owner.slots)):
                self._close(self._unused())
            refuse_too_many(owner.name, len(self._listeners), len(owner.slots))
            known = owner.router.open(address, len(owner.slots), rights)
            owner.steer()
        return known

    def find(self, address: Address, rights: Rights) -> Optional[Listener]:
        """None where it is not open yet. Raises PermissionError where it was opened with other rights."""
        known = self._listeners.get(address)
        if known and rights.actor and not known.rights.actor and needs_rights(address):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return known

    def _make_room(self, address: Address) -> None:
        """What nobody listens on any more, or only the file declared, is closed for another host on the same port."""
        for other in [other for other in self._listeners if other.overlaps(address)]:
            living = self._owner.living
            holders = [each for each in living if each.sockets.listens_on(other, members_of_worker(each))]
            if holders:
                raise Overlap(self._owner.name, address, other, holders)
            self._close([other])

    # -- closed ------------------------------------------------------------------------------------------------------

    def worker_changed(self) -> None:
        """A stopped app holds no port."""
        owner = self._owner
        if self._listeners and not any(slot.is_awaited for slot in (*owner.slots, *owner.leaving)):
            self._close(list(self._listeners))
        elif self._listeners and all(slot.is_settled for slot in owner.slots):
            self.review_soon()

    def review_soon(self) -> None:
        """A worker may have closed something, or listens elsewhere than the one before it."""
        if self._review is None:
            self._review = self._owner.runtime.loop.later(_CLOSED_SECONDS, self._review_now)

    def _review_now(self) -> None:
        self._review = None
        is_settled = all(slot.is_settled for slot in self._owner.slots)
        for worker in [worker for worker in self._owner.living if worker.sockets.has_closed]:
            if is_settled or worker.state is State.STARTING:  # that one is asked for proofs where it listens
                self._forget_closed(worker)
        if is_settled:
            self._close_unused()

    def _forget_closed(self, worker: Worker) -> None:
        if worker.sockets.forget_closed(list(members_of_worker(worker))):
            note_addresses(worker)
        if worker.sockets.has_closed:
            self.review_soon()

    def _close_unused(self) -> None:
        owner = self._owner
        for address in (unused := self._unused()):
            log(f"{owner.name}: no worker listens on {address} any more, so it is closed")
        self._close(unused)

    def _unused(self) -> list[Address]:
        used = {address for worker in self._owner.living for address in worker.sockets.addresses}
        return [address for address in self._listeners if address not in used]

    def _close(self, addresses: Iterable[Address]) -> None:
        for address in addresses:
            self._owner.router.drop(address)


def note_addresses(worker: Worker) -> None:
    """It listens on one more, or closed one."""
    if worker.is_ready:
        worker.has_changed()  # there is another one to be remembered
    else:
        worker.readiness.addresses_changed()


def members_of_worker(worker: Worker) -> Iterator[int]:
    """The pids of its processes."""
    return members_of(worker.pid, worker.child.token)


def most_addresses(workers: int) -> int:
    return max(1, min(MOST_ADDRESSES, share_of_descriptors(4) // (2 * workers or 1)))


def refuse_too_many(name: str, addresses: int, workers: int) -> None:
    """Raises PercoreError where an app that listens on so many addresses may not open another one."""
    if addresses >= (most := most_addresses(workers)):
        raise PercoreError(
            f"'{name}' listens on {most} addresses, which is the most for an app of {workers} workers",
            next="close what is no longer used, or set share_port: false",
        )


class Overlap(AddressInUse):
    """Workers listen on the same port of another address of the host."""

    def __init__(self, name: str, address: Address, other: Address, holders: Sequence[Worker]) -> None:
        super().__init__(
            f"{address} overlaps with {other}, where the workers in service listen",
            next=f"percore stop {name}, then start it anew",
        )
        self.holders = holders
        # It may be gone in a moment: programs look for a free port in this way.
        self.is_brief = all(not each.is_ready and each.sockets.has_just_taken(other) for each in holders)
