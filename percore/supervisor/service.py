"""A supervisor at work, from what an earlier one left until it is told to end."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

from percore.common.typing import Callable, Optional
from percore.supervisor.automation.observers import observe
from percore.supervisor.base import rlimits, systemd
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Loop
from percore.supervisor.base.program import become, this_program
from percore.supervisor.control_server import Server
from percore.supervisor.core.manager import Manager
from percore.supervisor.core.persistence import Persistence
from percore.supervisor.home_watch import HomeWatch
from percore.supervisor.logs.files import OwnLog
from percore.supervisor.process.process import become_subreaper
from percore.supervisor.state.fd_store import Ends
from percore.supervisor.state.predecessor import find_predecessor

# After running so long, a fault of ours is no reason to stay away.
_SOUND_SECONDS = 5.0
_SETTLED_SECONDS = 1.0


def run(home: Home, held: int, taken: Optional[Ends] = None) -> None:
    """`taken` are the ends of a store that another supervisor gave up. Raises OSError where it lacks something to begin with."""
    own_log = OwnLog(home.daemon_log)
    sys.stderr = own_log
    become_subreaper()
    rlimits.forbid_cores()
    rlimits.take_descriptors()
    rlimits.give_memory_back()
    loop = Loop()
    loop.when_awake(_SETTLED_SECONDS, rlimits.give_memory_back)  # what the first apps needed
    found = find_predecessor(home, taken)
    manager = Manager(loop, Persistence(loop, home, found.state, found.store))
    service = Service(loop, home, held, manager, own_log)
    try:
        service.serve(lambda: manager.restore(found.saved, found.entries), manager.after_turn)
    except Exception as error:
        if time.monotonic() - loop.began_at < _SOUND_SECONDS:
            raise
        # A fault of ours. The workers go on, and what we knew is on disk: begin again, as after any other death.
        log(f"internal error, the supervisor begins again: {error!r} at {_place_of(error)}")
        become(this_program(), found.store.fds, held)
    if manager.successor:
        log("supervisor replaced by another version")
        try:
            become(manager.successor, found.store.fds, held)
        except (OSError, ValueError) as error:
            log(f"{manager.successor.python} cannot be executed ({error}); this version begins again")
            become(this_program(), found.store.fds, held)
    log("supervisor stopped")


def _place_of(error: Exception) -> str:
    traceback = error.__traceback__
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}" if traceback else "?"


class Service:
    """A manager in its surroundings: signals, sockets, the home, and what the supervisor does by itself."""

    def __init__(self, loop: Loop, home: Home, held: int, manager: Manager, own_log: Optional[OwnLog] = None) -> None:
        self._loop = loop
        self._home = home
        self._held = held
        self._manager = manager
        self._log_rotation = observe(manager, loop, home, own_log)

    def serve(self, begin: Callable[[], None], after_turn: Callable[[], None]) -> None:
        """Opens the sockets for workers and commands, calls `begin`, and returns when the loop was stopped."""
        self._take_signals()
        self._manager.endpoints.open()
        begin()
        self._log_rotation.look()
        self._manager.reap_children()  # those that ended while another program ran in this process
        self._server = Server(self._loop, self._home, self._manager, self._log_rotation)
        self._watch = HomeWatch(self._loop, self._home, self._held, self)
        self._loop.on_signal(signal.SIGHUP, self._reopen)
        self._show_pid()
        systemd.notify("READY=1")
        systemd.feed_watchdog(self._loop)
        log(f"supervisor ready (pid {os.getpid()})")
        self._loop.run(after_turn)
        if not self._manager.successor:
            systemd.notify("STOPPING=1")
        self._close()

    def _show_pid(self) -> None:
        with suppress(OSError):
            os.symlink(os.path.relpath(self._home.lock, self._home.path), self._home.pm2_pid)

    def _take_signals(self) -> None:
        self._loop.on_signal(signal.SIGCONT, self._loop.was_continued)
        self._loop.on_signal(signal.SIGUSR2, self._log_rotation.reopen)  # what PM2's users send after moving logs
        self._loop.on_signal(signal.SIGCHLD, self._manager.reap_children)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(number, self._shut_down)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _shut_down(self) -> None:
        self._manager.jobs.submit("shut down", self._manager.shut_down(), lambda _: None, urgent=True)

    def _reopen(self) -> None:
        self._watch.look()
        self._reopen_sockets()

    def _reopen_sockets(self) -> None:
        self._manager.endpoints.reopen()
        self._server.reopen()

    def home_was_made_again(self) -> None:
        self._show_pid()
        self._reopen_sockets()
        self._loop.faults.contain("opening the log again", self._log_rotation.reopen_own)
        self._manager.persistence.save_anew()

    def home_was_lost(self) -> None:
        self._manager.give_up()

    def _close(self) -> None:
        for observer in self._manager.observers:
            observer.close()
        is_over = not self._manager.successor and not self._watch.is_lost
        self._manager.endpoints.close(removes_files=is_over)
        with suppress(OSError):
            if is_over:
                os.unlink(self._home.pm2_pid)
        self._server.close()
        self._watch.close()
