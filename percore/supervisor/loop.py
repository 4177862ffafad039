"""The daemon's event loop: descriptors, timers and signals, one callback at a time.

asyncio would cost nine megabytes of memory for the same three things (docs/architecture.md).
"""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import signal
import time

from percore.hints import Callable, Optional

Callback = Callable[[], None]
_STALL_SECONDS = 1.0


class Timer:
    """A callback that waits; `cancel` is safe at any moment."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callback) -> None:
        self.when = when
        self.callback: Optional[Callback] = callback

    def cancel(self) -> None:
        self.callback = None

    @property
    def is_over(self) -> bool:
        """It rang, or was cancelled."""
        return self.callback is None


class Loop:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._patient: list[Timer] = []
        self._signal_callbacks: dict[int, Callback] = {}
        self._signal_read, self._signal_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(self._signal_read, self._take_signals)
        self.is_running = False
        self.began_at = time.monotonic()

    def watch(self, descriptor: int, callback: Callback, *, writable: bool = False) -> None:
        """Calls `callback` whenever `descriptor` is readable (or, with `writable`, also when it takes bytes)."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writable else 0)
        try:
            self._selector.modify(descriptor, events, callback)
        except KeyError:
            self._selector.register(descriptor, events, callback)

    def unwatch(self, descriptor: int) -> None:
        try:
            self._selector.unregister(descriptor)
        except KeyError:
            return

    def later(self, seconds: float, callback: Callback) -> Timer:
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, (timer.when, next(self._order), timer))
        return timer

    def when_awake(self, seconds: float, callback: Callback) -> None:
        """Calls it some time after that, when something else has woken the loop: for what is not worth waking up for."""
        self._patient.append(Timer(time.monotonic() + seconds, callback))

    def on_signal(self, number: int, callback: Callback) -> None:
        """The handler itself only leaves a note in a pipe; `callback` runs in the loop."""
        self._signal_callbacks[number] = callback
        signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._signal_write, warn_on_full_buffer=False)

    def _take_signals(self) -> None:
        for number in set(os.read(self._signal_read, 4096)):
            callback = self._signal_callbacks.get(number)
            if callback:
                callback()

    def run(self, after_each_turn: Callback) -> None:
        self.is_running = True
        while self.is_running:
            self.turn()
            after_each_turn()

    def stop(self) -> None:
        self.is_running = False

    def turn(self) -> None:
        began, wait = time.monotonic(), self._seconds_to_next_timer()
        found = self._selector.select(wait)
        if wait is not None:
            self._excuse(time.monotonic() - began - wait)
        for key, _ in found:
            # An earlier callback of this turn may have unwatched this descriptor.
            if key.fd in self._selector.get_map():
                key.data()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback:
                callback, timer.callback = timer.callback, None
                callback()
        for timer in [timer for timer in self._patient if timer.when <= now]:
            self._patient.remove(timer)
            if timer.callback:
                timer.callback()

    def _excuse(self, overslept: float) -> None:
        """While we were stopped (SIGSTOP, a suspended host), nobody could tell us anything: that time counts for no limit."""
        if overslept > _STALL_SECONDS:
            for _, _, timer in self._timers:
                timer.when += overslept
            self._timers = [(timer.when, order, timer) for _, order, timer in self._timers]

    def _seconds_to_next_timer(self) -> Optional[float]:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        self._selector.close()
        os.close(self._signal_read)
        os.close(self._signal_write)
