"""The daemon's event loop: descriptors, timers and signals, one callback at a time.

asyncio would cost nine megabytes of memory for the same three things (docs/architecture.md).

What a callback raises ends here (`faults`): its owner is told where it wants to be (`scoped`); else a descriptor rests for a
moment, so that it does not keep us busy, and a timer is tried again, ever more seldom.
"""

from __future__ import annotations

import itertools
import os
import selectors
import signal
import time
from collections.abc import Generator

from percore.common.typing import Any, Callable, NamedTuple, Optional, Union
from percore.supervisor.base.logger import Faults, InternalError

Job = Generator[None, None, None]
"""What yields whenever it waits for a change."""

Callback = Callable[[], None]
OnFault = Callable[[InternalError], None]
_STALL_SECONDS = 1.0
_REST_SECONDS = 1.0
_LONGEST_REST_SECONDS = 60.0
# The kernel takes no wait of more than 24 days; one turn a day costs nothing.
_LONGEST_WAIT_SECONDS = 86400.0


class Timer:
    """A callback that waits; `cancel` is safe at any moment."""

    __slots__ = ("callback", "on_fault", "rest", "when")

    def __init__(self, when: float, callback: Callback, on_fault: Optional[OnFault] = None) -> None:
        self.when = when
        self.callback: Optional[Callback] = callback
        self.on_fault = on_fault
        self.rest = _REST_SECONDS  # before it is tried again, should it fail

    def cancel(self) -> None:
        self.callback = None

    @property
    def is_over(self) -> bool:
        """It rang, or was cancelled."""
        return self.callback is None


class Watched(NamedTuple):
    """Who is called when there is something about a descriptor, and who is told when that failed."""

    callback: Callback
    on_fault: Optional[OnFault]


class Loop:
    def __init__(self, faults: Optional[Faults] = None) -> None:
        self.faults = faults or Faults()
        self._selector = selectors.DefaultSelector()
        # The next one is the last. Sorting what is nearly sorted costs microseconds; heapq would cost memory.
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._patient: list[Timer] = []
        self._resting: dict[int, Timer] = {}  # by descriptor whose callback failed
        self._signal_callbacks: dict[int, Callback] = {}
        self._signal_read, self._signal_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(self._signal_read, self._take_signals)
        self._woke = _clocks()
        self._waited = 0.0  # seconds of the last wait that were not excused
        self.is_running = False
        self.began_at = time.monotonic()

    def watch(self, descriptor: int, callback: Callback, *, readable: bool = True, writable: bool = False,
              on_fault: Optional[OnFault] = None) -> None:  # fmt: skip
        """Calls `callback` whenever `descriptor` is readable (or, with `writable`, also when it takes bytes).

        `on_fault` is called when that failed; the descriptor is no longer watched then.
        """
        events = (selectors.EVENT_READ if readable else 0) | (selectors.EVENT_WRITE if writable else 0)
        self._watch(descriptor, events, Watched(callback, on_fault))

    def _watch(self, descriptor: int, events: int, watched: Watched) -> None:
        self._wake(descriptor)
        try:
            self._selector.modify(descriptor, events, watched)
        except KeyError:
            self._selector.register(descriptor, events, watched)

    def _wake(self, descriptor: int) -> None:
        if resting := self._resting.pop(descriptor, None):
            resting.cancel()

    def unwatch(self, descriptor: int) -> None:
        self._wake(descriptor)
        try:
            self._selector.unregister(descriptor)
        except KeyError:
            return

    def later(self, seconds: float, callback: Callback, *, on_fault: Optional[OnFault] = None) -> Timer:
        if seconds != seconds:
            raise ValueError("a timer must be set to a number of seconds")  # NaN has no place among the others
        timer = Timer(time.monotonic() + seconds, callback, on_fault)
        self._push(timer)
        return timer

    def _push(self, timer: Timer) -> None:
        self._timers.append((-timer.when, -next(self._order), timer))
        self._timers.sort()

    def scoped(self, on_fault: OnFault) -> LoopScope:
        """A view of this loop whose callbacks belong to one owner: `on_fault` is told when one of them failed."""
        return LoopScope(self, on_fault)

    def when_awake(self, seconds: float, callback: Callback) -> None:
        """Calls it some time after that, when something else has woken the loop: for what is not worth waking up for."""
        self._patient.append(Timer(time.monotonic() + seconds, callback))

    def on_signal(self, number: int, callback: Callback) -> None:
        """The handler itself only leaves a note in a pipe; `callback` runs in the loop."""
        self._signal_callbacks[number] = callback
        signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._signal_write, warn_on_full_buffer=False)

    def _take_signals(self) -> None:
        try:
            numbers = set(os.read(self._signal_read, 4096))
        except BlockingIOError:
            return
        for number in numbers:
            callback = self._signal_callbacks.get(number)
            if callback:
                self.faults.contain(f"handling signal {number}", callback)

    def run(self, after_each_turn: Callback) -> None:
        self.is_running = True
        while self.is_running:
            self.turn()
            self.faults.contain("following a change", after_each_turn)

    def stop(self) -> None:
        self.is_running = False

    def turn(self) -> None:
        self._excuse(self._lost_at_work())
        began, wait = time.monotonic(), self._seconds_to_next_timer()
        found = self._selector.select(wait)
        self._woke = _clocks()
        self._waited = self._woke[0] - began
        if wait is not None and self._excuse(self._waited - wait):
            self._waited = wait
        for key, _ in found:
            # An earlier callback of this turn may have unwatched this descriptor.
            if key.fd in self._selector.get_map():
                self._call(key)
        self._excuse(self._lost_at_work())
        self._take_signals()  # the kernel tells of SIGCONT after it ended the wait, and that moves timers
        now = time.monotonic()
        while self._timers and self._timers[-1][2].when <= now:
            self._ring(self._timers.pop()[2])
        for timer in [timer for timer in self._patient if timer.when <= now]:
            self._patient.remove(timer)
            self._ring(timer)

    def _call(self, key: selectors.SelectorKey) -> None:
        watched: Watched = key.data
        try:
            watched.callback()
        except Exception as error:
            told = self.faults.note("serving a descriptor", error)
            present = self._selector.get_map().get(key.fd)
            # It may have been closed by now, or be watched in another way.
            is_same = present is not None and present.data in (watched, (present.data.callback, watched.on_fault))
            if is_same:
                self.unwatch(key.fd)
            if watched.on_fault:
                self.tell(watched.on_fault, told)
            elif is_same:
                self._resting[key.fd] = self.later(_REST_SECONDS, lambda: self._watch(key.fd, key.events, watched))

    def _ring(self, timer: Timer) -> None:
        callback, timer.callback = timer.callback, None
        if callback is None:
            return
        try:
            callback()
        except Exception as error:
            told = self.faults.note("serving a timer", error)
            if timer.on_fault:
                self.tell(timer.on_fault, told)
                return
            timer.callback, timer.when = callback, time.monotonic() + timer.rest
            timer.rest = min(2 * timer.rest, _LONGEST_REST_SECONDS)
            self._push(timer)

    def tell(self, on_fault: OnFault, told: InternalError) -> None:
        self.faults.contain("ending what had failed", on_fault, told)

    def was_continued(self) -> None:
        """For SIGCONT. When in the last wait we were stopped, only that signal's sender knows: none of it counts."""
        self._excuse(self._waited)
        self._waited = 0.0

    def _lost_at_work(self) -> float:
        """Seconds since the last call in which we neither waited nor ran: we may be stopped in the middle of a callback, too."""
        (then, ran), self._woke = self._woke, _clocks()
        return self._woke[0] - then - (self._woke[1] - ran)

    def _excuse(self, overslept: float) -> bool:
        """While we were stopped (SIGSTOP, a suspended host), nothing could reach us: that time counts for no limit."""
        if overslept <= _STALL_SECONDS:
            return False
        for _, _, timer in self._timers:
            timer.when += overslept
        self._timers = [(-timer.when, order, timer) for _, order, timer in self._timers]
        return True

    def _seconds_to_next_timer(self) -> Optional[float]:
        while self._timers and self._timers[-1][2].callback is None:
            self._timers.pop()
        if not self._timers:
            return None
        return min(max(0.0, self._timers[-1][2].when - time.monotonic()), _LONGEST_WAIT_SECONDS)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        self._selector.close()
        os.close(self._signal_read)
        os.close(self._signal_write)


class LoopScope:
    """A loop as one owner sees it; made by `Loop.scoped`."""

    __slots__ = ("_on_fault", "faults", "outer", "unwatch")

    def __init__(self, loop: Loop, on_fault: OnFault) -> None:
        self.outer = loop
        self.faults = loop.faults
        self.unwatch = loop.unwatch
        self._on_fault = on_fault

    def watch(self, descriptor: int, callback: Callback, *, writable: bool = False) -> None:
        self.outer.watch(descriptor, callback, writable=writable, on_fault=self._on_fault)

    def later(self, seconds: float, callback: Callback) -> Timer:
        return self.outer.later(seconds, callback, on_fault=self._on_fault)

    def contain(self, doing: str, callback: Callable[..., object], *arguments: Any) -> None:
        """As `Faults.contain`; the owner is told, too."""
        try:
            callback(*arguments)
        except Exception as error:
            self.outer.tell(self._on_fault, self.faults.note(doing, error))


class OneTimer:
    """At most one callback that waits: the one that is set last."""

    __slots__ = ("_loop", "_timer")

    def __init__(self, loop: Union[Loop, LoopScope]) -> None:
        self._loop = loop
        self._timer: Optional[Timer] = None

    def set(self, seconds: float, callback: Callback) -> None:
        self.cancel()
        self._timer = self._loop.later(seconds, callback)

    def cancel(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


def _clocks() -> tuple[float, float]:
    """The time, and how much of it we ran."""
    return time.monotonic(), time.process_time()
