"""Run as pid 1 of a pid namespace: a worker dies while no supervisor looks, and an alien gets its pid. Prints what it finds."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.supervisor.conftest import Supervisor
from tests.supervisor.faults.tools import processes_of


def take(pid: int) -> "subprocess.Popen[bytes]":
    """A process with this pid. What the dead one left in its session keeps the number taken for a moment."""
    while True:
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        alien = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        if alien.pid == pid:
            return alien
        alien.kill()
        alien.wait()


def main() -> None:
    supervisor = Supervisor(Path(sys.argv[1]))
    tick = supervisor.singleton(args=["exec sleep 1000"])
    supervisor.apply(tick)
    [worker] = supervisor.pids("tick")
    supervisor.kill_daemon()
    os.kill(worker, signal.SIGKILL)
    while os.path.exists(f"/proc/{worker}"):  # it is ours now, as everything that has no parent
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            time.sleep(0.01)
    alien = take(worker)
    print("same-pid")
    supervisor.run("ping")
    supervisor.run("restart", "tick")
    supervisor.run("stop", "tick")
    if alien.poll() is None:
        print("alien-lives")
    supervisor.run("start", "tick")
    [now] = supervisor.workers("tick")
    if now["state"] == "running" and processes_of(supervisor) == [now["pid"]]:
        print("worker-runs-once")
    supervisor.run("kill")
    alien.kill()


if __name__ == "__main__":
    main()
