"""The home, and the lock in it, of which a supervisor that runs needs both.

When it is deleted, lock and sockets are gone, and the next command finds no supervisor. So the running one notices (the kernel
tells when the lock is unlinked), and makes it again; where another supervisor has it by then, it ends with its workers, because
two would run everything twice. A supervisor that starts in a new home looks for one that lost it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

from percore.common.procfs import environment_of
from percore.common.typing import Optional, Protocol
from percore.supervisor.base import lock
from percore.supervisor.base.home import Home
from percore.supervisor.base.inotify import Inotify
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Loop
from percore.supervisor.sockets.preload import place_preload

_LOOK_SECONDS = 10.0
_SETTLE_SECONDS = 1.0  # until the home is deleted completely
_ANSWER_SECONDS = 3.0
_LOCK_SECONDS = 1.0
_DELETED = " (deleted)"  # as the kernel marks what has no name any more


class Resident(Protocol):
    """The supervisor that runs in the home."""

    def home_was_made_again(self) -> None: ...

    def home_was_lost(self) -> None: ...


class HomeWatch:
    """`held` is our descriptor of the lock file, and stays it."""

    def __init__(self, loop: Loop, home: Home, held: int, resident: Resident) -> None:
        self._loop = loop
        self._home = home
        self._held = held
        self._resident = resident
        self.is_lost = False
        self._inotify: Optional[Inotify] = None
        with contextlib.suppress(OSError):  # the look from time to time must do
            self._inotify = Inotify()
            loop.watch(self._inotify.descriptor, self._something_happened)
        self._follow()
        loop.when_awake(_LOOK_SECONDS, self._look_when_awake)

    def _follow(self) -> None:
        for path in (self._home.lock, self._home.run, self._home.path):
            with contextlib.suppress(OSError):  # as above
                if self._inotify:
                    self._inotify.add_names_of(path, follows=True)

    def _something_happened(self) -> None:
        if self._inotify:
            self._inotify.read()
        if not lock.is_at(self._held, self._home.lock):
            self._loop.later(_SETTLE_SECONDS, self.look)

    def _look_when_awake(self) -> None:
        self._loop.when_awake(_LOOK_SECONDS, self._look_when_awake)
        self.look()

    def look(self) -> None:
        """Makes the home again where it is gone."""
        if self.is_lost or lock.is_at(self._held, self._home.lock):
            return
        try:
            self._home.make()
            taken = lock.take(self._home.lock)
        except OSError as error:
            log(f"{self._home.path} is gone and cannot be made again: {error.strerror}")
            return
        if taken is None:
            self.is_lost = True
            log(f"another supervisor runs in {self._home.path}, which was deleted under this one: it ends")
            self._resident.home_was_lost()
            return
        os.dup2(taken, self._held, inheritable=False)
        os.close(taken)
        place_preload(self._home.run)
        self._follow()
        self._resident.home_was_made_again()
        log(f"{self._home.path} was deleted and is made again")

    def close(self) -> None:
        if self._inotify:
            self._loop.unwatch(self._inotify.descriptor)
            self._inotify.close()


# -- for the one that starts -----------------------------------------------------------------------------------------


def take_home(home: Home) -> Optional[int]:
    """As `take_lock`; where the home is new, the supervisor that had it before it was deleted is asked to come back."""
    pid = 0 if os.path.exists(home.lock) else find_owner(home)
    if pid and ask_back(home, pid):
        return None
    if pid:
        raise SystemExit(
            f"percore: another supervisor (pid {pid}), whose {home.path} was deleted, still runs -> kill {pid}, "
            "which stops its apps, and start again"
        )
    return take_lock(home.lock)


def take_lock(path: str, *, waits: bool = False) -> Optional[int]:
    """Held as long as we live, with our pid in it; None when another supervisor holds it, unless we wait for its end.

    A child of a supervisor that was killed holds it until it executes its program, so it is worth waiting a little.
    """
    deadline = time.monotonic() + _LOCK_SECONDS
    while (held := lock.take(path)) is None and (waits or time.monotonic() < deadline):
        time.sleep(0.02)
    return held


def ask_to_reopen(lock_path: str) -> str:
    """Asks the supervisor that runs to open its sockets again, should they be deleted; returns what to tell about it."""
    pid = lock.holder(lock_path)
    if not pid:
        return ""
    try:
        _send_hangup(pid)
    except OSError:
        return ""
    return f" (pid {pid}); it opens its sockets again where they are gone"


def _send_hangup(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGHUP)
    os.close(pidfd)


def find_owner(home: Home) -> int:
    """The pid of a supervisor whose home was deleted, or moved, under it; 0 where there is none.

    It still has the lock open, which then has another name. To be asked before we take the lock of a home that is new.
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
        _send_hangup(pid)
    except OSError:
        return False
    deadline = time.monotonic() + _ANSWER_SECONDS
    while time.monotonic() < deadline:
        if lock.is_held(home.lock):
            return True
        time.sleep(0.02)
    return False


def _open_locks(pid: str) -> Iterator[str]:
    """What it has open, and locked, that has the name of a supervisor's lock; of other users only root sees it."""
    directory = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(directory):
            path = os.readlink(f"{directory}/{descriptor}")
            if path.endswith(("/run/lock", f"/run/lock{_DELETED}")) and _is_locked(pid, descriptor):
                yield path


def _is_locked(pid: str, descriptor: str) -> bool:
    with open(f"/proc/{pid}/fdinfo/{descriptor}", "rb") as file:
        return b"FLOCK" in file.read()
