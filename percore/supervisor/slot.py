"""One numbered place of an app: its wish, and its worker or two.

Invariant: a slot has at most two workers, at most one of them not ready; the old one is stopped only after the new one is
ready; if the new one fails, the old one is untouched. The slot of an app that shares no port never has two.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional

from percore.errors import PercoreError
from percore.supervisor import logs, readiness, sockets
from percore.supervisor.config import AppConfig
from percore.supervisor.home import Home, Preload
from percore.supervisor.identity import filter_environment, identity_of
from percore.supervisor.loop import Loop, Timer
from percore.supervisor.pidfile import pid_path, write_pid
from percore.supervisor.process import (
    CHANNEL_FD,
    NOT_STARTED,
    Command,
    Process,
    describe_status,
    exit_code_of,
    kill,
    kill_survivors,
    open_survivors,
    spawn,
)
from percore.supervisor.restarts import CALM_SECONDS, Failures, ends_for_good, has_given_up, restart_delay
from percore.supervisor.sockets import Address, Listener
from percore.supervisor.states import HAS_PROCESS, Action, Event, State, react
from percore.supervisor.stats import Sampler

# After the kernel was told to steer away, handshakes that had begun still arrive at the old socket.
_SETTLE_SECONDS = 0.1
_DRAIN_POLL_SECONDS = 0.02
# Longer than Node's keepAliveTimeout (5 s), after which idle clients are gone by themselves.
_DRAIN_LIMIT_SECONDS = 6.0
_TAIL_LINES = 20
# From when on a queue that does not move is called stuck; until then the program may just be busy.
_STUCK_SECONDS = 1.0
_STUCK = "it accepts no connections"
_TRIES = frozenset({State.STARTING, State.RUNNING, State.BACKOFF})


class Runtime(NamedTuple):
    """What all workers of one supervisor share.

    `tell` receives every change of a worker's state; `replace` is asked for a new worker, and why.
    """

    loop: Loop
    home: Home
    preload: Preload
    store_fds: tuple[int, ...]
    can_steer: bool
    tell: Callable[[Worker], None]
    replace: Callable[[Worker, str], None]


class WorkerFailed(PercoreError):
    """A worker did not become, or stay, ready; `detail` holds its last log lines."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(
            worker.last_end or f"it is {worker.state.value}",
            where=f"{worker.config.name} worker {worker.slot.number}",
            detail="\n".join(worker.log_tail()),
        )
        self.app = worker.config.name


class Worker:
    """A process in a slot, through all its restarts. Only `handle` assigns the state."""

    def __init__(self, slot: Slot, config: AppConfig, generation: int, *, respawn: bool) -> None:
        self.slot = slot
        self.config = config
        self.generation = generation
        self.respawn = respawn  # False while incoming or outgoing: one failure ends it
        self.state = State.STOPPED
        self.process: Optional[Process] = None
        self.token = ""
        self.failure = ""
        self.last_end = ""
        self.last_tail: list[str] = []  # of the last process that failed
        self.exit_code = 0
        self.restarts = 0
        self.failures = Failures()
        self.is_stable = False
        self.started_at = 0.0  # monotonic, for durations
        self.started_time = 0.0  # wall clock, for people and for the state file
        self.addresses: list[Address] = []
        self.preloads: list[Drainable] = []
        self.stats = Sampler()
        self._timer: Optional[Timer] = None
        self._probe: Optional[readiness.Probe] = None
        self.unwell = ""  # why it gets no new connections although it runs
        self._unwell_since = 0.0
        self._checkup: Optional[Timer] = None
        self._queue_length = 0
        self._queue_moved_at = 0.0
        self._log_starts = (0, 0)
        self._channel_rest = b""
        self._survivors: list[int] = []  # pidfds of what outlived the main process in a polite stop

    # -- the table ---------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        before = self.state
        self.state, action = react(before, event)
        if action:
            _PERFORM[action](self)
        if self.state is not before:
            self._enter()
            self.slot.note_pid()
            self.slot.runtime.tell(self)

    def _enter(self) -> None:
        self._set_timer(None)
        if self.state is State.STARTING:
            self._set_timer(self.config.listen_timeout, self._start_timed_out)
        elif self.state is State.RUNNING:
            self._set_timer(self.config.min_uptime, self._became_stable)
            self._plan_checkup()
        elif self.state is State.STOPPING:
            self.end_checkups()
            self._set_timer(self.config.kill_timeout, lambda: self.handle(Event.TIMEOUT))
        elif self.state is State.BACKOFF:
            if not self.respawn:
                self._later(lambda: self.handle(Event.GAVE_UP))
            elif has_given_up(self.config, self.failures):
                self._later(self._give_up)
            else:
                self._set_timer(restart_delay(self.config, self.failures), lambda: self.handle(Event.TIMEOUT))

    def _set_timer(self, seconds: Optional[float], callback: Callable[[], None] = lambda: None) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None if seconds is None else self.slot.runtime.loop.later(seconds, callback)

    def _later(self, callback: Callable[[], None]) -> None:
        """In this turn of the loop, but not before everybody saw the state entered."""
        self._set_timer(0, callback)

    # -- actions -----------------------------------------------------------------------------------------------------

    def _spawn(self) -> None:
        self.token = os.urandom(12).hex()
        self.failure = ""
        self.addresses = []
        self.is_stable = False
        self.started_at, self.started_time = time.monotonic(), time.time()
        paths = self.log_paths
        self._log_starts = (logs.size_of(paths.out), logs.size_of(paths.error))
        opened: list[int] = []
        try:
            opened = [logs.open_log(path) for path in paths]
            self.process = spawn(self._command(*opened))
        except (OSError, PercoreError) as error:
            # Treated as any other end: same back-off, same report.
            reason = f"cannot be started: {error.strerror or error}" if isinstance(error, OSError) else str(error)
            self.exit_code = NOT_STARTED
            self.slot.runtime.loop.later(0, lambda: self._ended(None, reason))
            return
        finally:
            for descriptor in opened:
                os.close(descriptor)
        if self.process.channel:
            self.slot.runtime.loop.watch(self.process.channel.fileno(), self._read_channel)
        self.slot.runtime.loop.watch(self.process.exec_fd, self._executed)
        if not self.config.shares_port and not self.config.wait_ready and self.config.port:
            self._start_probe(readiness.Target("127.0.0.1", self.config.port, health=self.config.health))

    def _command(self, out_fd: int, err_fd: int) -> Command:
        config = self.config
        env = self._environment()
        argv = [*([] if config.interpreter == "none" else [config.interpreter, *config.interpreter_args])]
        script = config.script
        if config.interpreter == "none" and os.path.exists(os.path.join(config.cwd, script)):
            script = os.path.join(config.cwd, script)
        program = find_program([*argv, script][0], config.cwd, env.get("PATH", os.defpath))
        if argv and not program:
            raise PercoreError(
                f"the interpreter '{argv[0]}' is not in PATH", next=f"install {argv[0]}, or set 'interpreter'"
            )
        identity = identity_of(config)
        return Command(
            (*argv, script, *config.args), program or script, config.cwd, env, out_fd, err_fd,
            () if identity else self.slot.runtime.store_fds, "NODE_CHANNEL_FD" in env, identity,
        )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        config, number = self.config, self.slot.number
        identity = identity_of(config)
        given = filter_environment(self.slot.base_env, config.filter_env)
        env = {**given, **(identity.variables if identity else {}), **config.env}
        if config.port is not None:
            env["PORT"] = str(config.port)
        if config.increment_var and env.get(config.increment_var, "").lstrip("-").isdigit():
            env[config.increment_var] = str(int(env[config.increment_var]) + number)
        env[config.instance_var] = str(number)
        env.update(PERCORE_APP=config.name, PERCORE_SLOT=str(number), PERCORE_HOME=self.slot.runtime.home.path)
        env["PERCORE_TOKEN"] = self.token
        if config.release:
            env["PERCORE_RELEASE"] = config.release
        program = os.path.basename(config.interpreter if config.interpreter != "none" else config.script)
        if program.startswith("python"):
            env.setdefault("PYTHONUNBUFFERED", "1")
        if program in ("node", "bun", "nodejs"):
            env.update(NODE_CHANNEL_FD=str(CHANNEL_FD), NODE_CHANNEL_SERIALIZATION_MODE="json")
        if config.wait_ready:
            env["NOTIFY_SOCKET"] = self.slot.runtime.home.notify_address
        if config.shares_port:
            preload = self.slot.runtime.preload
            if preload.shim is None:
                raise PercoreError(
                    f"this installation has no bind shim for {platform.machine()}, so workers cannot share a port",
                    next="install a C compiler and install percore again, or set share_port: false",
                )
            env["PERCORE_SOCKET"] = self.slot.runtime.home.worker_socket
            env["LD_PRELOAD"] = " ".join(filter(None, (preload.shim, env.get("LD_PRELOAD"))))
            env["NODE_OPTIONS"] = " ".join(filter(None, (env.get("NODE_OPTIONS"), f'--require "{preload.node}"')))
        return env

    def _terminate(self) -> None:
        assert self.process
        if self.config.shutdown_with_message and self.process.channel:
            self.process.channel.send(b'"shutdown"\n')
        else:
            number = getattr(signal, self.config.kill_signal)
            self.process.signal(number, whole_group=self.config.treekill)

    def _kill(self) -> None:
        for pidfd in self._survivors:
            kill(pidfd)
        if self.process:
            self.process.kill_group()

    # -- readiness ---------------------------------------------------------------------------------------------------

    def _must_prove_ready(self) -> bool:
        return self.config.wait_ready or self.config.shares_port or self.config.port is not None

    def _executed(self) -> None:
        assert self.process
        self.slot.runtime.loop.unwatch(self.process.exec_fd)
        self.failure = self.process.take_exec_result()
        if not self.failure and not self._must_prove_ready():
            self.handle(Event.READY)

    def bound(self, address: Address, listener: Listener) -> None:
        """The worker asked for, and got, its socket of `listener`."""
        if address in self.addresses:
            return
        self.addresses.append(address)
        if self.state is not State.STARTING or self.config.wait_ready or self._probe:
            return
        if self.config.port is not None and address.port != self.config.port:
            return
        target = self._target_at(address, listener)
        if target is None:
            # Nothing can be sent to this one worker alone; that it holds the address is the best proof there is.
            self._later(lambda: self.handle(Event.READY))
            return
        self._start_probe(target)

    def _target_at(self, address: Address, listener: Listener) -> Optional[readiness.Target]:
        """Where this very worker is reached through the shared port; None where nothing can be sent to it alone."""
        host = address.probe_host
        if host is None:
            return None
        source = sockets.probe_source(self.slot.number, incoming=self.is_incoming) if listener.steered else ""
        queue = listener.socket_for(self.slot.number, self.generation)
        return readiness.Target(host, address.port, source=source, health=self.config.health, queue=queue)

    def _start_probe(self, target: readiness.Target) -> None:
        self._probe = readiness.Probe(self.slot.runtime.loop, target, lambda: self.handle(Event.READY))

    @property
    def is_incoming(self) -> bool:
        return self.slot.incoming is self

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
            self.slot.runtime.loop.unwatch(channel.fileno())
            return
        *lines, self._channel_rest = (self._channel_rest + part)[-1_000_000:].split(b"\n")
        if b'"ready"' in lines:
            self.said_ready()

    def said_ready(self) -> None:
        """The program itself told, over Node's channel or systemd's; only `wait_ready` asks for that."""
        if self.config.wait_ready:
            self.handle(Event.READY)

    def _start_timed_out(self) -> None:
        config = self.config
        if not config.wait_ready and config.port is None and not config.health and not self.slot.knows_addresses():
            # A clustered app that listens nowhere (a queue consumer) has nothing else to prove.
            self.handle(Event.READY)
            return
        waited_for = "the ready message" if config.wait_ready else "it to listen"
        reason = self._probe.reason if self._probe else f"it waited for {waited_for}"
        self.failure = f"not ready within {config.listen_timeout:g} s ({reason})"
        self.handle(Event.TIMEOUT)

    def _became_stable(self) -> None:
        self.is_stable = True
        self.slot.runtime.tell(self)
        if self.failures.in_a_row:
            self._set_timer(max(0.0, CALM_SECONDS - self.config.min_uptime), self._became_calm)

    def _became_calm(self) -> None:
        self.failures.calm()
        self.slot.runtime.tell(self)

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

    def _plan_checkup(self) -> None:
        if self.config.health and self.config.health_interval:
            self._checkup = self.slot.runtime.loop.later(self.config.health_interval, self._check_health)

    def _check_health(self) -> None:
        target = self._checkup_target()
        if target:
            self._probe = readiness.Probe(self.slot.runtime.loop, target, self._passed_checkup, self._failed_checkup)

    def _checkup_target(self) -> Optional[readiness.Target]:
        config = self.config
        if not config.shares_port:
            return readiness.Target("127.0.0.1", config.port, health=config.health) if config.port else None
        for address in self.addresses:
            listener = self.slot.listener_at(address)
            if listener and listener.steered and config.port in (None, address.port):
                return self._target_at(address, listener)
        return None

    def _passed_checkup(self) -> None:
        self._probe = None
        self._set_unwell("")
        self._plan_checkup()

    def _failed_checkup(self, reason: str) -> None:
        self._set_unwell(reason)
        self._replace_if_unwell_too_long(time.monotonic())

    def note_queue(self, length: int, now: float) -> None:
        """What a look at its accept queue found. A queue that nothing was taken from for long means a blocked program."""
        if length == 0 or length < self._queue_length:
            self._queue_moved_at = now
            if self.unwell == _STUCK:
                self._set_unwell("")
        elif self._queue_length == 0:
            self._queue_moved_at = now
        elif now - self._queue_moved_at > _STUCK_SECONDS and not self.unwell:
            self._set_unwell(_STUCK)
            self._unwell_since = self._queue_moved_at
        self._queue_length = length
        self._replace_if_unwell_too_long(now)

    def _set_unwell(self, reason: str) -> None:
        if bool(reason) != bool(self.unwell):
            self._unwell_since = time.monotonic()
            self.unwell = reason
            self.slot.runtime.tell(self)
        self.unwell = reason

    def _replace_if_unwell_too_long(self, now: float) -> None:
        limit = self.config.liveness_timeout
        if self.unwell and limit and now - self._unwell_since >= limit and self.slot.worker is self:
            self._unwell_since = now  # where the replacement fails as well, the next one is not due at once
            self.slot.runtime.replace(self, f"{self.unwell}, for {limit:g} s")

    def end_checkups(self) -> None:
        if self._checkup:
            self._checkup.cancel()
            self._checkup = None
        if self._probe:
            self._probe.cancel()
            self._probe = None
        self.unwell = ""

    # -- the end of a process ----------------------------------------------------------------------------------------

    def main_process_died(self) -> None:
        """Its pid is still ours. In a polite stop, what it leaves behind gets the rest of `kill_timeout`; else it goes too.

        npm, or a shell, ends at once at a signal; the program below it may have something to finish.
        """
        if self.state is State.STOPPING:
            self._survivors = open_survivors(self.token)
        if not self._survivors:
            self._kill()

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
        loop = self.slot.runtime.loop

        def has_ended() -> None:
            loop.unwatch(pidfd)
            os.close(pidfd)
            self._survivors.remove(pidfd)
            if not self._survivors:
                self._ended(status, describe_status(status))

        loop.watch(pidfd, has_ended)

    def _release_process(self) -> None:
        if self.process:
            if self.process.exec_fd >= 0:
                self.slot.runtime.loop.unwatch(self.process.exec_fd)
                self.failure = self.process.take_exec_result()
            if self.process.channel:
                self.slot.runtime.loop.unwatch(self.process.channel.fileno())
            self.process.close()
            self.process = None

    def _ended(self, status: Optional[int], reason: str) -> None:
        self._release_process()
        kill_survivors(self.token)
        self.end_checkups()
        self._queue_length = 0
        self.preloads.clear()
        was_ready = self.state in (State.RUNNING, State.STOPPING)
        if self.state is not State.STOPPING:
            self.last_tail = self._read_log_tail()
        self.failure = self.last_end = self.failure or (reason if was_ready else f"{reason} before it was ready")
        if self.state in (State.STARTING, State.RUNNING):
            if self.respawn and ends_for_good(self.config, None if status is None else self.exit_code):
                self.handle(Event.FINISHED)
                return
            self.failures.add(time.monotonic(), was_stable=self.is_stable)
            self.is_stable = False
            self.restarts += self.respawn
        self.handle(Event.EXITED)

    def log_tail(self) -> list[str]:
        """The last lines that the process wrote, or when it failed and another took its place, those of the failed one."""
        return self.last_tail or self._read_log_tail()

    def _read_log_tail(self) -> list[str]:
        """Errors last."""
        paths = self.log_paths
        out = logs.last_lines(paths.out, _TAIL_LINES, since=self._log_starts[0])
        if paths.error == paths.out:
            return out
        error = logs.last_lines(paths.error, _TAIL_LINES, since=self._log_starts[1])
        return [*out[-(_TAIL_LINES - len(error)) :], *error] if len(error) < _TAIL_LINES else error

    # -- what others see ---------------------------------------------------------------------------------------------

    @property
    def log_paths(self) -> logs.LogPaths:
        return logs.log_paths(self.config, self.slot.number, self.slot.runtime.home.logs)

    @property
    def is_ready(self) -> bool:
        return self.state is State.RUNNING

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    def status(self) -> dict[str, Any]:
        if self.process:
            self.stats.sample(self.process.pid)
        shown = State.STOPPING if self.slot.outgoing is self and self.state is State.RUNNING else self.state
        ports = [address.port for address in self.addresses if address.port]
        return {
            "slot": self.slot.number,
            "id": self.slot.id,
            "pid": self.pid,
            "state": shown.value,
            "release": self.config.release,
            "port": ports[0] if ports else self.config.port,
            "memory_bytes": self.stats.memory_bytes if self.process else 0,
            "cpu_percent": self.stats.cpu_percent if self.process else 0.0,
            "uptime_seconds": round(time.monotonic() - self.started_at, 3) if self.process else 0.0,
            "restarts": self.restarts,
            "unstable_restarts": self.failures.unstable,
            "crash_looping": self.is_crash_looping,
            "failure": self.unwell if self.is_ready else self.failure,
        }

    def to_snapshot(self) -> Optional[dict[str, Any]]:
        """What a new supervisor needs to adopt the process; None when there is none."""
        if not self.process:
            return None
        return {
            "pid": self.process.pid,
            "start_time": self.process.start_time,
            "token": self.token,
            "generation": self.generation,
            "config": self.config.to_record(),
            "addresses": [list(address) for address in self.addresses],
            "started_time": self.started_time,
            "restarts": self.restarts,
            "log_starts": list(self._log_starts),
        }

    def adopt(self, process: Process, saved: Mapping[str, Any]) -> None:
        """Takes over a living process of an earlier supervisor; it counts as ready, and `slot` watches it from now on."""
        self.process = process
        self.token = saved["token"]
        self.addresses = [Address(*fields) for fields in saved["addresses"]]
        self.started_time = saved["started_time"]
        self.started_at = time.monotonic() - max(0.0, time.time() - self.started_time)
        self.restarts = saved["restarts"]
        self._log_starts = tuple(saved["log_starts"])
        self.state = State.RUNNING
        self.is_stable = True
        self._plan_checkup()
        self.slot.note_pid()
        if process.channel:
            self.slot.runtime.loop.watch(process.channel.fileno(), self._read_channel)


def find_program(name: str, cwd: str, path: str) -> Optional[str]:
    """Where the program `name` is: in a folder of `path`, or by itself (shutil.which would load four compressors)."""
    folders = [cwd] if os.sep in name else path.split(os.pathsep)
    found = (os.path.join(folder, name) for folder in folders)
    return next((place for place in found if os.access(place, os.X_OK) and not os.path.isdir(place)), None)


_PERFORM: dict[Action, Callable[[Worker], None]] = {
    Action.SPAWN: Worker._spawn,
    Action.TERMINATE: Worker._terminate,
    Action.KILL: Worker._kill,
}


class Drainable:
    """A process of a worker that can be asked to finish its connections (handover.py makes these)."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self.ask = ask
        self.is_drained = False


class Slot:
    def __init__(self, runtime: Runtime, config: AppConfig, number: int, id: int, base_env: Mapping[str, str],
                 listeners: Mapping[Address, Listener]) -> None:  # fmt: skip
        self.runtime = runtime
        self.number = number
        self.id = id  # PM2's id: unique among all apps
        self.base_env = base_env
        self.wanted = False
        self.worker = Worker(self, config, generation=0, respawn=True)
        self.incoming: Optional[Worker] = None
        self.outgoing: Optional[Worker] = None
        self._listeners = listeners
        self._noted = ("", 0)  # the pid file, and what it says
        self._left_generation: Optional[int] = None  # the one that served before the last reload

    def knows_addresses(self) -> bool:
        return bool(self._listeners)

    def listener_at(self, address: Address) -> Optional[Listener]:
        return self._listeners.get(address)

    @property
    def workers(self) -> list[Worker]:
        return [worker for worker in (self.worker, self.incoming, self.outgoing) if worker]

    def note_pid(self) -> None:
        """The pid file names the slot's worker, and is gone when there is none."""
        wished = (pid_path(self.worker.config, self.id), self.worker.pid)
        if wished == self._noted:
            return
        for path, pid in {self._noted[0]: 0, wished[0]: wished[1]}.items():
            try:
                if path:
                    write_pid(path, pid)
            except OSError as error:
                # The worker runs all the same; stderr is the supervisor's log.
                sys.stderr.write(
                    f"{self.worker.config.name} {self.number}: {path} cannot be written: {error.strerror}\n"
                )
        self._noted = wished

    def start(self) -> None:
        self.wanted = True
        if not self.worker.process:
            self.worker.failures = Failures()
        self.worker.handle(Event.START)

    def stop(self) -> None:
        self.wanted = False
        for worker in self.workers:
            worker.handle(Event.STOP)

    @property
    def is_down(self) -> bool:
        return all(worker.state not in HAS_PROCESS and worker.state is not State.BACKOFF for worker in self.workers)

    def replace_config(self, config: AppConfig) -> None:
        """For a slot whose worker is down."""
        self.worker.config = config

    # -- reload: one worker more, for a while ------------------------------------------------------------------------

    def begin_reload(self, config: AppConfig) -> Worker:
        """Starts the incoming worker on the other generation's sockets."""
        assert not self.incoming, "a slot has at most two workers"
        assert not self.outgoing, "a slot has at most two workers"
        self.incoming = Worker(self, config, 1 - self.worker.generation, respawn=False)
        self.incoming.restarts = self.worker.restarts
        self._left_generation = None
        self.incoming.handle(Event.START)
        return self.incoming

    def promote(self) -> None:
        """The incoming worker is ready: it becomes the slot's worker, and the old one drains."""
        assert self.incoming
        assert self.incoming.is_ready
        self.outgoing, self.worker, self.incoming = self.worker, self.incoming, None
        self.worker.respawn = True
        self.note_pid()
        self._left_generation = self.outgoing.generation
        self.retire()

    def abandon(self) -> None:
        """The incoming worker failed or is no longer wanted; the current one never noticed."""
        if self.incoming:
            self.incoming.handle(Event.STOP)
            # It stays as outgoing until its process is gone.
            self.outgoing, self.incoming = self.incoming, None
            self.outgoing.respawn = False
            self.sweep()

    def retire(self) -> None:
        """Lets the outgoing worker finish its connections, then stops it."""
        assert self.outgoing
        self.outgoing.respawn = False
        if not self.outgoing.is_ready or not self.outgoing.config.shares_port:
            self.outgoing.handle(Event.STOP)
            self.sweep()
            return
        self.outgoing.end_checkups()
        for preload in self.outgoing.preloads:
            preload.ask()
        now = time.monotonic()
        self._drain(self.outgoing, now + _SETTLE_SECONDS, now + _DRAIN_LIMIT_SECONDS)

    def _drain(self, worker: Worker, settled_at: float, limit: float) -> None:
        if worker is not self.outgoing or not worker.is_ready:
            return
        now = time.monotonic()
        is_drained = all(preload.is_drained for preload in worker.preloads) and self.queue_length(worker) == 0
        if now >= limit or (is_drained and now >= settled_at):
            worker.handle(Event.STOP)
        else:
            self.runtime.loop.later(_DRAIN_POLL_SECONDS, lambda: self._drain(worker, settled_at, limit))

    def queue_length(self, worker: Worker) -> int:
        return sum(
            self._listeners[address].queue_length(self.number, worker.generation)
            for address in worker.addresses
            if address in self._listeners
        )

    def leave(self) -> None:
        """The slot is given up: its worker finishes its connections and stops."""
        self.wanted = False
        self.abandon()
        if self.worker.is_ready and self.outgoing is None:
            self.outgoing, self.worker = self.worker, Worker(self, self.worker.config, 0, respawn=False)
            self.retire()
        else:
            self.stop()

    def sweep(self) -> None:
        """Forgets workers that are over."""
        over = (State.STOPPED, State.FATAL, State.EXITED)
        if self.outgoing and self.outgoing.state in over:
            self.outgoing = None

    def stranded(self) -> bool:
        """True when clients wait in the queue of the worker that left in a reload: only another reload serves them.

        What waits for an incoming worker that failed are our own probes.
        """
        left = self._left_generation
        if left is None or self.outgoing or self.incoming or not self.worker.is_ready:
            return False
        return any(
            listener.steered and listener.queue_length(self.number, left) > 0 for listener in self._listeners.values()
        )
