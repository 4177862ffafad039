"""A timer on the wall clock, by timerfd(2): it also rings when the clock is set, so nothing has to look from time to time."""

from __future__ import annotations

import ctypes
import errno
import os
import time

from percore.common.typing import Callable
from percore.supervisor.base.loop import Loop

_CANCEL_ON_SET = 2
_ABSOLUTE = 1


class _Spec(ctypes.Structure):
    _fields_ = (("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2))


class Alarm:
    def __init__(self, loop: Loop, on_time: Callable[[], None], on_clock_set: Callable[[], None]) -> None:
        """Raises OSError."""
        self._loop = loop
        self._on_time = on_time
        self._on_clock_set = on_clock_set
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.timerfd_create(time.CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        loop.watch(self._descriptor, self._rang)

    def set(self, moment: int) -> None:
        """Rings at this second of the epoch; of several calls the last one counts."""
        spec = _Spec((0, 0), (moment, 0))
        self._libc.timerfd_settime(self._descriptor, _ABSOLUTE | _CANCEL_ON_SET, ctypes.byref(spec), None)

    def _rang(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errno.ECANCELED:
                self._on_clock_set()
                return
            raise
        self._on_time()

    def close(self) -> None:
        self._loop.unwatch(self._descriptor)
        os.close(self._descriptor)
