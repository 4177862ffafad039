"""Requests to the supervisor and its replies; starts a supervisor where one is needed.

`ask` waits for the result of one request; an `OpenLink` stays open and never waits, for a view that has other things to do.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence

from percore.common import control
from percore.common.app_names import names_of, selector_of
from percore.common.passwords import for_programs
from percore.common.procfs import all_pids, environment_of
from percore.common.socket_peers import peer_of
from percore.common.typing import Any, Callable, Optional
from percore.errors import PercoreError, UsageError
from percore.supervisor.base import lock
from percore.supervisor.base.home import Home, connect
from percore.supervisor.base.program import this_program
from percore.supervisor.base.user import Identity, identity_or_none
from percore.supervisor.logs.files import open_log

_START_SECONDS = 10.0
_TIMEOUTS = (TimeoutError, socket.timeout)  # two of them before Python 3.10
_SILENCE_SECONDS = 5.0


class NoDaemon(PercoreError):
    """No supervisor runs for this home."""


def request(home: Home, op: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    """Every reply, the result last. Raises NoDaemon, or PercoreError when the supervisor ends in between."""
    try:
        sock = connect(home.control_socket, _SILENCE_SECONDS)
    except (FileNotFoundError, ConnectionRefusedError):
        if lock.is_held(home.lock):
            raise NoDaemon(f"the socket of the supervisor in {home.path} is missing", next="percore ping") from None
        hint = "percore ping, which restores its apps" if was_running(home) else "percore start FILE"
        raise NoDaemon(f"no supervisor runs in {home.path}", next=hint) from None
    except _TIMEOUTS:
        raise PercoreError("the supervisor does not answer", where=home.path, next=f"see {home.daemon_log}") from None
    except OSError as error:
        raise PercoreError(f"the supervisor cannot be reached: {error.strerror}", where=home.control_socket) from None
    sock.settimeout(_SILENCE_SECONDS)
    # A supervisor that is killed resets the connection; one that ends closes it. Both are the same to the caller.
    with sock, contextlib.suppress(ConnectionError):
        _send(home, sock, control.request(op, **arguments))
        for line in _lines(home, sock):
            message = _message(line)
            yield message
            if message["event"] == "result":
                return
    raise PercoreError("the supervisor closed the connection before it answered", next="see 'percore list'")


def _send(home: Home, sock: socket.socket, text: bytes) -> None:
    left = memoryview(text)
    while left:
        try:
            left = left[sock.send(left) :]
        except _TIMEOUTS:
            _refuse_silence(home)


def _lines(home: Home, sock: socket.socket) -> Iterator[bytes]:
    """Whole lines, as they come. During a long job without replies, a ping checks that the supervisor is alive."""
    connection = control.Connection(sock)
    while True:
        try:
            lines = connection.receive()
        except _TIMEOUTS:
            _refuse_silence(home)
            continue
        except ValueError:
            lines = None
        if lines is None and connection.is_cut_off:
            raise PercoreError("the supervisor's answer was cut off", next="try again")
        if lines is None:
            return
        yield from lines


def _message(line: bytes) -> dict[str, Any]:
    message = control.decode_or_none(line) or {}
    if not isinstance(message.get("event"), str):
        raise PercoreError("the supervisor's answer cannot be read", next="percore update, if its version differs")
    return message


def _refuse_silence(home: Home) -> None:
    """Raises PercoreError unless the supervisor answers a ping: it may be stopped, or hang."""
    pid = 0
    try:
        with connect(home.control_socket, _SILENCE_SECONDS) as sock:
            pid = peer_of(sock).pid
            sock.settimeout(_SILENCE_SECONDS)
            sock.sendall(control.request("ping"))
            if sock.recv(1):
                return
    except _TIMEOUTS:
        pass
    except OSError:
        return  # it has just ended, which the other connection tells
    who = f"the supervisor (pid {pid})" if pid else "the supervisor"
    raise PercoreError(
        f"{who} does not answer",
        where=home.path,
        next=f"kill -CONT {pid or 'PID'} if it was stopped; otherwise kill -9 {pid or 'PID'} and percore ping: "
        "its workers keep running",
    )


def ask(op: str, on_event: Callable[[Mapping[str, Any]], None] = lambda _: None, **arguments: Any) -> dict[str, Any]:
    """The result of one request; raises the error that the supervisor reports, or NoDaemon.

    Where workers of a supervisor that died still run, the next one is started, and adopts them.
    """
    try:
        return _ask(op, on_event, arguments)
    except NoDaemon:
        if not has_left_workers(Home.of_user()):
            raise
    ensure_daemon(Home.of_user())
    return _ask(op, on_event, arguments)


def _ask(op: str, on_event: Callable[[Mapping[str, Any]], None], arguments: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for message in request(Home.of_user(), op, **arguments):
        if message["event"] == "result":
            result = message
        else:
            on_event(message)
    if not result["ok"]:
        error = PercoreError(result["error"], detail="\n".join(result.get("log_tail", ())))
        error.exit_code = result["exit_code"]
        error.app = result.get("app", "")
        raise error
    return result


def ask_or_nothing(op: str, **arguments: Any) -> Optional[dict[str, Any]]:
    """As `ask`, but None when no supervisor runs, nor any worker: then no app runs, which is an answer."""
    try:
        return ask(op, **arguments)
    except NoDaemon:
        return None


def has_left_workers(home: Home) -> bool:
    mark = f"PERCORE_HOME={home.path}".encode()
    others = (environment_of(pid) for pid in (all_pids() if was_running(home) else ()) if pid != os.getpid())
    return any(
        mark in variables and any(each.startswith(b"PERCORE_TOKEN=") for each in variables) for variables in others
    )


def select_workers(*selectors: str, with_env: bool = False) -> list[dict[str, Any]]:
    """The supervisor selects, by the same rules as for `stop`; without a supervisor there is nothing to select."""
    wanted = selectors or ("all",)
    answer = ask_or_nothing("describe", selectors=wanted, with_env=with_env)
    if answer is None and wanted != ("all",):
        raise UsageError(f"no app, id or namespace is called '{wanted[0]}'", next="see 'percore list'")
    return answer["workers"] if answer else []


def is_known(target: str, workers: Sequence[Mapping[str, Any]]) -> bool:
    words = {str(worker[key]) for worker in workers for key in ("id", "namespace")}
    words |= {name for worker in workers for name in names_of(worker["name"], worker["namespace"])}
    return target in words or target == "all" or (target[:1] == target[-1:] == "/" and not os.path.exists(target))


def as_selectors(targets: Sequence[str]) -> list[str]:
    """As the supervisor understands them: a script means all apps that run it, as in PM2."""
    if not any("." in target or os.sep in target for target in targets):
        return list(targets)
    workers = select_workers()
    named = ([] if is_known(target, workers) else apps_of_script(target, workers) for target in targets)
    return [name for target, names in zip(targets, named) for name in names or [target]]


def apps_of_script(script: str, workers: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    places = {selector_of(each, workers): os.path.join(each["cwd"], each["config"]["script"]) for each in workers}
    return [name for name, place in places.items() if os.path.realpath(place) == os.path.realpath(script)]


def user_of(worker: Mapping[str, Any]) -> Optional[Identity]:
    """The user whose rights are used for its files; None: our own."""
    return identity_or_none(worker["config"].get("user"), worker["config"].get("group"))


def was_running(home: Home) -> bool:
    """True where a supervisor left a state that the next one restores."""
    return os.path.exists(home.state)


def is_running(home: Home) -> bool:
    try:
        connect(home.control_socket, _SILENCE_SECONDS).close()
    except _TIMEOUTS:
        return True  # the next request reports that it does not answer
    except OSError:
        return False
    return True


def ensure_daemon(home: Home) -> None:
    """Starts a supervisor in the background unless one runs; returns when it answers."""
    if is_running(home):
        return
    import subprocess  # only where a supervisor is started

    try:
        home.make()
        log = open(open_log(home.daemon_log), "ab")  # noqa: SIM115
    except OSError as error:
        what = f"the home of the supervisor cannot be used: {error.strerror}"
        owner = f"as root: chown -R {os.geteuid()}:{os.getegid()} {home.path}"
        advice = owner if isinstance(error, PermissionError) else "free disk space or set PERCORE_HOME"
        raise PercoreError(what, where=error.filename, next=advice) from None
    with log:
        environment = for_programs(PERCORE_HOME=home.path)
        daemon = subprocess.Popen(
            this_program().argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, cwd="/", env=environment,
        )  # fmt: skip
    deadline = time.monotonic() + _START_SECONDS
    # Where another supervisor answers by now, ours must have ended too: later, it would follow that one.
    while not (is_running(home) and (daemon.poll() is not None or lock.holder(home.lock) == daemon.pid)):
        if daemon.poll() is not None and not lock.is_held(home.lock):
            raise PercoreError("the supervisor could not be started", next=f"see {home.daemon_log}")
        if time.monotonic() > deadline:
            raise PercoreError(
                f"the supervisor does not answer after {_START_SECONDS:g} s", next=f"see {home.daemon_log}"
            )
        time.sleep(0.005)


def wait_until_gone(home: Home, pid: int) -> None:
    """Returns when the supervisor `pid`, which was told to stop, has ended; raises PercoreError when it does not.

    A service manager may have started the next one by then, so the lock alone does not tell.
    """
    deadline = time.monotonic() + _START_SECONDS
    while lock.is_held(home.lock) and os.path.exists(f"/proc/{pid}"):
        if time.monotonic() > deadline:
            raise PercoreError("the supervisor did not stop", where=home.path, next="see 'percore list'")
        time.sleep(0.005)


class OpenLink:
    """Sends requests and takes the replies as they come. `is_open` becomes False when the supervisor ends."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._connection: Optional[control.Connection] = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def fileno(self) -> int:
        assert self._connection
        return self._connection.fileno()

    def open(self) -> bool:
        """Tries to connect; False where no supervisor runs."""
        if self._connection is None:
            with contextlib.suppress(OSError):
                self._connection = control.Connection(connect(self._home.control_socket))
        return self.is_open

    def send(self, op: str, **arguments: Any) -> None:
        try:
            assert self._connection
            self._connection.send(op, **arguments)
        except OSError:
            self.close()

    def read(self) -> list[dict[str, Any]]:
        """The replies that are here by now. One that is invalid ends the connection."""
        try:
            assert self._connection
            lines = self._connection.receive()
            if lines is not None:
                return [control.decode(line) for line in lines]
        except (OSError, ValueError):
            pass
        self.close()
        return []

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None
