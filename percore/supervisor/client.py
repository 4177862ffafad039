"""One request to the supervisor, and its replies as they come; starts a supervisor where one is needed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from percore.errors import PercoreError
from percore.hints import Any
from percore.supervisor import protocol
from percore.supervisor.home import Home, connect
from percore.supervisor.logs import open_log
from percore.supervisor.passwords import for_programs
from percore.supervisor.update import this_program

_START_SECONDS = 10.0


class NoDaemon(PercoreError):
    """No supervisor runs for this home."""


def request(home: Home, op: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    """Every reply, the result last. Raises NoDaemon, or PercoreError when the supervisor goes away in between."""
    try:
        sock = connect(home.control_socket)
    except (FileNotFoundError, ConnectionRefusedError):
        if _somebody_holds(home.lock):
            raise NoDaemon(f"the supervisor in {home.path} has lost its socket", next="percore ping") from None
        hint = "percore ping, which takes up what it left" if was_running(home) else "percore start FILE"
        raise NoDaemon(f"no supervisor runs in {home.path}", next=hint) from None
    except OSError as error:
        raise PercoreError(f"the supervisor cannot be reached: {error.strerror}", where=home.control_socket) from None
    # A supervisor that is killed resets the connection; one that ends closes it. Both are the same to the caller.
    with sock, sock.makefile("rb") as replies, contextlib.suppress(ConnectionError):
        sock.sendall(protocol.encode({"version": protocol.VERSION, "op": op, **arguments}))
        while line := replies.readline():
            message = protocol.decode(line)
            yield message
            if message["event"] == "result":
                return
    raise PercoreError("the supervisor closed the connection before it answered", next="see 'percore list'")


def was_running(home: Home) -> bool:
    """True where a supervisor left a state that the next one takes up."""
    return os.path.exists(home.state)


def is_running(home: Home) -> bool:
    try:
        connect(home.control_socket).close()
    except OSError:
        return False
    return True


def ensure_daemon(home: Home) -> None:
    """Starts a supervisor in the background unless one runs; returns when it answers."""
    if is_running(home):
        return
    import subprocess  # not for those who only ask

    try:
        home.make()
        log = open(open_log(home.daemon_log), "ab")  # noqa: SIM115
    except OSError as error:
        what = f"the supervisor cannot have its folder: {error.strerror}"
        raise PercoreError(what, where=error.filename, next="make room or set PERCORE_HOME") from None
    with log:
        environment = for_programs(PERCORE_HOME=home.path)
        daemon = subprocess.Popen(
            this_program().argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, cwd="/", env=environment,
        )  # fmt: skip
    deadline = time.monotonic() + _START_SECONDS
    while not is_running(home):
        if daemon.poll() is not None and not _somebody_holds(home.lock):
            raise PercoreError("the supervisor could not be started", next=f"see {home.daemon_log}")
        if time.monotonic() > deadline:
            raise PercoreError(
                f"the supervisor does not answer after {_START_SECONDS:g} s", next=f"see {home.daemon_log}"
            )
        time.sleep(0.005)


def _somebody_holds(lock_path: str) -> bool:
    try:
        with open(lock_path, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def wait_until_gone(home: Home, pid: int) -> None:
    """Returns when the supervisor `pid`, which was told to end, is gone; raises PercoreError when it does not end.

    A service manager may have started the next one by then, so the lock alone does not tell.
    """
    deadline = time.monotonic() + _START_SECONDS
    while _somebody_holds(home.lock) and os.path.exists(f"/proc/{pid}"):
        if time.monotonic() > deadline:
            raise PercoreError("the supervisor did not end", where=home.path, next="see 'percore list'")
        time.sleep(0.005)
