"""Looks at all logs from time to time; what is to be done to them (logs/retention.py) is done in a process beside the loop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable, Mapping

from percore.common.typing import NamedTuple, Optional
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Loop, Timer
from percore.supervisor.config.app import AppConfig
from percore.supervisor.core.app import App
from percore.supervisor.core.manager import Observer
from percore.supervisor.core.worker.record import log_paths_of, written_paths_of
from percore.supervisor.logs.files import FileId, OwnLog, has_file, has_formatter, id_of
from percore.supervisor.logs.limits import (
    LogTask,
    RetentionReport,
    RotationLimits,
    free_missing,
    held_bytes,
    space_of,
)

_SHORTEST_WAIT = 1.0
_LONGEST_WAIT = 10.0
# Less than this cannot be rotated by age: only whole blocks can be cut off.
_LEAST_BYTES = 16 << 10
_DEFAULTS = AppConfig._field_defaults


class Log(NamedTuple):
    """A log that a process writes: `file` is what it has open, `place` where else that can be opened."""

    config: Optional[AppConfig]  # None: the supervisor's own
    path: str
    place: str
    file: FileId


class LogRotation(Observer):
    def __init__(self, loop: Loop, home: Home, apps: Mapping[str, App], own_log: Optional[OwnLog] = None) -> None:
        self.dropped: dict[str, int] = {}  # by path: bytes that were cut off before their time, for want of space
        self._loop = loop
        self._home = home
        self._apps = apps
        self._own_log = own_log
        self._wait = 0.0
        self._room_at = 0.0  # when to try again to make room on a full disk
        self._timer: Optional[Timer] = None
        self._child = -1  # its pidfd
        self._report = b""
        self._said: set[str] = set()
        self._first_seen: dict[FileId, float] = {}

    # -- looking -----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Every log: from time to time, again at once while one is too long, and rarely while none grows."""
        if self._child >= 0:
            return
        tasks = list(self._find_tasks())
        is_tight = _reserve_space(tasks)
        if any(task.is_due for task in tasks) or (is_tight and self._has_to_make_room(tasks)):
            self._start_process(tasks)
        else:
            self._plan(_SHORTEST_WAIT if is_tight else min(_LONGEST_WAIT, max(_SHORTEST_WAIT, 2 * self._wait)))

    def _has_to_make_room(self, tasks: Iterable[LogTask]) -> bool:
        """Not again and again where there is nothing to gain."""
        return any(map(free_missing, tasks)) and time.monotonic() >= self._room_at

    def _plan(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._wait = seconds
        self._timer = self._loop.later(seconds, self.look)

    def reopen(self) -> None:
        """The supervisor's own log, if it was moved or deleted; then looks at all others."""
        self.reopen_own()
        self._said.clear()
        self._plan(0.0)

    def reopen_own(self) -> None:
        try:
            if self._own_log:
                self._own_log.reopen()
        except OSError as error:
            log(f"{self._home.daemon_log} cannot be opened: {error.strerror}")

    def close(self) -> None:
        """The process beside the loop may be cut off anywhere."""
        if self._child >= 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._child, signal.SIGKILL)
                os.waitid(os.P_PIDFD, self._child, os.WEXITED)

    # -- what there is to do -----------------------------------------------------------------------------------------

    def logs(self) -> Iterable[Log]:
        for app in self._apps.values():
            for worker in {*app.living, *app.workers}:
                if has_formatter(worker.config):
                    yield from _found(worker.config, log_paths_of(worker))
                    continue
                if not worker.child.process:
                    yield from _found(worker.config, written_paths_of(worker))
                    continue
                for number, (path, file) in enumerate(zip(written_paths_of(worker), worker.child.logs.files), 1):
                    yield Log(worker.config, path, f"/proc/{worker.pid}/fd/{number}", file)
        if self._own_log and self._own_log.is_file:
            yield Log(None, self._home.daemon_log, "/proc/self/fd/2", id_of(os.fstat(2)))

    def _find_tasks(self) -> Iterable[LogTask]:
        now = time.time()
        seen = set()
        for found in self.logs():
            if found.file in seen or found.path == os.devnull:
                continue
            seen.add(found.file)
            is_there = has_file(found.path, found.file)
            if not is_there and found.config:
                self._log_once(f"{found.path} was moved or deleted while it is written -> percore reloadLogs")
            yield self._task_of(found, "" if is_there else found.place, now)

    def _task_of(self, found: Log, place: str, now: float) -> LogTask:
        """Only looks. What is done later is done to what the path leads to then, and with the rights of its user."""
        config, path = found.config, found.path
        held = held_bytes(place or path)
        if config is None:
            limits = RotationLimits(_DEFAULTS["log_max_size"], 1)
            return LogTask("", path, limits, 0, _DEFAULTS["log_min_free"], place, found.file, held > limits.max_size)
        limits = RotationLimits(config.log_max_size, config.log_keep, config.log_compress)
        is_aged = (
            bool(config.log_max_age)
            and held > _LEAST_BYTES
            and now - self._began(os.path.realpath(path), found.file, now) > config.log_max_age
        )
        is_interrupted = os.path.lexists(f"{os.path.realpath(path)}.rotation")
        return LogTask(
            config.name, path, limits, config.log_max_total, config.log_min_free, place, found.file,
            is_aged or 0 < config.log_max_size < held or is_interrupted, is_aged, config.user, config.group,
        )  # fmt: skip

    def _began(self, path: str, file: FileId, now: float) -> float:
        """When the first line was written, roughly: when it was rotated last, or else when we first saw it."""
        try:
            return os.stat(f"{path}.1").st_mtime
        except OSError:
            return self._first_seen.setdefault(file, birth_time(path) or now)

    # -- the process that does it ------------------------------------------------------------------------------------

    def _start_process(self, tasks: Iterable[LogTask]) -> None:
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            pid = os.fork()
        except OSError:
            os.close(read)
            os.close(write)
            self._plan(_LONGEST_WAIT)
            return
        if pid == 0:
            _work(tasks, write)
        self._child = os.pidfd_open(pid)
        os.close(write)
        self._report = b""
        self._loop.watch(read, lambda: self._read_report(read))

    def _read_report(self, read: int) -> None:
        try:
            part = os.read(read, 65536)
        except BlockingIOError:
            return
        self._report += part
        if part:
            return
        self._loop.unwatch(read)
        os.close(read)
        os.close(self._child)
        self._child = -1
        try:
            report = RetentionReport(*json.loads(self._report))
        except (ValueError, TypeError):
            self._plan(_LONGEST_WAIT)
            return
        self._follow(report)

    def _follow(self, report: RetentionReport) -> None:
        for problem in report.problems:
            self._log_once(problem)
        self._room_at = time.monotonic() + (0.0 if report.dropped else _LONGEST_WAIT)
        for path, count in report.dropped.items():
            self._log_once(f"the disk is nearly full: older lines of {path} are dropped (see 'percore describe')")
            real = os.path.realpath(path)
            self.dropped[real] = self.dropped.get(real, 0) + count
        self._plan(0.0 if report.moved else _LONGEST_WAIT if report.problems else _SHORTEST_WAIT)

    def _log_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            log(sentence)


def _reserve_space(tasks: Iterable[LogTask]) -> bool:
    """True where a disk is nearly full."""
    tight = [task for task in tasks if space_of(task).is_tight]
    if tight:
        from percore.supervisor.logs.retention import reserve

        for task in tight:
            reserve(task)
    return bool(tight)


def _found(config: AppConfig, paths: Iterable[str]) -> Iterable[Log]:
    """Logs that no worker has open: the log formatter writes them, or the worker ended, perhaps while no supervisor ran."""
    for path in filter(None, paths):
        with contextlib.suppress(OSError):
            yield Log(config, path, "", id_of(os.stat(path)))


def _work(tasks: Iterable[LogTask], write: int) -> None:
    """In the child. Never returns."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        # Our sockets and the lock must not outlive the supervisor in here.
        os.closerange(3, write)
        os.closerange(write + 1, 65536)
        os.nice(5)
        from percore.supervisor.logs.retention import do_tasks

        os.write(write, json.dumps(do_tasks(tasks)).encode())
    finally:
        os._exit(0)


def birth_time(path: str) -> float:
    """When the file was made; 0.0 where the file system does not know. (os.stat has no such field.)"""
    import ctypes

    found = ctypes.create_string_buffer(256)
    libc = ctypes.CDLL(None)
    at_cwd, wanted = -100, 0x800  # AT_FDCWD, STATX_BTIME
    if libc.statx(at_cwd, os.fsencode(path), 0, wanted, found) != 0:
        return 0.0
    mask = int.from_bytes(found.raw[0:4], "little")
    return float(int.from_bytes(found.raw[80:88], "little", signed=True)) if mask & wanted else 0.0
