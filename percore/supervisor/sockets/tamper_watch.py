"""Notices, without polling, what a worker did to the sockets of its app through the descriptor it was given.

A worker is trusted with its own app, but it can take the kernel's program off the group, put another one there, or shut a
socket down. Then connections arrive where no worker accepts, or a socket hangs up: the kernel reports both, once.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Collection, Mapping

from percore.common.typing import Callable, Optional
from percore.supervisor.base.loop import Loop
from percore.supervisor.sockets.listener import queue_length


class TamperWatch:
    def __init__(self, loop: Loop, on_tampering: Callable[[Collection[int]], None]) -> None:
        """`on_tampering` is called with the descriptors where connections arrived though no worker accepts, or that hung up."""
        self._loop = loop
        self._on_tampering = on_tampering
        self._epoll: Optional[select.epoll] = None
        self._idle: dict[int, tuple[socket.socket, int]] = {}  # with the length of its queue when it became idle
        self._used: set[int] = set()

    def watch(self, idle: Mapping[int, socket.socket], used: Collection[int]) -> None:
        """`idle`: sockets that no worker accepts from, by descriptor. To be called before one of them is closed."""
        wanted = {**dict.fromkeys(used, 0), **dict.fromkeys(idle, select.EPOLLIN)}
        known = {**dict.fromkeys(self._used, 0), **dict.fromkeys(self._idle, select.EPOLLIN)}
        if wanted == known:
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            self._loop.watch(self._epoll.fileno(), self._woken)
        for descriptor in known.keys() - wanted.keys():
            self._epoll.unregister(descriptor)
        # Lengths first: what waits already are connections that are known, or our own probes of a worker that failed.
        lengths = {fd: self._idle.get(fd) or (sock, queue_length(sock)) for fd, sock in idle.items()}
        for descriptor, event in wanted.items():
            if descriptor not in known:
                self._epoll.register(descriptor, event | select.EPOLLET)
            elif known[descriptor] != event:
                self._epoll.modify(descriptor, event | select.EPOLLET)
        self._idle, self._used = lengths, set(used)

    def close(self) -> None:
        if self._epoll:
            self._loop.unwatch(self._epoll.fileno())
            self._epoll.close()
        self._epoll, self._idle, self._used = None, {}, set()

    def _woken(self) -> None:
        assert self._epoll
        found = []
        for descriptor, event in self._epoll.poll(0):
            if event & select.EPOLLHUP:
                found.append(descriptor)
            elif descriptor in self._idle:
                sock, before = self._idle[descriptor]
                now = queue_length(sock)
                self._idle[descriptor] = sock, now
                if now > before:
                    found.append(descriptor)
        if found:
            self._on_tampering(found)
