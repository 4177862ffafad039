"""The home under a running supervisor: whoever deletes it leaves us without lock and sockets, and the next command finds nobody.

So we notice (the kernel tells when the lock is unlinked), and make it again; where another supervisor has it by then, we leave
with our workers, because two would run everything twice. A supervisor that starts in a new home looks for one that lost it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator

from percore.common.procfs import environment_of
from percore.common.typing import Callable
from percore.supervisor import lock
from percore.supervisor.home import Home
from percore.supervisor.loop import Loop
from percore.supervisor.sockets.preload import place_preload

_ATTRIBUTES = 0x4  # inotify(7): also the number of links
_MOVED = 0x800
_LOOK_SECONDS = 10.0
_SETTLE_SECONDS = 1.0  # whoever deletes the home should be through with it
_ANSWER_SECONDS = 3.0
_DELETED = " (deleted)"  # as the kernel marks what has no name any more


class Residence:
    """`held` is our descriptor of the lock file, and stays it."""

    def __init__(self, loop: Loop, home: Home, held: int, *, made_again: Callable[[], None],
                 lost: Callable[[], None], log: Callable[[str], None]) -> None:  # fmt: skip
        self._loop = loop
        self._home = home
        self._held = held
        self._made_again = made_again
        self._lost = lost
        self._log = log
        self.is_lost = False
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._inotify >= 0:  # else a look now and then must do
            loop.watch(self._inotify, self._something_happened)
        self._follow()
        loop.when_awake(_LOOK_SECONDS, self._look_now_and_then)

    def _follow(self) -> None:
        for path in (self._home.lock, self._home.run, self._home.path):
            self._libc.inotify_add_watch(self._inotify, os.fsencode(path), _ATTRIBUTES | _MOVED)

    def _something_happened(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._inotify, 4096)
        if not lock.is_at(self._held, self._home.lock):
            self._loop.later(_SETTLE_SECONDS, self.look)

    def _look_now_and_then(self) -> None:
        self._loop.when_awake(_LOOK_SECONDS, self._look_now_and_then)
        self.look()

    def look(self) -> None:
        """Makes the home again where it is gone."""
        if self.is_lost or lock.is_at(self._held, self._home.lock):
            return
        try:
            self._home.make()
            taken = lock.take(self._home.lock)
        except OSError as error:
            self._log(f"{self._home.path} is gone and cannot be made again: {error.strerror}")
            return
        if taken is None:
            self.is_lost = True
            self._log(f"another supervisor runs in {self._home.path}, which was deleted under this one: it leaves")
            self._lost()
            return
        os.dup2(taken, self._held, inheritable=False)
        os.close(taken)
        place_preload(self._home.run)
        self._follow()
        self._made_again()
        self._log(f"{self._home.path} was deleted and is made again")

    def close(self) -> None:
        if self._inotify >= 0:
            self._loop.unwatch(self._inotify)
            os.close(self._inotify)


# -- for the one that starts -----------------------------------------------------------------------------------------


def find_owner(home: Home) -> int:
    """The pid of a supervisor whose home was deleted, or moved, under it; 0 where there is none.

    It still has the lock open, which then is called otherwise. To be asked before we take the lock of a home that is new.
    """
    here = os.path.realpath(home.lock)
    mark = f"PERCORE_HOME={home.path}".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for path in _open_locks(pid):
            if path == f"{here}{_DELETED}" or (path != here and mark in environment_of(int(pid))):
                return int(pid)
    return 0


def ask_back(home: Home, pid: int) -> bool:
    """Asks the supervisor whose home is new to make it its own again; False when it does not within a few seconds."""
    try:
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGHUP)
        os.close(pidfd)
    except OSError:
        return False
    deadline = time.monotonic() + _ANSWER_SECONDS
    while time.monotonic() < deadline:
        if lock.is_held(home.lock):
            return True
        time.sleep(0.02)
    return False


def _open_locks(pid: str) -> Iterator[str]:
    """What it has open, and locked, that is called as a supervisor's lock is; of other users only root sees it."""
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(folder):
            path = os.readlink(f"{folder}/{descriptor}")
            if path.endswith(("/run/lock", f"/run/lock{_DELETED}")) and _is_locked(pid, descriptor):
                yield path


def _is_locked(pid: str, descriptor: str) -> bool:
    with open(f"/proc/{pid}/fdinfo/{descriptor}", "rb") as file:
        return b"FLOCK" in file.read()
