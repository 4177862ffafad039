"""One start of a program: the process, what it leaves behind, and how it ended."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterable

from percore.common.typing import TYPE_CHECKING, Callable, NamedTuple, Optional
from percore.errors import PercoreError
from percore.supervisor.base.logger import Faults
from percore.supervisor.base.loop import LoopScope
from percore.supervisor.base.user import Identity, identity_of, identity_or_none
from percore.supervisor.config.app import AppConfig, Place
from percore.supervisor.logs.files import OpenLogs, note_logs, written_paths
from percore.supervisor.process.command import WorkerEnvironment, make_command
from percore.supervisor.process.process import (
    NOT_STARTED,
    Process,
    kill,
    kill_orphans,
    lines_of,
    open_orphans,
    read_status,
)
from percore.supervisor.process.spawn import spawn
from percore.supervisor.process.usage import Sampler

if TYPE_CHECKING:
    from typing import Protocol

    from percore.supervisor.process.cgroup import Groups, WorkerGroup

    class ReadyReader(Protocol):
        """What waits for a message of the program."""

        def said_ready(self) -> None: ...

    class ChildOwner(Protocol):
        """The worker whose process it is."""

        @property
        def readiness(self) -> ReadyReader: ...

        def ended(self, ended: ChildEnd) -> None:
            """The process and all that it left behind are gone, or it could not be started."""


_READY = b'"ready"'  # as Node writes process.send('ready')


class ChildEnd(NamedTuple):
    exit_code: int
    reason: str
    log_tail: list[str]  # not read where it was told to end
    is_known: bool = True  # False: the code is not the program's; it was not started, or not by us


class Child:
    """Tells its owner once how it ended."""

    def __init__(self, children: Children, loop: LoopScope, name: str, owner: ChildOwner) -> None:
        self.process: Optional[Process] = None
        self.token = os.urandom(12).hex()
        self.logs = OpenLogs()
        self.usage = Sampler()
        self.started_at = 0.0  # monotonic seconds
        self.adopted_at = 0.0  # the same; when this supervisor took it over from an earlier one
        self._children = children
        self._loop = loop
        self._name = name
        self._owner = owner
        self._user: Optional[Identity] = None
        self._group: Optional[WorkerGroup] = None  # of an app with memory_max
        self._orphans = Orphans(loop)
        self._unread = b""  # of the channel
        self._is_foreign = False  # an earlier supervisor started it, so what it leaves does not come to us
        self._is_told = False  # to end

    def start(self, environment: WorkerEnvironment, place: Place, config: AppConfig, sockets: Iterable[int]) -> None:
        """`sockets` are opened one by one, and passed to it. What keeps it from starting is told as its end."""
        self.started_at = time.monotonic()
        self._orphans.are_spared = not config.treekill
        opened: list[int] = []
        try:
            self._user = identity_of(config.user, config.group)
            paths = written_paths(config, place.number, environment.home.logs)
            opened = environment.open_logs(config, place, paths, self._user)
            self.logs = note_logs(paths, opened)
            command = make_command(environment, place, config, self.token, self._user, opened, tuple(sockets))
            if config.memory_max:
                self._group = self._children.groups.make(_group_name(config, place, self.token), config.memory_max)
                command = command._replace(group=self._group.entry if self._group else "")
            self.process = spawn(command)
        except Exception as error:
            ended = ChildEnd(NOT_STARTED, _why_not_started(error, self._name, self._loop.faults), [], is_known=False)
            self._loop.later(0, lambda: self._end(ended))
            return
        finally:
            for descriptor in opened:
                os.close(descriptor)
        self._watch(self.process)

    def adopt(
        self,
        process: Process,
        environment: WorkerEnvironment,
        place: Place,
        config: AppConfig,
        token: str,
        logs: OpenLogs,
    ) -> None:
        """Takes over a living process of an earlier supervisor."""
        self.process, self.token, self.logs = process, token, logs
        self._orphans.are_spared = not config.treekill
        self.adopted_at = time.monotonic()
        self.started_at = self.adopted_at - process.age_seconds
        self._is_foreign = not process.is_child
        self._user = identity_or_none(config.user, config.group)
        if config.memory_max:
            self._group = self._children.groups.find(_group_name(config, place, self.token), config.memory_max)
        self._watch(process)

    @property
    def is_alive(self) -> bool:
        """The process is there, or something of it that was given time to end."""
        return bool(self.process or self._orphans.pidfds)

    # -- to the process ----------------------------------------------------------------------------------------------

    def terminate(self, config: AppConfig) -> None:
        self._is_told = True
        if not self.process:
            return  # it could not be started, which is about to be told
        if config.shutdown_with_message and self.process.channel:
            with contextlib.suppress(OSError):  # the program has closed its end
                self.process.channel.send(b'"shutdown"\n')
                return
        from percore.supervisor.process.stop_signal import signal_for

        spared = self._children.spared(self.process, self.token)
        number = signal_for(config, self.process.pid)
        self.process.signal(number, whole_group=config.treekill, spared=spared)

    def kill(self) -> None:
        self._orphans.kill()
        if self._group:
            self._group.kill()
        if self.process:
            self.process.kill(
                whole_group=not self._orphans.are_spared, spared=self._children.spared(self.process, self.token)
            )

    # -- from the process --------------------------------------------------------------------------------------------

    def _watch(self, process: Process) -> None:
        self._children.by_pid[process.pid] = self
        if process.channel:
            self._loop.watch(process.channel.fileno(), self._read_channel)

    def _read_channel(self) -> None:
        assert self.process
        assert self.process.channel
        channel = self.process.channel
        try:
            part = channel.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self._loop.unwatch(channel.fileno())
            return
        *lines, rest = (self._unread + part).split(b"\n")
        self._unread = rest[: len(_READY) + 1]  # a line that never ends, or says something else, is not kept
        if _READY in lines:
            self._owner.readiness.said_ready()

    def main_process_died(self) -> None:
        """Its pid is still ours."""
        self._loop.contain(f"ending {self._name}", self._end_group)

    def _end_group(self) -> None:
        """In a polite stop its orphans get the rest of `kill_timeout`; else they are killed, too.

        npm, or a shell, ends at once at a signal; the program below it may have something to finish.
        """
        if self._orphans.are_spared:
            return
        if self._is_told:
            spared = self._children.spared(self.process, self.token)
            self._orphans.pidfds = open_orphans(self.token, anywhere=self._is_foreign, spared=spared)
        if not self._orphans.pidfds:
            self.kill()

    def has_ended(self, status: Optional[int]) -> None:
        """The main process is gone, with this wait status (None: unknown, it was not our child)."""
        self._loop.contain(f"ending {self._name}", self._has_ended, status)

    def _has_ended(self, status: Optional[int]) -> None:
        self._release_process()
        code, reason = read_status(status)
        ended = ChildEnd(code, reason, [], is_known=status is not None)
        self._orphans.when_gone(lambda: self._end(ended))

    def _release_process(self) -> None:
        if self.process:
            self._children.by_pid.pop(self.process.pid, None)
            if self.process.channel:
                self._loop.unwatch(self.process.channel.fileno())
            self.process.close()
            self.process = None

    def _end(self, ended: ChildEnd) -> None:
        if not self._orphans.are_spared:
            kill_orphans(self.token, anywhere=self._is_foreign, spared=self._children.spared(self.process, self.token))
        if self._group:
            ended = ended._replace(reason=self._group.explain(ended.reason))
            self._group.end(self._loop.later)
            self._group = None
        if not self._is_told:
            ended = ended._replace(log_tail=self.log_tail())
        self._owner.ended(ended)

    def log_tail(self) -> list[str]:
        return self.logs.tail(self._user)


class Orphans:
    """What outlived the main process in a polite stop."""

    __slots__ = ("_loop", "are_spared", "pidfds")

    def __init__(self, loop: LoopScope) -> None:
        self.pidfds: list[int] = []
        self.are_spared = False  # what the process leaves behind is nobody's business
        self._loop = loop

    def kill(self) -> None:
        for pidfd in self.pidfds:
            kill(pidfd)

    def when_gone(self, callback: Callable[[], None]) -> None:
        """Calls it once the last one ended; at once when there is none."""

        def has_ended(pidfd: int) -> None:
            self._loop.unwatch(pidfd)
            os.close(pidfd)
            self.pidfds.remove(pidfd)
            if not self.pidfds:
                callback()

        for pidfd in self.pidfds:
            self._loop.watch(pidfd, functools.partial(has_ended, pidfd))
        if not self.pidfds:
            callback()


class Children:
    """Those of one supervisor."""

    def __init__(self) -> None:
        self.by_pid: dict[int, Child] = {}
        self.askers: set[int] = set()  # whoever is connected to the control socket

    @functools.cached_property
    def groups(self) -> Groups:
        """For workers with a memory_max."""
        from percore.supervisor.process.cgroup import find_groups

        return find_groups()

    def spared(self, process: Optional[Process], token: str) -> set[int]:
        """A command of percore that runs below a worker outlives what it asked for, with what waits for it."""
        return lines_of(self.askers, token) - {process.pid if process else 0}

    def reap(self) -> None:
        """Called on SIGCHLD. A dead child still holds its pid when its group is killed, so no other process is hit."""
        with contextlib.suppress(ChildProcessError):
            while waiting := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                child = self.by_pid.get(waiting.si_pid)
                if child:
                    child.main_process_died()
                _, status = os.waitpid(waiting.si_pid, 0)
                if child:
                    child.has_ended(status)


def _group_name(config: AppConfig, place: Place, token: str) -> str:
    return f"{config.name}-{place.number}-{token}"


def _why_not_started(error: Exception, name: str, faults: Faults) -> str:
    if isinstance(error, PercoreError):
        return str(error)
    if isinstance(error, OSError):
        return f"cannot be started: {error.strerror or error}"
    return f"cannot be started: {faults.note(f'starting {name}', error).what}"
