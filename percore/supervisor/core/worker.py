"""One process of an app, through all its restarts. `handle` is the only place that assigns its state."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence

from percore.common.procfs import state_of, tree_of
from percore.common.typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional
from percore.errors import PercoreError
from percore.supervisor.config.address import Address, everywhere, parse_address
from percore.supervisor.config.app import AppConfig, Place
from percore.supervisor.core.backoff import (
    CALM_SECONDS,
    SERVE_AGAIN_SECONDS,
    Failures,
    ends_for_good,
    has_given_up,
    may_be_cut_short,
    restart_delay,
)
from percore.supervisor.faults import InternalError
from percore.supervisor.health import probe
from percore.supervisor.health.liveness import Liveness
from percore.supervisor.logs import files
from percore.supervisor.loop import Loop, Timer
from percore.supervisor.process.command import Site, make_command
from percore.supervisor.process.process import NOT_STARTED, Process, describe_status, exit_code_of
from percore.supervisor.process.spawn import spawn
from percore.supervisor.process.survivors import kill, kill_survivors, open_survivors
from percore.supervisor.process.usage import Sampler
from percore.supervisor.sockets.broker import Drainable
from percore.supervisor.sockets.listener import Listener
from percore.supervisor.sockets.port_owner import find_impostor
from percore.supervisor.sockets.reuseport_bpf import Source
from percore.supervisor.sockets.sharing import Mode, Sharing
from percore.supervisor.state.saved import SavedEnd, SavedWorker
from percore.supervisor.states import HAS_PROCESS, OVER_FOR_GOOD, Action, Event, Role, State, react
from percore.supervisor.user import identity_of, identity_or_none

if TYPE_CHECKING:
    from percore.supervisor.process.cgroup import Group

_QUEUE_LOOK_SECONDS = 0.2  # between two looks, in a back-off, at what may end it
_FIRST_REMOVAL_SECONDS, _LAST_REMOVAL_SECONDS = 0.05, 30.0
_READY = b'"ready"'  # as Node writes process.send('ready')
_TRIES = frozenset({State.STARTING, State.RUNNING, State.BACKOFF})

# So long a clustered app of which no port is known may take until it asks for one.
_NOWHERE_SECONDS = 3.0
_STILL_STARTING_SECONDS = 0.5  # between two looks, on a machine so busy that it is not through with its start by then
# So long a worker that listens on a port of its own may still ask for one to share.
_ALONE_SECONDS = 1.0


class Runtime(NamedTuple):
    """What all workers of one supervisor share.

    `tell` receives every change of a worker's state; `replace` is asked for a new worker, and why.
    """

    loop: Loop
    site: Site
    sharing: Sharing
    tell: Callable[[Worker], None]
    replace: Callable[[Worker, str], None]
    log: Callable[[str], None]
    open: Callable[[Worker, Address], Listener]  # shared sockets of the worker's app; raises PercoreError or OSError
    open_on_request: Callable[[Worker, Address], Listener]  # the same, for what the worker asks by itself


class WorkerFailed(PercoreError):
    """A worker did not become, or stay, ready; `detail` holds its last log lines."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(
            worker.last_end or f"it is {worker.state.value}",
            where=f"{worker.config.name} worker {worker.number}",
            detail="\n".join(worker.log_tail()),
        )
        self.app = worker.config.name


class Worker:
    def __init__(self, runtime: Runtime, place: Place, listeners: Mapping[Address, Listener], config: AppConfig,
                 generation: int, role: Role, on_change: Callable[[Worker], None],
                 may_start: Callable[[], bool]) -> None:  # fmt: skip
        """`listeners` are those of its app, `generation` says which sockets of its slot are its own.

        `may_start` is asked before it starts again by itself.
        """
        self.place = place
        self.config = config
        self.generation = generation
        self.role = role
        self.state = State.STOPPED
        self.process: Optional[Process] = None
        self.token = ""
        self.failure = ""
        self.last_end = ""
        self.last_tail: list[str] = []  # of the last process that failed
        self.exit_code = 0
        self.restarts = 0
        self.failures = Failures()
        self.last_delay = 0.0  # seconds, of its last back-off
        self.is_stable = False
        self.was_stable = False  # the last process, when it ended
        self._is_foreign = False  # an earlier supervisor started it, so what it leaves does not come to us
        self._had_served = False  # the last process that ended was ready
        self.started_at = 0.0  # monotonic, for durations
        self.started_time = 0.0  # wall clock, for people and for the state file
        self.addresses: list[Address] = []
        self.unknown: Mapping[str, Any] = {}  # what another version wrote of this process, or of its end
        self.preloads: list[Drainable] = []
        self.adopted_at = 0.0  # monotonic seconds; when this supervisor took it over from an earlier one
        self.stats = Sampler()
        self._timer: Optional[Timer] = None
        self._probe: Optional[probe.Probe] = None
        self._loop = runtime.loop.scoped(self._failed_within)
        self.liveness = Liveness(runtime.loop, self._checkup_target, self._has_changed, self._ask_for_replacement)
        self._runtime = runtime
        self._listeners = listeners
        self._on_change = on_change
        self._may_start = may_start
        self.log_files: tuple[files.FileId, ...] = ()  # what it has open as standard output and error
        self.log_starts = (0, 0)
        self._channel_rest = b""
        self.group: Optional[Group] = None  # of an app with memory_max
        self._survivors: list[int] = []  # pidfds of what outlived the main process in a polite stop

    # -- the table ---------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        before = self.state
        self.state, action = react(before, event)
        if action:
            _PERFORM[action](self)
        if self.state is not before:
            self._enter()
            self._has_changed()

    def _has_changed(self) -> None:
        self._runtime.loop.faults.contain(f"following {self.config.name} {self.number}", self._on_change, self)

    def _enter(self) -> None:
        self._set_timer(None)
        self._drop_probe()
        if self.state is State.STARTING:
            self._await_readiness()
        elif self.state is State.RUNNING:
            self._set_timer(self.config.min_uptime, self._became_stable)
            self.liveness.begin(self.config)
        elif self.state is State.STOPPING:
            self.liveness.end()
            self._set_timer(self.config.kill_timeout, lambda: self.handle(Event.TIMEOUT))
        elif self.state is State.BACKOFF:
            if self.role is not Role.CURRENT:
                self._later(lambda: self.handle(Event.GAVE_UP))
            elif has_given_up(self.config, self.failures):
                self._later(self._give_up)
            else:
                self.last_delay = restart_delay(self.config, self.failures)
                due = time.monotonic() + self.last_delay
                self._later(lambda: self._wait_until(due))

    def _wait_until(self, due: float) -> None:
        """Back-off. Who waits in the queue of a worker that had served cannot go to another one, so it ends sooner for them."""
        now = time.monotonic()
        if not self._may_start():
            self._set_timer(_QUEUE_LOOK_SECONDS, lambda: self._wait_until(due))
            return
        can_help = self._had_served and may_be_cut_short(self.config)
        soonest = self.started_at + SERVE_AGAIN_SECONDS
        if now >= due or (can_help and now >= soonest and self.queue_length() > 0):
            self.handle(Event.TIMEOUT)
            return
        next_look = max(soonest, now + _QUEUE_LOOK_SECONDS) if can_help else due
        self._set_timer(min(due, next_look) - now, lambda: self._wait_until(due))

    def _set_timer(self, seconds: Optional[float], callback: Callable[[], None] = lambda: None) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None if seconds is None else self._loop.later(seconds, callback)

    def _later(self, callback: Callable[[], None]) -> None:
        """In this turn of the loop, but not before everybody saw the state entered."""
        self._set_timer(0, callback)

    # -- actions -----------------------------------------------------------------------------------------------------

    def _spawn(self) -> None:
        self.token = os.urandom(12).hex()
        self._is_foreign = False
        self.failure = ""
        self.addresses = []
        self.unknown = {}
        self.is_stable = False
        self.started_at, self.started_time = time.monotonic(), time.time()
        opened: list[int] = []
        try:
            opened = self._runtime.site.open_logs(self.config, self.place, self.written_paths)
            self._note_logs([os.fstat(log) for log in opened])
            passed = tuple(self._open_declared())
            command = make_command(
                self._runtime.site, self.place, self.config, self.token, opened[0], opened[1], passed
            )
            if self.config.memory_max:
                self.group = self._runtime.site.find_groups().make(self._group_name, self.config.memory_max)
                command = command._replace(group=self.group.entry if self.group else "")
            self.process = spawn(command)
        except Exception as error:
            # Treated as any other end: same back-off, same report.
            reason = self._why_not_started(error)
            self.exit_code = NOT_STARTED
            self._loop.later(0, lambda: self._ended(None, reason))
            return
        finally:
            for descriptor in opened:
                os.close(descriptor)
        if self.process.channel:
            self._loop.watch(self.process.channel.fileno(), self._read_channel)

    def _why_not_started(self, error: Exception) -> str:
        if isinstance(error, PercoreError):
            return str(error)
        if isinstance(error, OSError):
            return f"cannot be started: {error.strerror or error}"
        return f"cannot be started: {self._runtime.loop.faults.note(f'starting {self.config.name}', error).what}"

    def _failed_within(self, told: InternalError) -> None:
        """Something of ours failed over this worker: it alone ends, and starts again later. One that serves goes on."""
        if self.is_ready:
            return
        self.failure = told.what
        if self.process or self._survivors:
            self._kill()
        elif self.state in HAS_PROCESS:
            self.handle(Event.EXITED)
        elif self.state is State.BACKOFF:
            self._set_timer(CALM_SECONDS, lambda: self.handle(Event.TIMEOUT))

    def _open_declared(self) -> Iterator[int]:
        """Opens what the file names before the program asks; gives the sockets of `listen`, which are passed to it."""
        config = self.config
        if config.shares_port and config.port is not None and not config.listen:
            self._open_early(everywhere(config.port))
        for written in config.listen:
            address = parse_address(written)
            listener = self._runtime.open(self, address)
            self.addresses.append(address)
            yield listener.socket_for(self.number, self.generation).fileno()

    def _open_early(self, address: Address) -> None:
        """Only a guess: the program may ask for this port on another host, or somebody may hold what it will not ask for."""
        if not any(address.overlaps(other) for other in self._listeners):
            with contextlib.suppress(PercoreError, OSError):
                self._runtime.open(self, address)

    def _note_logs(self, found: Sequence[os.stat_result]) -> None:
        self.log_files = tuple(map(files.id_of, found))
        self.log_starts = (found[0].st_size, found[1].st_size)

    @property
    def _group_name(self) -> str:
        return f"{self.config.name}-{self.number}-{self.token}"

    def _leave_group(self, reason: str) -> str:
        """Returns why it ended, which the group may know better."""
        if self.group is None:
            return reason
        if self.group.was_over:
            reason = f"killed by the kernel: over memory_max {(self.config.memory_max or 0) >> 20} MB"
        self.group.kill()
        self._remove_group(self.group)
        self.group = None
        return reason

    def _remove_group(self, group: Group, wait: float = _FIRST_REMOVAL_SECONDS) -> None:
        """The last of the killed may not be reaped yet."""
        if not group.remove() and wait < _LAST_REMOVAL_SECONDS:
            self._loop.later(wait, lambda: self._remove_group(group, 2 * wait))

    def _terminate(self) -> None:
        if not self.process:
            return  # it could not be started, which is about to be told
        if self.config.shutdown_with_message and self.process.channel:
            with contextlib.suppress(OSError):  # the program has closed its end
                self.process.channel.send(b'"shutdown"\n')
                return
        number = getattr(signal, self.config.kill_signal)
        self.process.signal(number, whole_group=self.config.treekill)

    def _kill(self) -> None:
        for pidfd in self._survivors:
            kill(pidfd)
        if self.group:
            self.group.kill()
        if self.process:
            self.process.kill_group()

    # -- readiness ---------------------------------------------------------------------------------------------------

    def _await_readiness(self) -> None:
        config = self.config
        if self.process and not (config.wait_ready or config.shares_port or config.port is not None):
            self._later(lambda: self.handle(Event.READY))  # that it was executed is all there is to know
            return
        self._set_timer(
            min(config.listen_timeout, _NOWHERE_SECONDS) if self._may_listen_nowhere() else config.listen_timeout,
            self._start_timed_out,
        )
        port = config.port_of(self.number)
        if port and not config.shares_port and not config.wait_ready:
            self._start_probe(
                probe.Target("127.0.0.1", port, health=config.health, find_stranger=lambda: self._impostor_at(port))
            )
        elif config.listen and not config.wait_ready:
            self._await_accepting()

    def _impostor_at(self, port: int) -> str:
        """Another program may have had the port before; its answers prove nothing."""
        return find_impostor(port, self.token, tree_of(self.pid)) if self.process else ""

    def _await_accepting(self) -> None:
        """A program that takes LISTEN_FDS never asks for an address: that it accepts is what it shows."""
        for address in map(parse_address, self.config.listen):
            if address in self._listeners and (target := self._target_at(address, self._listeners[address])):
                self._start_probe(target)
                return
        self._later(lambda: self.handle(Event.READY))

    def listener_for(self, address: Address) -> Listener:
        """Raises PercoreError or OSError; BlockingIOError when it is to ask again later."""
        return self._runtime.open_on_request(self, address)

    def bound(self, address: Address, listener: Listener) -> None:
        """The worker asked for, and got, its socket of `listener`."""
        if address in self.addresses:
            return
        self.addresses.append(address)
        if self.state is State.RUNNING:
            self._has_changed()  # one more to be remembered
        if self.state is not State.STARTING or self.config.wait_ready or self._probe:
            return
        if self.config.port_of(self.number) not in (None, address.port):
            return
        target = self._target_at(address, listener)
        if target is None:
            # Nothing can be sent to this one worker alone; that it holds the address is the best proof there is.
            self._later(lambda: self.handle(Event.READY))
            return
        self._start_probe(target)

    def listens_alone(self) -> None:
        """It listens on a port that the kernel chose. Where nothing shared follows soon, that is all there is to prove."""
        token = self.token

        def is_all() -> None:
            is_same = self.token == token and self.state is State.STARTING
            if is_same and not (self.addresses or self._probe or self.config.wait_ready or self.config.port):
                self.handle(Event.READY)

        self._loop.later(_ALONE_SECONDS, is_all)

    def _target_at(self, address: Address, listener: Listener) -> Optional[probe.Target]:
        """Where this very worker is reached through the shared port; None where nothing can be sent to it alone."""
        host = address.probe_host
        source = Source(self.number, incoming=self.role is Role.INCOMING)
        if host is None or not listener.steered or (":" in host and not source.hops):
            return None
        queue = listener.socket_for(self.number, self.generation)
        return probe.Target(host, address.port, source=source, health=self.config.health, queue=queue)

    def _start_probe(self, target: probe.Target) -> None:
        self._probe = probe.Probe(self._runtime.loop, target, lambda: self.handle(Event.READY))

    def _drop_probe(self) -> None:
        if self._probe:
            self._probe.cancel()
            self._probe = None

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
        *lines, rest = (self._channel_rest + part).split(b"\n")
        self._channel_rest = rest[: len(_READY) + 1]  # a line that never ends, or says something else, is not kept
        if _READY in lines:
            self.said_ready()

    def add_preload(self, preload: Drainable) -> None:
        self.preloads.append(preload)
        if self.role is Role.OUTGOING:
            preload.ask(
                self._runtime.sharing.mode is not Mode.STEERED
            )  # it was asked by an earlier supervisor, if at all

    def said_ready(self) -> None:
        """The program itself told, over Node's channel or systemd's; only `wait_ready` asks for that."""
        if self.config.wait_ready:
            self.handle(Event.READY)

    def _may_listen_nowhere(self) -> bool:
        """A clustered app of which nobody knows a port, such as a queue consumer: that it lives is all there is to prove."""
        config = self.config
        return not (config.wait_ready or config.port or config.health or config.listen or self._listeners)

    def _start_timed_out(self) -> None:
        config = self.config
        left = self.started_at + config.listen_timeout - time.monotonic()
        if self._may_listen_nowhere():
            if left > 0 and any(state_of(pid) in ("R", "D") for pid in tree_of(self.pid)):
                self._set_timer(min(left, _STILL_STARTING_SECONDS), self._start_timed_out)
            else:
                self.handle(Event.READY)
            return
        if left > 0:  # it asked for a port meanwhile
            self._set_timer(left, self._start_timed_out)
            return
        waited_for = "the ready message" if config.wait_ready else "it to listen"
        reason = self._probe.reason if self._probe else f"it waited for {waited_for}"
        self.failure = f"not ready within {config.listen_timeout:g} s ({reason})"
        self.handle(Event.TIMEOUT)

    def _became_stable(self) -> None:
        self.is_stable = True
        self._has_changed()
        if self.failures.in_a_row:
            self._set_timer(max(0.0, CALM_SECONDS - self.config.min_uptime), self._became_calm)

    def _became_calm(self) -> None:
        self.failures.calm()
        self._has_changed()

    def _give_up(self) -> None:
        self.failure = (
            f"{self.last_end}; given up, because it ended {self.failures.quick} times in a row before its min_uptime of "
            f"{self.config.min_uptime:g} s (max_restarts {self.config.max_restarts}) -> percore start {self.config.name}"
        )
        self.handle(Event.GAVE_UP)

    @property
    def has_failed(self) -> bool:
        """True for the end of a program that is not to be run again (`autorestart: false`), when it was no success."""
        return self.exit_code not in (0, *self.config.stop_exit_codes)

    @property
    def is_crash_looping(self) -> bool:
        return self.failures.is_loop and not self.is_stable and self.state in _TRIES

    # -- liveness ----------------------------------------------------------------------------------------------------

    def _checkup_target(self) -> Optional[probe.Target]:
        config = self.config
        if not config.shares_port:
            port = config.port_of(self.number)
            return probe.Target("127.0.0.1", port, health=config.health) if port else None
        for address in self.addresses:
            listener = self._listeners.get(address)
            if listener and listener.steered and config.port_of(self.number) in (None, address.port):
                return self._target_at(address, listener)
        return None

    def _ask_for_replacement(self, reason: str) -> None:
        if self.role is Role.CURRENT:
            self._runtime.replace(self, reason)

    @property
    def unwell(self) -> str:
        """Why it gets no new connections although it runs; empty when it is well."""
        return self.liveness.unwell

    def queue_length(self) -> int:
        """Clients that nobody has accepted yet, on all its addresses."""
        listeners = filter(None, map(self._listeners.get, self.addresses))
        return sum(listener.queue_length(self.number, self.generation) for listener in listeners)

    # -- the end of a process ----------------------------------------------------------------------------------------

    def main_process_died(self) -> None:
        """Its pid is still ours. In a polite stop, what it leaves behind gets the rest of `kill_timeout`; else it goes too.

        npm, or a shell, ends at once at a signal; the program below it may have something to finish.
        """
        if self.state is State.STOPPING:
            self._survivors = open_survivors(self.token, anywhere=self._is_foreign)
        if not self._survivors:
            self._kill()

    def has_ended(self, status: Optional[int]) -> None:
        """As `ended`, whatever fails in it: the process is gone, so the state must follow."""
        faults, process = self._runtime.loop.faults, self.process
        if faults.contain(f"ending {self.config.name} {self.number}", self.ended, status):
            return
        if self.process is process:
            self._release_process()
        if self.process is None and self.state in HAS_PROCESS:
            self.handle(Event.EXITED)

    def ended(self, status: Optional[int]) -> None:
        """The process is gone, with this wait status (None: unknown, it was not our child)."""
        assert self.process
        self.exit_code = exit_code_of(status)
        if not self._survivors:
            self._ended(status, describe_status(status))
            return
        self._release_process()
        for pidfd in self._survivors:
            self._wait_for_survivor(pidfd, status)

    def _wait_for_survivor(self, pidfd: int, status: Optional[int]) -> None:
        def has_ended() -> None:
            self._loop.unwatch(pidfd)
            os.close(pidfd)
            self._survivors.remove(pidfd)
            if not self._survivors:
                self._ended(status, describe_status(status))

        self._loop.watch(pidfd, has_ended)

    def _release_process(self) -> None:
        if self.process:
            if self.process.channel:
                self._loop.unwatch(self.process.channel.fileno())
            self.process.close()
            self.process = None

    def _ended(self, status: Optional[int], reason: str) -> None:
        self._release_process()
        self.unknown = {}
        kill_survivors(self.token, anywhere=self._is_foreign)
        reason = self._leave_group(reason)
        self.liveness.end()
        self.preloads.clear()
        self._had_served = was_ready = self.state in (State.RUNNING, State.STOPPING)
        self.was_stable = self.is_stable
        if self.state is not State.STOPPING:
            self.last_tail = self._read_log_tail()
        when = "" if was_ready or " -> " in reason else " before it was ready"
        self.failure = self.last_end = self.failure or reason + when
        if self.state in (State.STARTING, State.RUNNING):
            is_current = self.role is Role.CURRENT
            if is_current and ends_for_good(self.config, None if status is None else self.exit_code):
                self.handle(Event.FINISHED)
                return
            self.failures.add(time.monotonic(), was_stable=self.is_stable)
            self.is_stable = False
            self.restarts += is_current
        self.handle(Event.EXITED)

    def log_tail(self) -> list[str]:
        """The last lines that the process wrote, or when it failed and another took its place, those of the failed one."""
        return self.last_tail or self._read_log_tail()

    def _read_log_tail(self) -> list[str]:
        user = identity_or_none(self.config.user, self.config.group)
        return files.last_words(self.written_paths, self.log_starts, user)

    # -- what others see ---------------------------------------------------------------------------------------------

    @property
    def written_paths(self) -> tuple[str, str]:
        """What the process itself writes; the same as what people read, unless it has a scribe."""
        return files.written_paths(self.config, self.number, self._runtime.site.home.logs)

    def has_lost_log(self) -> bool:
        """True when what it has open is no longer what it should write."""
        return bool(self.process) and not all(
            path == os.devnull or files.has_file(path, file) for path, file in zip(self.written_paths, self.log_files)
        )

    @property
    def log_paths(self) -> files.LogPaths:
        return files.log_paths(self.config, self.number, self._runtime.site.home.logs)

    def __str__(self) -> str:
        return f"{self.config.name} {self.number}"

    @property
    def number(self) -> int:
        return self.place.number

    @property
    def is_ready(self) -> bool:
        return self.state is State.RUNNING

    @property
    def uid(self) -> int:
        """Whose processes its are; -1 where that user is gone."""
        try:
            identity = identity_of(self.config.user, self.config.group)
        except PercoreError:
            return -1
        return identity.uid if identity else os.geteuid()

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    def status(self) -> dict[str, Any]:
        if self.process:
            self.stats.sample(self.process.pid)
        shown = State.STOPPING if self.role is Role.OUTGOING and self.is_ready else self.state
        ports = [address.port for address in self.addresses if address.port]
        return {
            "slot": self.number,
            "id": self.place.id,
            "pid": self.pid,
            "state": shown.value,
            "release": self.config.release,
            "port": ports[0] if ports else self.config.port_of(self.number),
            "memory_bytes": self.stats.memory_bytes if self.process else 0,
            "cpu_percent": self.stats.cpu_percent if self.process else 0.0,
            "uptime_seconds": round(time.monotonic() - self.started_at, 3) if self.process else 0.0,
            "restarts": self.restarts,
            "unstable_restarts": self.failures.unstable,
            "last_delay": round(self.last_delay, 3),
            "crash_looping": self.is_crash_looping,
            "failure": self.unwell if self.is_ready else self.failure,
        }

    def to_snapshot(self) -> Optional[dict[str, Any]]:
        """What a new supervisor needs to adopt the process; None when there is none."""
        if not self.process:
            return None
        return {
            **self.unknown,
            "role": self.role.value,
            "state": self.state.value,
            "pid": self.process.pid,
            "start_time": self.process.start_time,
            "token": self.token,
            "generation": self.generation,
            "config": self.config.to_record(),
            "addresses": [list(address) for address in self.addresses],
            "started_time": self.started_time,
            "restarts": self.restarts,
            "log_starts": list(self.log_starts),
            "log_files": [list(file) for file in self.log_files],
        }

    def end_for_good(self) -> Optional[dict[str, Any]]:
        """What a new supervisor needs to leave it as it is: the job is done, or was given up; None where it is not so."""
        if self.state not in OVER_FOR_GOOD:
            return None
        fields = ("exit_code", "failure", "last_end", "restarts", "started_time")
        return {**self.unknown, "state": self.state.value, **{field: getattr(self, field) for field in fields}}

    def adopt_end(self, saved: SavedEnd) -> None:
        """It was over under an earlier supervisor already: a job that is done must not run twice."""
        self.state, self.exit_code = saved.state, saved.exit_code
        self.failure, self.last_end = saved.failure, saved.last_end
        self.restarts, self.started_time = saved.restarts, saved.started_time
        self.unknown = saved.unknown

    def adopt(self, process: Process, saved: SavedWorker, state: State) -> None:
        """Takes over a living process of an earlier supervisor."""
        self.process = process
        self.adopted_at = time.monotonic()
        self._is_foreign = not process.is_child
        self.token = saved.token
        if self.config.memory_max:
            self.group = self._runtime.site.find_groups().find(self._group_name)
        self.addresses = list(saved.addresses)
        self.started_time = saved.started_time
        self.started_at = time.monotonic() - process.age_seconds
        self.restarts = saved.restarts
        self.log_starts = saved.log_starts
        self.log_files = tuple(files.FileId(*file) for file in saved.log_files)
        self.unknown = saved.unknown
        if process.channel:
            self._loop.watch(process.channel.fileno(), self._read_channel)
        self.state = state
        if self.state is State.STARTING:
            self._prove_again()
        elif self.state is State.RUNNING:
            self.is_stable = True
            self.liveness.begin(self.config)
        else:
            self._terminate()  # nobody knows whether it was told
            self._set_timer(self.config.kill_timeout, lambda: self.handle(Event.TIMEOUT))

    def _prove_again(self) -> None:
        """Whatever it had proved went with the supervisor that knew."""
        bound, self.addresses = self.addresses, []
        self._await_readiness()
        for address in bound:
            self.bound(address, self._listeners[address])


_PERFORM: dict[Action, Callable[[Worker], None]] = {
    Action.SPAWN: Worker._spawn,
    Action.TERMINATE: Worker._terminate,
    Action.KILL: Worker._kill,
}
