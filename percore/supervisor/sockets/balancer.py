"""Watches the accept queues of an app's workers, and costs nothing while no client waits in them.

Random placement alone gives some connections to a busy worker while another one idles. So while connections wait, the app
steers new ones to the shortest queues, every few milliseconds. Between bursts the supervisor sleeps: the kernel reports the
first connection of the next one (EPOLLONESHOT), and only that one.
"""

from __future__ import annotations

import select
import time
from collections.abc import Collection

from percore.common.typing import Callable, Optional
from percore.supervisor.base.loop import Loop, Timer

# Longer periods give the tail latency back: p99 at half load was 15 ms at 2 ms, 20 at 10 ms, 26 at 30 ms, and 22 without.
_PERIOD = 0.002
# Reading a queue and rewriting the table costs a few microseconds for each socket; this keeps it near 2 % of a core.
_PERIOD_PER_SOCKET = 0.0001
# Nothing moved for a while: a stuck worker, not a burst.
_STILL_SECONDS = 0.5
_STILL_PERIOD = 0.1
# Bursts come in rows: the next look stays close for so long after the last one that found a client waiting.
_LINGER_SECONDS = 0.25
# Then a pause, so that traffic that is served at once does not wake the supervisor more often than this.
_REST = 0.05


class Balancer:
    """Calls `look`, which reads the queues and steers, for as long as it finds a client waiting.

    `look` returns the length of every queue.
    """

    def __init__(self, loop: Loop, look: Callable[[], tuple[int, ...]]) -> None:
        self._loop = loop
        self._look_at_queues = look
        self._epoll: Optional[select.epoll] = None
        self._armed: set[int] = set()
        self._timer: Optional[Timer] = None
        self._last: tuple[int, ...] = ()
        self._moved_at = 0.0
        self._waited_at = 0.0

    def watch(self, descriptors: Collection[int]) -> None:
        """Watches exactly these listening sockets. To be called before one of them is closed."""
        wanted = set(descriptors)
        if wanted == self._armed:
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            self._loop.watch(self._epoll.fileno(), self._woken)
        for descriptor in self._armed - wanted:
            self._epoll.unregister(descriptor)
        for descriptor in wanted - self._armed:
            self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLONESHOT)
        self._armed = wanted

    def close(self) -> None:
        self.watch(())
        if self._timer:
            self._timer.cancel()
        if self._epoll:
            self._loop.unwatch(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _woken(self) -> None:
        """Some queue was empty and is not any more; the kernel will not report that one again until it is armed."""
        assert self._epoll
        self._epoll.poll(0)
        if self._timer is None:
            self._moved_at = time.monotonic()
            self._look()

    def _look(self) -> None:
        now = time.monotonic()
        lengths = self._look_at_queues()
        if lengths != self._last:
            self._last, self._moved_at = lengths, now
        if any(lengths):
            self._waited_at = now
        if now - self._waited_at > _LINGER_SECONDS:
            self._timer = self._loop.later(_REST, self._arm)
        elif any(lengths) and now - self._moved_at > _STILL_SECONDS:
            self._timer = self._loop.later(_STILL_PERIOD, self._look)
        else:
            self._timer = self._loop.later(max(_PERIOD, _PERIOD_PER_SOCKET * len(lengths)), self._look)

    def _arm(self) -> None:
        self._timer = None
        assert self._epoll
        for descriptor in self._armed:
            self._epoll.modify(descriptor, select.EPOLLIN | select.EPOLLONESHOT)
