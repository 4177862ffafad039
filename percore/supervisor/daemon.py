"""The supervisor's main: one per home. Take the lock, recover what an earlier one left, then serve until told to stop."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator

from percore.common.typing import Any, Callable, Optional, Union
from percore.errors import PercoreError
from percore.supervisor import lock, rlimits, systemd
from percore.supervisor.control_server import Server
from percore.supervisor.core.manager import Manager
from percore.supervisor.faults import Faults
from percore.supervisor.health.sd_notify import NotifySocket
from percore.supervisor.home import Home
from percore.supervisor.home_owner import go_on_as_owner
from percore.supervisor.home_watch import Residence, ask_back, find_owner
from percore.supervisor.logs.files import OwnLog
from percore.supervisor.loop import Loop
from percore.supervisor.process.process import become_subreaper
from percore.supervisor.program import STORE, become, passed_fds, passed_lock, this_program
from percore.supervisor.sockets.broker import Broker
from percore.supervisor.sockets.preload import Outside, remove_outside
from percore.supervisor.sockets.unix import UnixServer
from percore.supervisor.state import state_file
from percore.supervisor.state.fd_store import Ends, FdStore, ends_among
from percore.supervisor.state.rescue import ends_held_by
from percore.supervisor.state.saved import SET_ASIDE, Saved, read_saved

_LOCK_SECONDS = 1.0
_LACK_SECONDS = 1.0
# After running so long, a fault of ours is no reason to stay away.
_SOUND_SECONDS = 5.0


def find_home() -> Home:
    """The home of this process, which goes on as the user it belongs to. Ends with a sentence where that cannot be."""
    try:
        home = Home.of_user()
        go_on_as_owner(home)
    except PercoreError as error:
        raise SystemExit(f"percore: {error}") from None
    return home


def main() -> None:
    home = find_home()
    try:
        home.make()
        held, taken = passed_lock() or take_home(home), None
        if held is None and systemd.is_there():
            # Ending would not help: we would be started again at once.
            from percore.supervisor.state.takeover import take_over  # seldom needed, and it would stay in memory

            log("a supervisor already runs; it is asked to leave")
            taken = take_over(home)
            held = take_lock(home.lock, waits=True)
        if held is None:
            raise SystemExit(f"percore: a supervisor already runs in {home.path}{knock(home.lock)}")
        run(home, held, taken)
    except OSError as error:
        if systemd.is_there():
            time.sleep(_LACK_SECONDS)  # it starts us again at once, and a full disk is not emptied in a millisecond
        place = f"{error.filename}: " if error.filename else ""
        raise SystemExit(f"percore: the supervisor cannot start: {place}{error.strerror}") from None
    except PercoreError as error:
        raise SystemExit(f"percore: the supervisor cannot start: {error}") from None


def run(home: Home, held: int, taken: Optional[Ends] = None) -> None:
    """`taken` are the ends of a store that another supervisor gave up. Raises OSError where it lacks something to begin with."""
    own_log = OwnLog(home.daemon_log)
    sys.stderr = own_log
    become_subreaper()
    rlimits.forbid_cores()
    rlimits.take_descriptors()
    rlimits.give_memory_back()
    loop = Loop(Faults(log))
    state = state_file.StateFile(home.state)
    saved = recall(home, state)
    passed = _passed_ends()
    candidates = itertools.chain(filter(None, (taken, passed)), _ends_from_workers(saved or Saved()))
    store, shelves = recover_store(candidates)
    if not passed or store.fds != tuple(end.fileno() for end in passed):
        # FDPOLL=0: systemd must not drop the pair because it looks hung up while we are dead.
        systemd.notify("FDSTORE=1\nFDNAME=store\nFDPOLL=0", store.fds)
    manager = Manager(loop, home, log, store, state)
    manager.log_rounds.own_log = own_log
    try:
        serve(loop, home, held, manager, log, lambda: manager.restore(saved, shelves), manager.after_turn)
    except Exception as error:
        if time.monotonic() - loop.began_at < _SOUND_SECONDS:
            raise
        # A fault of ours. The workers go on, and what we knew is on disk: begin again, as after any other death.
        traceback = error.__traceback__
        while traceback and traceback.tb_next:
            traceback = traceback.tb_next
        where = f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}" if traceback else "?"
        log(f"internal error, the supervisor begins again: {error!r} at {where}")
        become(this_program(), store.fds, held)
    if manager.successor:
        log("supervisor replaced by another version")
        try:
            become(manager.successor, store.fds, held)
        except (OSError, ValueError) as error:
            log(f"{manager.successor.python} cannot be executed ({error}); this version begins again")
            become(this_program(), store.fds, held)
    log("supervisor stopped")


def serve(loop: Loop, home: Home, held: int, manager: Manager, log: Callable[[str], None], begin: Callable[[], None],
          after_turn: Callable[[], None]) -> None:  # fmt: skip
    """Opens what workers and commands talk to, calls `begin`, and returns when the loop was stopped."""
    loop.on_signal(signal.SIGCONT, loop.was_continued)
    loop.on_signal(signal.SIGUSR2, manager.log_rounds.reopen)  # what PM2's users send after moving logs
    loop.on_signal(signal.SIGCHLD, manager.reap_children)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.on_signal(
            number, lambda: manager.jobs.submit("shut down", manager.shut_down(), lambda _: None, urgent=True)
        )
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    broker = Broker(loop, home.worker_socket, manager.find_worker, log)
    notify_socket = NotifySocket(loop, home.notify_address, manager.worker_is_ready)
    servers: list[Union[UnixServer, NotifySocket]] = [broker.server, notify_socket]

    def let_user_in(uid: int, outside: Outside) -> None:
        open_broker(outside.worker_socket, user=uid)
        servers.append(NotifySocket(loop, outside.notify_address, manager.worker_is_ready, user=uid))

    def open_broker(path: str, **who: Any) -> None:
        servers.append(Broker(loop, path, manager.find_worker, log, **who).server)

    def serve_former(address: str) -> None:
        is_allowed = manager.has_worker_of
        try:
            if address.endswith("worker.sock"):
                open_broker(address, is_allowed=is_allowed)
            else:
                servers.append(NotifySocket(loop, address, manager.worker_is_ready, is_allowed=is_allowed))
        except OSError as error:
            log(f"{address}, where workers of an earlier version look for us, cannot be opened: {error.strerror}")

    manager.let_user_in, manager.serve_former = let_user_in, serve_former
    begin()
    manager.log_rounds.go_round()
    manager.reap_children()  # those that ended while another program ran in this process
    server = Server(loop, home.control_socket, manager)

    def reopen_sockets() -> None:
        for each in (*servers, server.door):
            each.reopen()

    def made_again() -> None:
        reopen_sockets()
        manager.write_anew()

    residence = Residence(loop, home, held, made_again=made_again, lost=manager.give_up, log=log)

    def open_again() -> None:
        residence.look()
        reopen_sockets()

    loop.on_signal(signal.SIGHUP, open_again)
    systemd.notify("READY=1")
    systemd.feed_watchdog(loop)
    log(f"supervisor ready (pid {os.getpid()})")
    loop.run(after_turn)
    if not manager.successor:
        systemd.notify("STOPPING=1")
    manager.close_logs()
    for each in servers:
        each.close()
    if not manager.successor and not residence.is_lost and len(servers) > 2:
        remove_outside(home)
    server.close()
    residence.close()


def take_home(home: Home) -> Optional[int]:
    """As `take_lock`; where the home is new, whoever had it before it was deleted is asked to take it up again."""
    pid = 0 if os.path.exists(home.lock) else find_owner(home)
    if pid and ask_back(home, pid):
        return None
    if pid:
        raise SystemExit(
            f"percore: another supervisor (pid {pid}), whose {home.path} was deleted, still runs -> kill {pid}, "
            "which stops its apps, and start again"
        )
    return take_lock(home.lock)


def recall(home: Home, state: state_file.StateFile) -> Optional[Saved]:
    """What an earlier supervisor left; None when nothing is known."""
    content, problem = state.load()
    if problem:
        log(problem)
    saved = read_saved(content) if content else None
    if saved is None or (not saved.apps and not state_file.is_this_boot(saved.boot, saved.init)):
        return what_was_dumped(home, saved or Saved()) or saved
    return saved


def what_was_dumped(home: Home, saved: Saved) -> Optional[Saved]:
    """PM2's users expect what they saved after a boot; it also stands in for a state that is lost."""
    dump = state_file.StateFile(home.dump)
    if not dump.exists():
        return None
    content, problem = dump.load()
    log(problem or f"no app is known; what was saved in {home.dump} is started")
    if content is None:
        return None
    dumped = read_saved(content)
    names = {app.config.name for app in dumped.apps}
    kept = (app for app in saved.aside if app.name not in names)
    return dumped._replace(aside=(*dumped.aside, *kept), unknown={**dumped.unknown, **saved.unknown})


def check() -> None:
    """Ends with a sentence on stderr unless this program can take over the supervisor of `$PERCORE_HOME`; changes nothing."""
    home = find_home()
    try:
        content = state_file.StateFile(home.state).read()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise SystemExit(f"{home.state} cannot be read: {error}") from None
    # What is set aside already loses nothing.
    for app in read_saved({**content, SET_ASIDE: []}).aside:
        raise SystemExit(f"{home.state}: '{app.name}' would be set aside: {app.reason}")


def log(line: str) -> None:
    """To stderr: the journal under systemd, `logs/percore.log` otherwise."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def take_lock(path: str, *, waits: bool = False) -> Optional[int]:
    """Held as long as we live, with our pid in it; None when another supervisor holds it, unless we wait for its end.

    A child of a supervisor that was killed holds it until it executes its program, so it is worth waiting a little.
    """
    deadline = time.monotonic() + _LOCK_SECONDS
    while (held := lock.take(path)) is None and (waits or time.monotonic() < deadline):
        time.sleep(0.02)
    return held


def knock(lock_path: str) -> str:
    """Asks the supervisor that runs to open its sockets again, should somebody have deleted them; says so."""
    pid = lock.holder(lock_path)
    if not pid:
        return ""
    try:
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGHUP)
        os.close(pidfd)
    except OSError:
        return ""
    return f" (pid {pid}); it opens its sockets again where they are gone"


def recover_store(candidates: Iterable[Ends]) -> tuple[FdStore, dict[str, list[int]]]:
    """The first of these that is a store and what is in it, or a new one."""
    for ends in candidates:
        store = FdStore(ends)
        try:
            return store, store.look()
        except (OSError, ValueError) as error:
            log(f"a store of sockets makes no sense and is passed over: {error}")
            store.close()
    return FdStore(), {}


def _passed_ends() -> Optional[Ends]:
    return ends_among(passed_fds(STORE))


def _ends_from_workers(saved: Saved) -> Iterator[Ends]:
    """Every worker of our own user inherited both ends as STORE_FDS. Needs the right to trace the worker."""
    for worker in saved.workers:
        if ends := ends_held_by(worker.pid, worker.start_time):
            yield ends
