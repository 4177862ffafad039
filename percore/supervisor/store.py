"""A shelf for descriptors that survives us: a socket pair with the descriptors in flight inside it.

Every worker of our own user inherits both ends, so the descriptors live as long as any worker does, and a new supervisor
finds them there (pidfd_getfd). systemd's own store keeps the pair when there is one.

We may be killed between any two system calls. So what is in the store is looked at without taking it out (MSG_PEEK), and a
new filling is complete before the one before it goes: a filling is a row of messages, each of which tells how many there are.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Mapping, Sequence

from percore.hints import NamedTuple, Optional

_MOST_AT_ONCE = 250  # the kernel passes at most 253 descriptors with one message
_LONGEST_TEXT = 256 * 1024
_SO_PEEK_OFF = 42
Shelves = Mapping[str, Sequence[int]]


class _Message(NamedTuple):
    filling: int
    part: int
    parts: int
    shelves: Mapping[str, int]  # how many of the descriptors belong to each name
    descriptors: list[int]

    @property
    def is_whole(self) -> bool:
        """False where we had no room for all of its descriptors."""
        return len(self.descriptors) == sum(self.shelves.values())


class FdStore:
    def __init__(self, ends: Optional[tuple[socket.socket, socket.socket]] = None) -> None:
        self._ends = ends or socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._shelves: dict[str, list[int]] = {}
        self._filling = 0
        self._in_flight = 0  # messages
        for end in self._ends:
            end.setblocking(False)

    @property
    def fds(self) -> tuple[int, int]:
        return self._ends[0].fileno(), self._ends[1].fileno()

    def put(self, shelves: Shelves) -> None:
        """Makes the store hold exactly these descriptors, by name. Raises OSError when the kernel takes no more in flight."""
        wanted = {name: list(descriptors) for name, descriptors in shelves.items()}
        if wanted == self._shelves:
            return
        former = self._in_flight
        try:
            self._send(wanted)
        except OSError:  # no room for both fillings
            self._drop(self._in_flight)
            self._send(wanted)
        else:
            self._drop(former)
        self._shelves = wanted

    def _send(self, shelves: Shelves) -> None:
        rows = [(name, number) for name, numbers in shelves.items() for number in numbers]
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

        A filling that was never completed is passed over: the one before it is still there.
        """
        messages = _peek(self._ends[1])
        if not messages:  # of a recovered pair nobody knows which end is which
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
                for name, count in message.shelves.items():
                    found.setdefault(name, []).extend(next(rest) for _ in range(count))
            else:
                for descriptor in message.descriptors:
                    os.close(descriptor)
        return found

    def close(self) -> None:
        for end in self._ends:
            end.close()


def _peek(end: socket.socket) -> list[_Message]:
    """Every message in it, first to last, with copies of the descriptors; they all stay there."""
    end.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)  # each look goes on where the one before it ended
    space = socket.CMSG_LEN(253 * array.array("i").itemsize)
    found: list[_Message] = []
    try:
        while True:
            # Not socket.recv_fds: it forgets the flags.
            text, control, _, _ = end.recvmsg(_LONGEST_TEXT, space, socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC)
            if not text:
                return found
            descriptors = array.array("i")
            for _, _, rights in control:
                descriptors.frombytes(rights[: len(rights) - len(rights) % descriptors.itemsize])
            filling, part, parts, shelves = json.loads(text)
            found.append(_Message(filling, part, parts, shelves, list(descriptors)))
    except BlockingIOError:
        return found
    finally:
        end.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, -1)
