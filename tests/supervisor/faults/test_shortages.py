"""What a host may lack: processes, descriptors, the program, room on a disk. It is said, and over when there is enough again."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from percore.supervisor.base.home import connect
from tests.supervisor.conftest import Load, Supervisor
from tests.supervisor.faults.tools import becomes_sound, cpu_seconds, lost_nothing, plain, start_daemon
from tests.waiting import wait_for

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts and limits others")


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def failure_of(supervisor: Supervisor, app: str = "tick") -> str:
    return str(supervisor.workers(app)[0]["failure"])


@pytest.mark.parametrize(
    ("kind", "told"),
    [("missing", "No such file"), ("no right to execute", "Permission denied"), ("no program", "Exec format error")],
)
def test_a_program_that_cannot_be_executed_is_told_and_tried_again(
    supervisor: Supervisor, kind: str, told: str
) -> None:
    program = supervisor.folder / "program"
    good = "#!/bin/sh\nexec sleep 1000\n"
    if kind != "missing":
        program.write_text("\0\1\2" if kind == "no program" else good)
        program.chmod(0o755 if kind == "no program" else 0o644)
    app = supervisor.singleton(script=str(program), interpreter="none", args=[], restart_delay=0.05)
    result = supervisor.apply(app, check=False)
    assert result["exit_code"] == 4
    assert told in result["error"]
    program.write_text(good)
    program.chmod(0o755)
    assert supervisor.apply(app, release="r2")["ok"]
    program.unlink()
    os.kill(supervisor.pids("tick")[0], signal.SIGKILL)
    wait_for(lambda: "No such file" in failure_of(supervisor), "the failure")
    program.write_text(good)
    program.chmod(0o755)
    becomes_sound(supervisor, app)


@as_root
def test_without_a_process_left_for_it_a_worker_waits_and_comes_back(supervisor: Supervisor) -> None:
    """pids.max of a control group: the limit that TasksMax= sets; RLIMIT_NPROC leads to the same error."""
    root = next(
        (Path(path) for path in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup") if Path(path, "cgroup.procs").exists()), None
    )
    group = root / f"percore-test-{os.getpid()}" if root else None
    try:
        assert group
        group.mkdir()
        limit = group / "pids.max"
        limit.write_text("max")
    except (AssertionError, OSError):
        pytest.skip("no control group for pids may be made here")
    try:
        app = plain(supervisor)
        daemon = start_daemon(supervisor, before=f"echo $$ > {group}/cgroup.procs")
        supervisor.apply(app)
        with Load(supervisor.port, keeping=0) as load:
            limit.write_text("3")
            victim = supervisor.pids("api")[0]
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda: victim not in supervisor.pids("api"), "its end")
            limit.write_text("2")
            other = supervisor.pids("api")[1]
            wait_for(
                lambda: supervisor.workers("api")[0]["state"] == "running", "its successor, for which there is room"
            )
            os.kill(supervisor.pids("api")[0], signal.SIGKILL)
            wait_for(
                lambda: "Resource temporarily unavailable" in failure_of(supervisor, "api"), "the shortage to be told"
            )
            assert supervisor.pids("api")[1] == other
            limit.write_text("max")
            becomes_sound(supervisor, app)
        lost_nothing(load, resets=2)
        supervisor.run("kill")
        daemon.wait(60)
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text(), "the group to be empty")
        group.rmdir()


def test_without_a_descriptor_left_the_supervisor_neither_dies_nor_spins(supervisor: Supervisor) -> None:
    app = plain(supervisor, instances=2)
    daemon = start_daemon(supervisor, before="ulimit -n 100")
    supervisor.apply(app)
    with Load(supervisor.port, keeping=0) as load, contextlib.ExitStack() as knocking:
        waiting = []
        for _ in range(160):
            sock = knocking.enter_context(socket.socket(socket.AF_UNIX))
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(str(supervisor.home / "run" / "control.sock"))
                waiting.append(sock)
        wait_for(lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) >= 99, "the last descriptor to be taken")
        before = cpu_seconds(daemon.pid)
        victim = next(pid for pid in workers_below(daemon.pid))
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: "Too many open files" in supervisor.log(), "the shortage to be told")
        assert cpu_seconds(daemon.pid) - before < 2
        knocking.close()
        becomes_sound(supervisor, app)
    lost_nothing(load, resets=1)
    assert supervisor.daemon_pid() == daemon.pid
    supervisor.run("kill")
    daemon.wait(60)


def workers_below(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_workers_get_the_limits_that_the_supervisor_was_given_and_no_descriptor_of_its_own(
    supervisor: Supervisor,
) -> None:
    script = "ulimit -n; ls -l /proc/$$/fd | grep -c socket; exec sleep 1000"
    daemon = start_daemon(supervisor, before="ulimit -Sn 200")
    supervisor.apply(supervisor.api(), supervisor.singleton(args=[script]))
    log = supervisor.home / "logs" / "tick-out.log"
    assert wait_for(log.read_text, "its words").split() == ["200", "2"], "the two ends of the store, and no more"
    soft = next(
        line for line in Path(f"/proc/{daemon.pid}/limits").read_text().splitlines() if "open files" in line
    ).split()[3]
    assert int(soft) > 200
    supervisor.kill_daemon()
    daemon.wait(60)
    supervisor.run("ping")
    supervisor.run("restart", "tick")
    wait_for(lambda: len(log.read_text().split()) == 4, "its words")
    assert log.read_text().split()[3] == "2", "nor one that was recovered"


def test_a_worker_without_descriptors_hurts_nobody_else(supervisor: Supervisor) -> None:
    (supervisor.folder / "greedy.js").write_text(
        "const fs = require('fs'); if (process.env.NODE_APP_INSTANCE === '0') { setTimeout(() => {"
        "try { for (;;) fs.openSync('/dev/null'); } catch (error) { console.log(error.code); } }, 300); }\n"
        + (supervisor.folder / "server.js").read_text()
    )
    supervisor.run("ping")
    supervisor.run("kill")
    daemon = start_daemon(supervisor, before="ulimit -n 120")
    app = supervisor.api(script="greedy.js", liveness_timeout=1.0, kill_timeout=0.3)
    supervisor.apply(app)
    wait_for(lambda: "EMFILE" in (supervisor.home / "logs" / "api-out-0.log").read_text(), "its shortage")
    other = supervisor.pids("api")[1]
    with Load(supervisor.port, keeping=0, closing=2) as load:
        wait_for(lambda: load.counts["ok"] > 200, "answers of the other")
    assert load.counts["hung"] == 0
    assert supervisor.pids("api")[1] == other
    supervisor.run("kill")
    daemon.wait(60)


@as_root
def test_a_full_disk_below_the_state_is_said_and_the_state_follows_when_there_is_room(supervisor: Supervisor) -> None:
    with small_disk(supervisor.home, "400k"):
        app = plain(supervisor, disable_logs=True)
        supervisor.apply(app, supervisor.singleton(args=["exec sleep 1000"], disable_logs=True))
        before = supervisor.pids("api")
        fill = supervisor.home / "fill"
        with Load(supervisor.port, keeping=0) as load:
            with contextlib.suppress(OSError), fill.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 512)
            supervisor.run("restart", "tick")
            log = supervisor.home / "logs" / "percore.log"
            size = log.stat().st_size
            fill.unlink()
            state = supervisor.home / "state.json"
            now = supervisor.pids("tick")[0]
            wait_for(lambda: f'"pid": {now},' in state.read_text(), "the state to be written after all")
            assert log.stat().st_size >= size
            supervisor.kill_daemon()
            supervisor.run("ping")
        lost_nothing(load)
        assert supervisor.pids("tick") == [now]
        assert supervisor.pids("api") == before
        supervisor.run("kill")


@as_root
def test_a_read_only_disk_below_the_state_keeps_nothing_from_running(supervisor: Supervisor) -> None:
    app = plain(supervisor, disable_logs=True)
    supervisor.apply(app)
    daemon = supervisor.daemon_pid()
    with Load(supervisor.port, keeping=0) as load:
        with read_only(supervisor.home):
            victim = supervisor.pids("api")[0]
            os.kill(victim, signal.SIGKILL)
            wait_for(
                lambda: "state.json could not be written (Read-only file system)" in supervisor.log(), "it to be said"
            )
            becomes_sound(supervisor, app)
            supervisor.run("reload", "api")
        now = supervisor.pids("api")
        state = supervisor.home / "state.json"
        wait_for(lambda: all(f'"pid": {pid},' in state.read_text() for pid in now), "the state to be written after all")
    lost_nothing(load, resets=1)
    assert supervisor.daemon_pid() == daemon


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """For everybody who opens something from now on; what is open stays as it is."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        remount(folder, "bind,ro")
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


@as_root
def test_a_supervisor_that_has_no_place_to_live_says_so_in_one_line(supervisor: Supervisor) -> None:
    with small_disk(supervisor.home, "64k"):
        remount(supervisor.home, "ro")
        done = supervisor.run("start", "server.js", check=False)
        assert done.returncode != 0
        assert "Read-only file system" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        done = supervisor.run("daemon", check=False)
        assert done.returncode == 1
        assert "the supervisor cannot start" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        remount(supervisor.home, "rw")
        (supervisor.home / "run").mkdir()
        with contextlib.suppress(OSError), (supervisor.home / "run" / "fill").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 512)
        done = supervisor.run("daemon", check=False)
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_folder_that_was_open_to_others_is_closed(supervisor: Supervisor) -> None:
    (supervisor.home / "run").mkdir(parents=True, mode=0o777)
    (supervisor.home / "run").chmod(0o777)
    supervisor.run("ping")
    assert stat.S_IMODE((supervisor.home / "run").stat().st_mode) == 0o700


def test_a_request_for_which_there_is_no_memory_costs_its_client_the_connection(supervisor: Supervisor) -> None:
    daemon = start_daemon(supervisor)
    app = plain(supervisor)
    supervisor.apply(app)
    before = supervisor.pids("api")
    used = next(
        line for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines() if line.startswith("VmSize")
    )
    most = int(used.split()[1]) * 1024 + (4 << 20)
    resource.prlimit(daemon.pid, resource.RLIMIT_AS, (most, most))
    with Load(supervisor.port, keeping=0) as load:
        with connect(str(supervisor.home / "run" / "control.sock")) as sock, contextlib.suppress(ConnectionError):
            sock.settimeout(20)
            for _ in range(15):
                sock.sendall(b"x" * 1_000_000)
            assert sock.recv(1) == b""
        assert supervisor.daemon_pid() == daemon.pid
        assert supervisor.pids("api") == before
    lost_nothing(load)


def test_no_core_of_the_supervisor_is_written_and_workers_get_the_limit_that_it_was_given(
    supervisor: Supervisor,
) -> None:
    def core_limit(pid: int) -> list[str]:
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
        return next(line for line in lines if line.startswith("Max core file size")).split()[4:6]

    daemon = start_daemon(supervisor, before="ulimit -Sc 4")
    supervisor.apply(supervisor.api(), supervisor.singleton())
    for name in ("api", "tick"):
        for pid in supervisor.pids(name):
            assert core_limit(pid)[0] not in ("0", core_limit(daemon.pid)[0])
            assert core_limit(pid)[1] == core_limit(daemon.pid)[1]
    assert core_limit(daemon.pid)[0] == "0"
    supervisor.run("update")
    assert core_limit(supervisor.daemon_pid())[0] == "0"
    before = supervisor.pids("tick")
    supervisor.run("restart", "tick")
    assert supervisor.pids("tick") != before
    assert core_limit(supervisor.pids("tick")[0])[0] != "0", "nor does what an update executes forget what was given"
