"""The supervisor's main: one per home. Take the lock, recover what an earlier one left, then serve until told to stop."""

from __future__ import annotations

import array
import fcntl
import os
import signal
import socket
import sys
import time
from typing import Any, Callable, Optional

from percore.supervisor import restoring, snapshot
from percore.supervisor.handover import Handover
from percore.supervisor.home import Home
from percore.supervisor.loop import Loop
from percore.supervisor.manager import Manager
from percore.supervisor.notices import Notices
from percore.supervisor.process import become_subreaper
from percore.supervisor.procfs import start_time_of
from percore.supervisor.server import Server
from percore.supervisor.spawning import STORE_FDS
from percore.supervisor.store import FdStore
from percore.supervisor.update import STORE, become, passed_fds, passed_lock

_SYS_PIDFD_GETFD = 438


def main() -> None:
    home = Home.of_user()
    home.make()
    # A service manager would only start us again and again: under one, we wait until the other supervisor ends.
    lock = passed_lock() or take_lock(home.lock, waits="NOTIFY_SOCKET" in os.environ)
    if lock is None:
        raise SystemExit(f"percore: a supervisor already runs in {home.path}")
    become_subreaper()
    loop = Loop()
    state = snapshot.StateFile(home.state)
    saved, problem = state.load(restoring.check)
    if problem:
        log(problem)
    if not saved or (not saved["apps"] and saved.get("boot") != snapshot.boot_id()):
        saved = what_was_dumped(home) or saved
    store, shelves = recover_store(saved)
    manager = Manager(loop, home, log, store, state)
    serve(loop, home, manager, log, lambda: manager.restore(saved, shelves) if saved else None, manager.after_turn)
    if manager.successor:
        log("supervisor replaced by another version")
        become(manager.successor, store.fds, lock)
    log("supervisor stopped")


def serve(loop: Loop, home: Home, manager: Manager, log: Callable[[str], None], begin: Callable[[], None],
          after_turn: Callable[[], None]) -> None:  # fmt: skip
    """Opens what workers and commands talk to, calls `begin`, and returns when the loop was stopped."""
    loop.on_signal(signal.SIGCHLD, manager.reap_children)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.on_signal(
            number, lambda: manager.jobs.submit("shut down", manager.shut_down(), lambda _: None, urgent=True)
        )
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    handover = Handover(loop, home.worker_socket, manager.find_worker, manager.open_listener)
    notices = Notices(loop, home, manager.worker_is_ready)
    begin()
    manager.log_rounds.go_round()
    manager.reap_children()  # those that ended while another program ran in this process
    server = Server(loop, home.control_socket, manager)
    notify("READY=1")
    log(f"supervisor ready (pid {os.getpid()})")
    loop.run(after_turn)
    if not manager.successor:
        notify("STOPPING=1")
    handover.close()
    notices.close()
    server.close()


def what_was_dumped(home: Home) -> Optional[dict[str, Any]]:
    """PM2's users expect what they saved after a boot; it also stands in for a state that is lost."""
    dump = snapshot.StateFile(home.dump)
    if not dump.exists():
        return None
    saved, problem = dump.load(restoring.check)
    log(problem or f"no app is known; what was saved in {home.dump} is started")
    return saved


def check() -> None:
    """Ends with a sentence on stderr unless this program can take over the supervisor of `$PERCORE_HOME`; changes nothing."""
    home = Home.of_user()
    try:
        snapshot.StateFile(home.state).read(restoring.check)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise SystemExit(f"{home.state} cannot be read: {error}") from None


def log(line: str) -> None:
    """To stderr: the journal under systemd, `logs/percore.log` otherwise."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def take_lock(path: str, *, waits: bool = False) -> Optional[int]:
    """Held as long as we live; None when another supervisor holds it, unless we wait for its end."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


# -- systemd, without its library ------------------------------------------------------------------------------------


def notify(state: str, descriptors: tuple[int, ...] = ()) -> None:
    """sd_notify(3); does nothing outside systemd."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            sock.sendmsg([state.encode()], rights, 0, address)
        except OSError as error:
            log(f"systemd could not be told {state.splitlines()[0]}: {error.strerror}")


def recover_store(saved: Optional[dict[str, object]]) -> tuple[FdStore, dict[str, list[int]]]:
    """The store of an earlier supervisor and what is in it: passed to us, else out of a living worker; else a new one."""
    ends = _passed_ends() or _ends_from_workers(saved or {})
    store = FdStore(ends)
    shelves = store.look() if ends else {}
    if not ends:
        # FDPOLL=0: systemd must not drop the pair because it looks hung up while we are dead.
        notify("FDSTORE=1\nFDNAME=store\nFDPOLL=0", store.fds)
    return store, shelves


def _passed_ends() -> Optional[tuple[socket.socket, socket.socket]]:
    kept = passed_fds(STORE)
    return _pair(kept[0], kept[1]) if len(kept) == 2 else None


def _ends_from_workers(saved: dict[str, object]) -> Optional[tuple[socket.socket, socket.socket]]:
    """Every worker inherited both ends as STORE_FDS. Needs the right to trace the worker: the same user, or root."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    for record in _saved_workers(saved):
        if start_time_of(record["pid"]) != record["start_time"]:
            continue
        try:
            pidfd = os.pidfd_open(record["pid"])
        except OSError:
            continue
        taken = [libc.syscall(_SYS_PIDFD_GETFD, pidfd, number, 0) for number in STORE_FDS]
        os.close(pidfd)
        if min(taken) >= 0:
            ends = _pair(*taken)
            if all(end.family == socket.AF_UNIX and end.type == socket.SOCK_SEQPACKET for end in ends):
                return ends
    return None


def _pair(first: int, second: int) -> tuple[socket.socket, socket.socket]:
    for descriptor in (first, second):
        os.set_inheritable(descriptor, False)
    return socket.socket(fileno=first), socket.socket(fileno=second)


def _saved_workers(saved: dict[str, object]) -> list[dict[str, int]]:
    apps: list[dict[str, list[dict[str, list[dict[str, int]]]]]] = saved.get("apps", [])  # type: ignore[assignment]
    return [worker for app in apps for slot in app["slots"] for worker in slot["workers"]]
