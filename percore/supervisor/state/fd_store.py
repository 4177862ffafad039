"""A store for descriptors that survives us: a socket pair with the descriptors in flight inside it.

Every worker of our own user inherits both ends, so the descriptors live as long as any worker does, and a new supervisor
finds them there (pidfd_getfd). systemd's own store keeps the pair when there is one.

We may be killed between any two system calls. So what is in the store is looked at without taking it out (MSG_PEEK), and a
new filling is complete before the one before it goes: a filling is a row of messages, each of which tells how many there are.
"""

from __future__ import annotations

import array
import itertools
import json
import os
import socket
from collections.abc import Mapping, Sequence

from percore.common.socket_peers import peer_of
from percore.common.typing import Any, NamedTuple, Optional
from percore.supervisor.config.address import Address

_MOST_AT_ONCE = 250  # the kernel passes at most 253 descriptors with one message
_LONGEST_TEXT = 256 * 1024
_SO_PEEK_OFF = 42
_MOST_MESSAGES = 4096
_LARGEST_NUMBER = 1 << 62
_ADDRESS_KINDS = (int, int, str, int, bool)  # of the fields of an Address
Entries = Mapping[str, Sequence[int]]
Ends = tuple[socket.socket, socket.socket]


class _Message(NamedTuple):
    filling: int
    part: int
    parts: int
    entries: Mapping[str, int]  # how many of the descriptors belong to each name
    descriptors: list[int]

    @property
    def is_whole(self) -> bool:
        """False where we had no room for all of its descriptors."""
        return len(self.descriptors) == sum(self.entries.values())

    @classmethod
    def read(cls, text: bytes, descriptors: list[int]) -> _Message:
        """Raises ValueError for what no supervisor wrote."""
        try:
            filling, part, parts, entries = json.loads(text)
            numbers = (filling, part, parts, *entries.values())
        except (TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"it is no part of a filling: {error}") from None
        if not all(type(number) is int and 0 <= number < _LARGEST_NUMBER for number in numbers) or part >= parts:
            raise ValueError("its numbers make no sense")
        return cls(filling, part, parts, entries, descriptors)


class FdStore:
    def __init__(self, ends: Optional[Ends] = None) -> None:
        self._ends = ends or socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._entries: dict[str, list[int]] = {}
        self._filling = 0
        self._in_flight = 0  # messages
        for end in self._ends:
            end.setblocking(False)

    @property
    def fds(self) -> tuple[int, int]:
        return self._ends[0].fileno(), self._ends[1].fileno()

    def put(self, entries: Entries) -> None:
        """Makes the store hold exactly these descriptors, by name. Raises OSError when the kernel takes no more in flight."""
        wanted = {name: list(descriptors) for name, descriptors in entries.items()}
        if wanted == self._entries:
            return
        former = self._in_flight
        try:
            self._send(wanted)
        except OSError:  # no room for both fillings
            self._drop(self._in_flight)
            self._send(wanted)
        else:
            self._drop(former)
        self._entries = wanted

    def _send(self, entries: Entries) -> None:
        rows = [(name, number) for name, numbers in entries.items() for number in numbers]
        parts = [rows[start : start + _MOST_AT_ONCE] for start in range(0, len(rows), _MOST_AT_ONCE)] or [[]]
        self._filling += 1
        for index, part in enumerate(parts):
            counts: dict[str, int] = {}
            for name, _ in part:
                counts[name] = counts.get(name, 0) + 1
            text = json.dumps([self._filling, index, len(parts), counts], separators=(",", ":")).encode()
            numbers = array.array("i", [number for _, number in part])
            self._ends[0].sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)] if part else [])
            self._in_flight += 1

    def _drop(self, messages: int) -> None:
        for _ in range(messages):
            self._ends[1].recv(1)  # its descriptors find no room with us, so they are closed
            self._in_flight -= 1

    def look(self) -> dict[str, list[int]]:
        """Copies of what an earlier supervisor left in the store, which keeps its own until the next `put`.

        A filling that was never completed is passed over: the one before it is still there. Raises OSError or ValueError for
        what is no store.
        """
        messages = _peek(self._ends[1])
        if not messages:  # which end is which is not known of a recovered pair
            self._ends = self._ends[1], self._ends[0]
            messages = _peek(self._ends[1])
        self._in_flight = len(messages)
        self._filling = max((message.filling for message in messages), default=0)
        whole = [message.filling for message in messages if message.is_whole]
        complete = {message.filling for message in messages if whole.count(message.filling) == message.parts}
        found: dict[str, list[int]] = {}
        for message in messages:
            if complete and message.filling == max(complete):
                rest = iter(message.descriptors)
                for name, count in message.entries.items():
                    found.setdefault(name, []).extend(next(rest) for _ in range(count))
            else:
                for descriptor in message.descriptors:
                    os.close(descriptor)
        return found

    def close(self) -> None:
        for end in self._ends:
            end.close()


def ends_among(descriptors: Sequence[int]) -> Optional[Ends]:
    """These two as the ends of a store. None, and they are closed, unless our own user made them as a pair."""
    ends: list[socket.socket] = []
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
        try:
            ends.append(socket.socket(fileno=descriptor))
        except OSError:  # it is no socket
            os.close(descriptor)
    if len(ends) == 2 and all(map(_is_end, ends)):
        return ends[0], ends[1]
    for end in ends:
        end.close()
    return None


def _is_end(end: socket.socket) -> bool:
    try:
        uid = peer_of(end).uid
    except OSError:
        return False
    return end.family == socket.AF_UNIX and end.type == socket.SOCK_SEQPACKET and uid == os.geteuid()


def _peek(end: socket.socket) -> list[_Message]:
    """Every message in it, first to last, with copies of the descriptors; they all stay there. Raises OSError, ValueError."""
    end.setblocking(False)
    end.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)  # each look goes on where the one before it ended
    found: list[_Message] = []
    try:
        while message := _peek_one(end):
            found.append(message)
            if len(found) > _MOST_MESSAGES:
                raise ValueError("it never ends")
        return found
    except BlockingIOError:
        return found
    except BaseException:
        for descriptor in itertools.chain.from_iterable(message.descriptors for message in found):
            os.close(descriptor)
        raise
    finally:
        end.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, -1)


def _peek_one(end: socket.socket) -> Optional[_Message]:
    # Not socket.recv_fds: it forgets the flags.
    space = socket.CMSG_LEN(253 * array.array("i").itemsize)
    text, control, _, _ = end.recvmsg(_LONGEST_TEXT, space, socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, rights in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(rights[: len(rights) - len(rights) % descriptors.itemsize])
    try:
        return _Message.read(text, list(descriptors)) if text else None
    except ValueError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


# -- its entries -----------------------------------------------------------------------------------------------------


class StoreEntry(NamedTuple):
    owner: str  # the app, or of a channel the worker's token
    address: Optional[Address] = None  # None: it is a channel
    order: tuple[int, ...] = ()


def name_of(entry: StoreEntry) -> str:
    return json.dumps([entry.owner, *entry.address, list(entry.order)] if entry.address else [entry.owner])


def read_entry(name: str) -> StoreEntry:
    """Raises ValueError."""
    try:
        fields: Any = json.loads(name)
    except RecursionError:
        raise ValueError("its name is no list") from None
    if not isinstance(fields, list) or not fields or not isinstance(fields[0], str):
        raise ValueError("its name does not begin with an owner")
    owner, *rest = fields
    if not rest:
        return StoreEntry(owner)
    *parts, order = rest
    if (
        tuple(map(type, parts)) != _ADDRESS_KINDS
        or not isinstance(order, list)
        or len(set(map(str, order))) != len(order)
    ):
        raise ValueError("its name holds no address")
    if not all(type(number) is int and 0 <= number < 1 << 16 for number in order):
        raise ValueError("its sockets have no numbers")
    return StoreEntry(owner, Address(*parts), tuple(order))


def open_sockets(descriptors: Sequence[int]) -> list[socket.socket]:
    """Those that are sockets; the others are closed."""
    opened = []
    for descriptor in descriptors:
        try:
            opened.append(socket.socket(fileno=descriptor))
        except OSError:
            os.close(descriptor)
    return opened
