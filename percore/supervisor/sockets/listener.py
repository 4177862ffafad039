"""Listening sockets that outlive every worker.

One address of an app = two SO_REUSEPORT sockets per slot, generation A and B: the running worker accepts on one, and
during a reload the incoming worker gets the other. They are never closed while the app is wanted: connections that wait in
a dead worker's queue are answered by its successor. A kernel program (`steering`) picks the socket of a new connection.

UDP and Unix addresses get one socket that all workers of the app accept from; machines that cannot steer, what
`sharing` found.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence

from percore.common.typing import Callable, Optional
from percore.supervisor.base.home import short_path
from percore.supervisor.base.user_files import acting
from percore.supervisor.config.address import Address
from percore.supervisor.sockets import port_owner, reuseport_bpf, unix
from percore.supervisor.sockets.bind_rights import OURS, Rights
from percore.supervisor.sockets.reuseport_bpf import ProbeSource
from percore.supervisor.sockets.sharing import Mode

_BACKLOG = 4096

SocketKey = tuple[int, int]  # slot, generation


class SteeredGroup:
    """The kernel's group of an address's sockets: the number of each in it, and the program that picks one of them."""

    def __init__(self, address: Address, sockets: list[socket.socket]) -> None:
        """`sockets` are those of the listener, by `index_in_group`."""
        self.order: list[int] = []  # the kernel's number of each socket
        self._address = address
        self._sockets = sockets
        self._wish: Optional[tuple[list[SocketKey], dict[ProbeSource, SocketKey]]] = None
        self._steered_to: object = None

    def begin(self) -> None:
        """From the first connection on, whatever comes waits where the first worker will accept it."""
        reuseport_bpf.attach(self._sockets[0], reuseport_bpf.steering_program([0], {}))

    def make_whole(self, found: Mapping[int, socket.socket], count: int, open_one: Callable[[], socket.socket]) -> None:
        """Only these sockets are left, by their index: those that are missing are opened anew."""
        self._sockets[:] = found.values()
        self._learn_order(range(len(found)))
        alive = list(self.order)
        # Those that are missing join the group at its end; until they have a worker nothing may go to them.
        reuseport_bpf.attach(self._sockets[0], reuseport_bpf.steering_program(alive, {}))
        self._sockets[:] = [found.get(index) or open_one() for index in range(count)]
        numbers, joined = dict(zip(found, alive)), itertools.count(len(found))
        self.order = [numbers[index] if index in found else next(joined) for index in range(count)]
        self._learn_order(alive)

    def steer(self, ready: Sequence[SocketKey], directed: Mapping[ProbeSource, SocketKey], *, again: bool) -> None:
        self._wish = (list(ready), dict(directed))
        wish = (*self._wish, list(self.order))
        if self._steered_to == wish and not again:
            return
        program = reuseport_bpf.steering_program(
            [self._number(key) for key in ready],
            {source: self._number(key) for source, key in directed.items() if 2 * key[0] < len(self._sockets)},
            v6=":" in (self._address.probe_host or ""),
        )
        reuseport_bpf.attach(self._sockets[0], program)
        self._steered_to = wish

    def repair(self) -> None:
        self.learn_order()
        if self._wish:
            self.steer(*self._wish, again=True)

    def learn_order(self) -> None:
        """To be called when sockets came to it, or left it."""
        self._learn_order([self._number(key) for key in self._wish[0]] if self._wish else [0])

    def _learn_order(self, ready: Sequence[int]) -> None:
        """`ready`: the numbers that new connections go to in the meantime."""
        host, known = self._address.probe_host, len(self.order)
        found = reuseport_bpf.find_order(self._sockets, host, self._address.port, ready) if host else None
        # Where it cannot be tried, the order in which they were opened is the best guess.
        self.order = found or [*self.order[: len(self._sockets)], *range(known, len(self._sockets))]
        self._steered_to = None

    def _number(self, key: SocketKey) -> int:
        return self.order[index_in_group(*key)]


class Listener:
    """The sockets of one address of one app."""

    _made: Optional[os.stat_result] = None  # at the path, by the worker, before we did

    def __init__(self, address: Address, slots: int, mode: Mode = Mode.STEERED, rights: Rights = OURS) -> None:
        """Opens the sockets for `slots` slots. Raises AddressInUse, or OSError as bind() would in the program."""
        self._set_up(address, mode)
        self.rights = rights
        self._made = unix.found_at(address.host) if address.family == socket.AF_UNIX else None
        refuse_held(address, rights)
        self.grow(slots)

    def _set_up(self, address: Address, mode: Mode) -> None:
        self.address = address
        self.rights = OURS
        self._file: Optional[unix.SocketFile] = None  # at the path, made by us
        self.mode = mode if address.can_steer else Mode.SINGLE
        self.steered = self.mode is Mode.STEERED
        self.sockets: list[socket.socket] = []
        self._group = SteeredGroup(address, self.sockets)  # of use only where it is steered

    @classmethod
    def recovered(
        cls, address: Address, sockets: Iterable[socket.socket], order: Sequence[int], mode: Mode
    ) -> Listener:
        """A listener from the sockets an earlier supervisor opened; the kernel goes on steering as that one said."""
        listener = cls.__new__(cls)
        listener._set_up(address, mode)
        listener.sockets += sockets
        listener._group.order += order
        if address.family == socket.AF_UNIX:
            listener._file = unix.bound_file(listener.sockets[0], address.host)
        return listener

    @classmethod
    def rescued(cls, address: Address, found: Mapping[int, socket.socket], slots: int, mode: Mode) -> Listener:
        """A listener of which only some sockets are left, those of living workers, by their index in `sockets`."""
        listener = cls.__new__(cls)
        listener._set_up(address, mode)
        if listener.steered:
            count = max(2 * slots, max(found) + 1)  # a slot that was scaled away may not be down yet
            listener._group.make_whole(found, count, listener._open)
        else:
            listener.sockets += [found[index] for index in sorted(found)][:1]
            listener.grow(slots)
        return listener

    def grow(self, slots: int) -> None:
        """Opens what is missing for `slots` slots; never closes any, so that keys stay."""
        wanted = {Mode.STEERED: 2 * slots, Mode.HASHED: slots, Mode.SINGLE: 1}[self.mode]
        is_new = len(self.sockets) < wanted
        while len(self.sockets) < wanted:
            self.sockets.append(self._open())
            if self.steered and len(self.sockets) == 1:
                self._group.begin()
        if is_new and self.steered:
            self._group.learn_order()

    def shrink(self, slots: int) -> None:
        """Where the kernel spreads connections by itself, a socket without a worker must go."""
        if self.mode is Mode.HASHED:
            for sock in self.sockets[slots:]:
                sock.close()
            del self.sockets[slots:]

    def _open(self) -> socket.socket:
        sock = _make(self.address, self.mode, self.rights)
        try:
            with _acting(self.address, self.rights):
                _bind(sock, self.address, self.mode)
                if self.address.type == socket.SOCK_STREAM:
                    sock.listen(_BACKLOG)  # as the user: a client of a Unix socket is told who did it
                if self.address.family == socket.AF_UNIX:
                    self._file = unix.take_path(self.address.host, self._made)
        except OSError:
            sock.close()
            raise
        return sock

    def restore_path(self) -> bool:
        """Whether the path leads to the socket, again if need be. Raises AddressInUse or OSError."""
        if self.address.family != socket.AF_UNIX:
            return True
        with _acting(self.address, self.rights):
            return unix.restore(self.address.host, self._file)

    @property
    def order(self) -> list[int]:
        """The kernel's number of each socket, where it is steered."""
        return self._group.order

    @staticmethod
    def index_of(mode: Mode, slot: int, generation: int) -> int:
        """Where a worker's socket is in `sockets`."""
        return {Mode.STEERED: index_in_group(slot, generation), Mode.HASHED: slot, Mode.SINGLE: 0}[mode]

    def socket_for(self, slot: int, generation: int) -> socket.socket:
        return self.sockets[self.index_of(self.mode, slot, generation)]

    def steer(
        self, ready: Sequence[SocketKey], directed: Mapping[ProbeSource, SocketKey], *, again: bool = False
    ) -> None:
        """New connections go to the `ready` keys; those from a source in `directed` to that one.

        `again`: also where nothing changed since the last time, because a worker may have put its own program there.
        """
        if self.steered and ready:
            self._group.steer(ready, directed, again=again)

    def repair(self) -> None:
        """Makes the kernel's group what it should be, whatever a worker did to it through its descriptor."""
        for sock in self.sockets:
            if self.address.type == socket.SOCK_STREAM and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.listen(_BACKLOG)  # a worker shut it down: it left the group, and the others' numbers moved
        if self.steered:
            self._group.repair()

    def queue_length(self, slot: int, generation: int) -> int:
        """Connections that were made and not yet accepted."""
        return queue_length(self.socket_for(slot, generation)) if self.address.type == socket.SOCK_STREAM else 0

    def close(self, *, with_workers: bool = False) -> None:
        """`with_workers`: also for the workers that have them."""
        for sock in self.sockets:
            if with_workers:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        if self._file:
            for path in (self.address.host, unix.second_name(self.address.host)):
                with contextlib.suppress(OSError), _acting(self.address, self.rights):
                    unix.remove_socket(path, self._file)
        self.sockets.clear()
        self._file = None


def refuse_held(address: Address, rights: Rights) -> None:
    """Raises AddressInUse where another process listens, or OSError as bind() would in the program."""
    with _acting(address, rights):
        if address.family == socket.AF_UNIX:
            unix.remove_stale(address.host)
        else:
            port_owner.refuse(address)


def reserve(address: Address, rights: Rights, mode: Mode) -> socket.socket:
    """A TCP socket that is bound and listens to nobody: beside those of a listener, or with SINGLE alone. Raises OSError."""
    sock = _make(address, mode, rights)
    try:
        with _acting(address, rights):
            _bind(sock, address, mode)
    except OSError:
        sock.close()
        raise
    return sock


def index_in_group(slot: int, generation: int) -> int:
    return 2 * slot + generation


def _acting(address: Address, rights: Rights) -> contextlib.AbstractContextManager[None]:
    return acting(rights.actor_at(address.host) if address.family == socket.AF_UNIX else rights.actor)


def _make(address: Address, mode: Mode, rights: Rights) -> socket.socket:
    """A group is ours, so that no other process joins it; what is not shared by a group is, as all it sends, the user's."""
    if mode is Mode.SINGLE:
        with _acting(address, rights):
            return socket.socket(address.family, address.type)
    return socket.socket(address.family, address.type)


def _bind(sock: socket.socket, address: Address, mode: Mode) -> None:
    if mode is not Mode.SINGLE:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if address.type == socket.SOCK_STREAM and address.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address.v6only)
    if address.family == socket.AF_UNIX:
        with short_path(address.host) as path:
            sock.bind(path)
    else:
        sock.bind((address.host, address.port))


def queue_length(sock: socket.socket) -> int:
    """tcpi_unacked of a listening socket is the length of its accept queue (tcp(7), and /proc/net/tcp shows the same)."""
    if sock.family == socket.AF_UNIX:
        return 0
    return int(struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0])
