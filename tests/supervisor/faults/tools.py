"""What the tests of faults share: a supervisor that dies at a chosen point, and the look at what is left of it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import percore
from tests.supervisor.conftest import Load, Supervisor
from tests.waiting import wait_for

ROOT = Path(percore.__file__).parent.parent
NOW = "os.kill(os.getpid(), signal.SIGKILL)"

# A program without Node's start-up time, for what needs many workers: its answer is its pid and slot.
PLAIN = """
import os, socket, time
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind(("0.0.0.0", int(os.environ["PORT"])))
sock.listen(512)
body = b'{"pid": %d, "slot": "%s"}' % (os.getpid(), os.environ["NODE_APP_INSTANCE"].encode())
head = b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
while True:
    client = sock.accept()[0]
    with client:
        try:
            if client.recv(4096):
                client.sendall(head + body)
        except OSError:
            pass
"""


def plain(supervisor: Supervisor, **fields: Any) -> dict[str, Any]:
    """A clustered app of PLAIN workers; clients without keep-alive only."""
    (supervisor.folder / "plain.py").write_text(PLAIN)
    return supervisor.api(script="plain.py", interpreter=sys.executable, interpreter_args=["-I", "-S"], **fields)


def start_daemon(
    supervisor: Supervisor, patch: str = "", *, before: str = "", **options: Any
) -> subprocess.Popen[bytes]:
    """A supervisor that runs `patch` (Python) before its main; returns when it answers or is dead.

    `before` is shell code that sets the stage for the process, such as a limit.
    """
    (supervisor.home / "logs").mkdir(parents=True, exist_ok=True)
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport os, signal, time\n{patch}\n"
        "from percore.supervisor.daemon import main; main()"
    )
    argv = [sys.executable, "-I", "-S", "-c", code]
    if before:
        argv = ["sh", "-c", f'{before}\nexec "$@"', "sh", *argv]
    with (supervisor.home / "logs" / "percore.log").open("ab") as log:
        daemon = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
            env={**os.environ, "PERCORE_HOME": str(supervisor.home), **options.pop("env", {})}, **options,
        )  # fmt: skip
    supervisor.started.append(daemon)
    ready = f"supervisor ready (pid {daemon.pid})"
    wait_for(lambda: daemon.poll() is not None or ready in supervisor.log(), "the supervisor to be ready or dead")
    return daemon


def kill_now(daemon: subprocess.Popen[bytes]) -> None:
    daemon.kill()
    daemon.wait(60)


@contextmanager
def pidfd_of(pid: int) -> Iterator[Callable[[], bool]]:
    """A question: has it ended?"""
    descriptor = os.pidfd_open(pid)
    try:
        yield lambda: bool(select.select([descriptor], [], [], 0)[0])
    finally:
        os.close(descriptor)


def environment_of(pid: int) -> dict[str, str]:
    """Empty when it is gone."""
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] != b"Z"


def processes_of(supervisor: Supervisor, app: str = "") -> list[int]:
    """Every living process below this supervisor's workers, whoever its parent is now."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        variables = environment_of(pid)
        is_ours = variables.get("PERCORE_HOME") == str(supervisor.home) and "PERCORE_TOKEN" in variables
        if is_ours and (not app or variables.get("PERCORE_APP") == app) and is_running(pid):
            found.append(pid)
    return sorted(found)


def is_sound(supervisor: Supervisor, *apps: dict[str, Any]) -> bool:
    """Every wanted worker runs, and nothing else of its app does."""
    for app in apps:
        workers = supervisor.workers(app["name"])
        if len(workers) != app.get("instances", 1) or any(worker["state"] != "running" for worker in workers):
            return False
        if Counter(worker["pid"] for worker in workers) != Counter(processes_of(supervisor, app["name"])):
            return False
    return True


def becomes_sound(supervisor: Supervisor, *apps: dict[str, Any]) -> None:
    supervisor.run("ping")  # starts a supervisor where none runs, as systemd would
    try:
        wait_for(lambda: is_sound(supervisor, *apps), "every app to run as wished, and once")
    except AssertionError as error:
        seen = {app["name"]: (supervisor.workers(app["name"]), processes_of(supervisor, app["name"])) for app in apps}
        raise AssertionError(f"{error}: {seen}\n{supervisor.log()}") from None


def lost_nothing(load: Load, resets: int = 0) -> None:
    """The oracle: nobody was refused, nobody hung; only `resets` requests may have been cut off with their worker."""
    assert load.counts["hung"] == 0, load.failures
    assert load.counts["bad"] == 0, load.failures
    assert not [failure for failure in load.failures if "Refused" in failure], load.failures
    assert load.counts["lost"] <= resets, load.failures


def send_signal(pid: Optional[int], number: int) -> None:
    assert pid
    os.kill(pid, number)


STOP, GO = signal.SIGSTOP, signal.SIGCONT


def resident_kb(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
