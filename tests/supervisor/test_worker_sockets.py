"""What a worker, or any local user, can do to a supervisor of root over its sockets: no more than he could without it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from percore.supervisor.base.home import Home
from percore.supervisor.sockets.preload import former_addresses
from tests.supervisor.conftest import SERVER, Supervisor
from tests.waiting import free_port, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts workers as another user")
USER = pwd.getpwnam("nobody").pw_uid
PRIVILEGED_PORT = 879

CLIENT = """
import os, socket, sys, time
os.setgroups([]); os.setgid(USER); os.setuid(USER)
def connect():
    door = socket.socket(socket.AF_UNIX)
    door.connect(PATH)
    return door
def ask(line):
    with connect() as door:
        door.sendall(line if isinstance(line, bytes) else line.encode())
        door.settimeout(20)
        try:
            text, fds, _, _ = socket.recv_fds(door, 100, 4)
        except ConnectionResetError:
            return 'closed'
        for fd in fds: os.close(fd)
        return text.decode().strip() or 'closed'
def inet(port, kind=1, host='7f000001'):
    return f'bind {TOKEN} {os.getpid()} 2 {kind} 0 0200{port:04x}{host}{"00" * 8}\\n'
def path(name):
    return f'bind {TOKEN} {os.getpid()} 1 1 0 0100{os.fsencode(name).hex()}00\\n'
"""


class Attacker:
    """Speaks to the worker socket as the app's user, with a token that a worker of it was given."""

    def __init__(self, supervisor: Supervisor, app: str) -> None:
        self._pid = supervisor.pids(app)[0]
        environ = Path(f"/proc/{self._pid}/environ").read_text().split("\0")
        variables = dict(entry.split("=", 1) for entry in environ if "=" in entry)
        self.token, self.path, self.notify = (
            variables.get(name, "") for name in ("PERCORE_TOKEN", "PERCORE_SOCKET", "NOTIFY_SOCKET")
        )

    @contextlib.contextmanager
    def start(self, code: str, *, user: int = USER, cwd: str = "/") -> Iterator[subprocess.Popen[str]]:
        """For as long as the block lasts, from the first line on that it prints."""
        process = self._start(code, user, cwd)
        try:
            assert process.stdout
            first = process.stdout.readline()
            assert first in ("all\n", "begins\n"), first + process.stdout.read()
            yield process
        finally:
            process.kill()
            process.communicate()

    def _start(self, code: str, user: int, cwd: str) -> subprocess.Popen[str]:
        head = f"USER, TOKEN, PATH, NOTIFY = {user}, {self.token!r}, {self.path!r}, {self.notify!r}\n"
        program = head + CLIENT + textwrap.dedent(code)
        return subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd
        )

    def run(self, code: str, *, user: int = USER, cwd: str = "/") -> list[str]:
        """The lines that it prints."""
        process = self._start(code, user, cwd)
        try:
            return process.communicate(timeout=60)[0].splitlines()
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def folder(supervisor: Supervisor) -> Iterator[Path]:
    made = Path("/var/tmp") / f"percore-test-{os.getpid()}-{supervisor.port}"
    made.mkdir()
    os.chown(made, USER, -1)
    made.chmod(0o755)
    (made / "server.js").write_text(SERVER)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def app(supervisor: Supervisor, folder: Path) -> dict[str, Any]:
    return supervisor.api(cwd=str(folder), user="nobody")


@pytest.fixture
def attacker(supervisor: Supervisor, app: dict[str, Any]) -> Attacker:
    supervisor.apply(app)
    return Attacker(supervisor, "api")


# -- what it is given ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_worker_gets_a_privileged_port_only_where_the_process_file_names_it(
    supervisor: Supervisor, app: dict[str, Any], attacker: Attacker, kind: int
) -> None:
    ask = f"print(ask(inet({PRIVILEGED_PORT}, {int(kind)})))"
    assert attacker.run(ask) == ["fail 13"]
    assert "Permission denied -> name it in the process file" in supervisor.log()
    supervisor.apply(app | {"env": {"PORT": str(PRIVILEGED_PORT)}}, release="r2")
    assert Attacker(supervisor, "api").run(ask)[0] in ("take", "fail 98")  # over TCP it is listened on already


def test_what_was_opened_for_root_is_not_given_to_the_user_that_the_app_runs_as_now(
    supervisor: Supervisor, app: dict[str, Any]
) -> None:
    supervisor.apply(app | {"user": None, "env": {"PORT": str(PRIVILEGED_PORT)}})
    supervisor.apply(app | {"env": {"PORT": str(supervisor.port)}}, release="r2")
    assert Attacker(supervisor, "api").run(f"print(ask(inet({PRIVILEGED_PORT}, 1, '00000000')))") == ["fail 13"]


def test_a_worker_makes_and_removes_unix_sockets_with_its_users_rights(
    supervisor: Supervisor, folder: Path, attacker: Attacker, tmp_path: Path
) -> None:
    private = folder / "private"
    private.mkdir(mode=0o755)
    (folder / "way").symlink_to(private)
    with socket.socket(socket.AF_UNIX) as stale:  # of root, and dead
        stale.bind(str(private / "stale.sock"))
    own = folder / "own.sock"
    assert attacker.run(
        f"for name in ({str(private / 'new.sock')!r}, {str(folder / 'way' / 'new.sock')!r},"
        f" {str(private / 'stale.sock')!r}, {str(own)!r}): print(ask(path(name)))"
    ) == ["fail 13", "fail 13", "fail 98", "take"]
    assert sorted(path.name for path in private.iterdir()) == ["stale.sock"]
    assert own.stat().st_uid == USER
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(own))
        peer = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    assert int.from_bytes(peer[4:8], sys.byteorder) == USER  # nobody takes it for a program of root
    # What stands at the path when the app goes is removed with those rights as well.
    (folder / "new.sock").symlink_to(private / "stale.sock")
    os.rename(folder / "new.sock", own)
    supervisor.run("delete", "api")
    assert own.is_symlink()
    assert (private / "stale.sock").exists()


def test_a_relative_path_is_seen_from_where_the_worker_is(folder: Path, attacker: Attacker) -> None:
    assert attacker.run("print(ask(path('here.sock')))", cwd=str(folder)) == ["take"]
    assert stat.S_ISSOCK((folder / "here.sock").stat().st_mode)


@pytest.mark.parametrize("kind", ["file", "pipe", "link", "dead link", "directory"])
def test_a_path_that_is_no_socket_is_refused_and_stays_as_it_is(
    supervisor: Supervisor, folder: Path, attacker: Attacker, kind: str
) -> None:
    path, other = folder / "data.db", folder / "other"
    other.write_text("precious")
    make = {
        "file": lambda: path.write_text("precious"),
        "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to(other),
        "dead link": lambda: path.symlink_to("nowhere"),
        "directory": path.mkdir,
    }
    make[kind]()
    os.chown(path, USER, -1, follow_symlinks=False)
    before = path.lstat()
    assert attacker.run(f"print(ask(path({str(path)!r})))") == ["fail 98"]
    assert path.lstat() == before
    assert other.read_text() == "precious"
    assert f"{path} is already in use: it is not a socket" in supervisor.log()


def test_what_lies_at_the_path_by_now_survives_the_end_of_the_app(
    supervisor: Supervisor, folder: Path, attacker: Attacker
) -> None:
    paths = [folder / name for name in ("a.sock", "b.sock", "c.sock")]
    for path in paths:
        assert attacker.run(f"print(ask(path({str(path)!r})))") == ["take"]
    supervisor.kill_daemon()
    supervisor.run("ping")
    file, listening, ours = paths
    for path in (file, listening):
        path.unlink(missing_ok=True)
    file.write_text("precious")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(listening))
        other.listen()
        supervisor.run("delete", "api")
        assert file.read_text() == "precious"
        assert listening.exists()
    assert not ours.exists() or ours.stat().st_uid == USER


def test_the_addresses_of_an_app_are_counted(supervisor: Supervisor, attacker: Attacker) -> None:
    lines = attacker.run(
        """
        taken = []
        for port in range(11000, 11100):
            while (answer := ask(inet(port, 1, '7f00004d'))) == 'closed':
                pass  # that means: ask again
            taken += [port] if answer == 'take' else []
        print(len(taken), answer)
        print(ask(inet(taken[0], 1, '7f00004d')))
        """
    )
    assert lines == ["63 fail 98", "take"]  # with the one that it serves; a known one is no more
    assert "'api' listens on 64 addresses, which is the most for an app of 2 workers" in supervisor.log()


# -- what it says ----------------------------------------------------------------------------------------------------


def test_whatever_is_said_on_the_worker_socket_is_answered_and_hurts_nobody(
    supervisor: Supervisor, attacker: Attacker
) -> None:
    before = supervisor.daemon_pid(), supervisor.pids("api")
    lines = attacker.run(
        """
        for line in (
            f'bind {TOKEN} 1 2 99999999999 0 02000bb87f000001\\n', f'bind {TOKEN} 1 2 5 0 02000bb87f000001\\n',
            f'bind {TOKEN} 1 99999999999999999999 1 0 0200\\n', f'bind {TOKEN} 1 2 1 0 0200\\n',
            f'bind {TOKEN} 1 10 1 0 0a000bb800000000\\n', f'bind {TOKEN} 1 2 1 0 01002f746d702f78\\n',
            f'bind {TOKEN} 1 2 1 0 zz\\n', f'bind {TOKEN} 1 2 1 0 02000bb87f000001', f'bind {TOKEN}\\n',
            f'bind {TOKEN} 1 1 1 0 0100{"2f61" * 63}\\n',
            b'\\xff' * 1024, b'\\n', b'drain-me\\n', 'bind ' * 300, f'{"[" * 900}\\n', 'unheard of\\n',
        ):
            print(ask(line))
        """
    )
    assert lines == ["fail 22"] * 16
    assert attacker.run("print(ask(f'bind {TOKEN} 1 1 1 0 01000061\\n'))") == ["own"]  # an abstract name
    assert (supervisor.daemon_pid(), supervisor.pids("api")) == before
    complaints = [line for line in supervisor.log().splitlines() if "was refused" in line]
    assert 0 < len(complaints) <= 4  # it cannot fill the log


def test_connections_that_say_nothing_are_closed(supervisor: Supervisor, attacker: Attacker) -> None:
    keep = """
        kept = [connect() for _ in range(400)]
        print('all', flush=True)
        for door in kept:
            door.recv(1)
        print('closed')
        """
    with attacker.start(keep) as silent:
        wait_for(lambda: descriptors_of(supervisor) < 200, "the first of them to go", seconds=3)
        assert silent.communicate(timeout=30)[0] == "closed\n"


def test_connections_that_stay_are_bounded_and_leave_room_for_the_others(
    supervisor: Supervisor, attacker: Attacker
) -> None:
    """Each shows the token, as if it were one more Node process that waits to be drained."""
    keep = """
        kept = []
        for _ in range(800):  # as many as a process may usually open
            kept.append(connect())
            try:
                kept[-1].sendall(f'drain-me {TOKEN} 1\\n'.encode())
            except BrokenPipeError:
                pass
        print('all', flush=True)
        time.sleep(60)
        """
    with attacker.start(keep):
        wait_for(lambda: descriptors_of(supervisor) < 350, "those over the bound to go", seconds=10)
        supervisor.run("restart", "api")
        assert [worker["state"] for worker in supervisor.workers("api")] == ["running"] * 2


def test_a_flood_of_connections_of_one_user_delays_no_other_app(
    supervisor: Supervisor, app: dict[str, Any], attacker: Attacker
) -> None:
    keep = """
        print('begins', flush=True)
        while True:
            try:
                ask(f'alone {TOKEN} 1\\n')
            except OSError:
                pass
        """
    with contextlib.ExitStack() as floods:
        for _ in range(4):
            floods.enter_context(attacker.start(keep))
        pid = supervisor.daemon_pid()
        # The first thousands are answered at once.
        wait_for(lambda: cpu_share(pid) < 0.4, "the supervisor to hold them back")
        other = supervisor.api(name="other", env={"PORT": str(free_port())}, instances=1)
        supervisor.apply(app, other, release="r2")
        for _ in range(3):
            supervisor.run("restart", "other")
        assert [worker["state"] for worker in supervisor.workers("other")] == ["running"]
        assert cpu_share(pid) < 0.4
        assert supervisor.daemon_pid() == pid


# -- what an earlier supervisor left -----------------------------------------------------------------------------------

FORGERS = {
    "no JSON": "left.send(b'[' * 5000)",
    "other numbers": "left.send(b'[1e400, -1, 0, {}]')",
    "no socket at all": "left, right = open('/dev/null'), open('/dev/null')",
    "sockets of its own": "socket.send_fds(left, [json.dumps([9, 0, 1, {NAME: 1}]).encode()], [own.fileno()])",
    "files": "socket.send_fds(left, [json.dumps([9, 0, 1, {NAME: 1}]).encode()], [0])",
    "an owner that is none": "socket.send_fds(left, [json.dumps([9, 0, 1, {'7': 1, '[[]]': 1}]).encode()], [0, 0])",
}


@pytest.mark.parametrize("user", ["nobody", None])
@pytest.mark.parametrize("forgery", FORGERS.values(), ids=FORGERS)
def test_a_store_that_a_worker_forged_is_passed_over(
    supervisor: Supervisor, app: dict[str, Any], user: str | None, forgery: str
) -> None:
    """The worker closes what it was given, so there is no other store; its neighbour gives its socket back all the same."""
    (Path(app["cwd"]) / "forger.py").write_text(
        "import json, os, socket, time\n"
        "left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "own = socket.create_server(('127.0.0.1', 0))\n"
        f"NAME = json.dumps(['api', 2, 1, '0.0.0.0', {supervisor.port}, False, [0]])\n"
        f"{forgery}\n"
        "os.dup2(left.fileno(), 61), os.dup2(right.fileno(), 62)\n"
        "print('forged', flush=True)\n"
        "time.sleep(1000)\n"
    )
    forger = {
        "name": "forger",
        "script": "forger.py",
        "interpreter": "/usr/bin/python3",
        "cwd": app["cwd"],
        "user": user,
    }
    supervisor.apply(forger, app)
    wait_for(lambda: "forged" in supervisor.run("logs", "forger", "--nostream").stdout, "the forgery")
    before = supervisor.pids("forger"), supervisor.pids("api")
    supervisor.kill_daemon()
    supervisor.run("ping")
    wait_for(lambda: (supervisor.pids("forger"), supervisor.pids("api")) == before, "adoption")
    assert {supervisor.get()["slot"] for _ in range(40)} == {"0", "1"}
    supervisor.run("reload", "api")


# -- READY=1 ---------------------------------------------------------------------------------------------------------

READY = """
import os, socket, time
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])
time.sleep(1000)
"""


@pytest.fixture
def notifier(supervisor: Supervisor, app: dict[str, Any]) -> dict[str, Any]:
    (Path(app["cwd"]) / "ready.py").write_text(READY)
    return app | {"interpreter": "/usr/bin/python3", "script": "ready.py", "wait_ready": True}


def test_who_has_no_worker_sends_nothing(supervisor: Supervisor, notifier: dict[str, Any]) -> None:
    supervisor.apply(notifier)
    attacker = Attacker(supervisor, "api")
    send = "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(b'x', NOTIFY); print('sent')"
    assert attacker.run(send) == ["sent"]
    assert "PermissionError" in attacker.run(send, user=1)[-1]
    assert "PermissionError" in attacker.run("connect()", user=1)[-1]


def test_a_flood_of_messages_takes_little_time_and_crowds_out_no_other_user(
    supervisor: Supervisor, notifier: dict[str, Any], tmp_path: Path
) -> None:
    supervisor.apply(notifier)
    keep = """
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        print('begins', flush=True)
        while True:
            s.sendto(b'READY=1\\n' * 100, NOTIFY)
        """
    with Attacker(supervisor, "api").start(keep):
        (tmp_path / "ready.py").write_text(READY)
        pid = supervisor.daemon_pid()
        wait_for(lambda: cpu_share(pid) < 0.2, "the supervisor to hold them back")
        supervisor.apply(notifier, {**notifier, "name": "other", "user": None, "cwd": str(tmp_path)}, release="r2")
        for _ in range(3):
            supervisor.run("restart", "other")
        assert cpu_share(pid) < 0.2


def test_a_home_with_a_long_path_has_a_notify_socket_that_nobody_can_take(
    supervisor: Supervisor, notifier: dict[str, Any], tmp_path: Path
) -> None:
    supervisor.home = tmp_path / ("long" * 25) / "home"
    supervisor.home.mkdir(parents=True)
    guessed = former_addresses(Home(str(supervisor.home)))[-1]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as thief:
        thief.bind("\0" + guessed[1:])
        (tmp_path / "ready.py").write_text(READY)
        supervisor.apply({**notifier, "user": None, "cwd": str(tmp_path)})
        address = Attacker(supervisor, "api").notify
        assert stat.S_IMODE(os.stat(os.path.dirname(address)).st_mode) == 0o700
        supervisor.kill_daemon()
        supervisor.run("restart", "api")
        assert Attacker(supervisor, "api").notify == address
        supervisor.run("kill")
    shutil.rmtree(os.path.dirname(address))


def test_a_worker_of_an_earlier_version_finds_the_socket_that_it_was_told(
    supervisor: Supervisor, app: dict[str, Any]
) -> None:
    """All users were told one; it is opened for them, and only for them."""
    former = former_addresses(Home(str(supervisor.home)))
    supervisor.apply(app | {"env": {"PORT": str(supervisor.port), "NOTIFY_SOCKET": former[1]}})
    assert not os.path.exists(former[1])
    supervisor.kill_daemon()
    supervisor.run("ping")
    attacker = Attacker(supervisor, "api")
    send = f"s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(b'READY=1', {former[1]!r}); print('sent')"
    assert attacker.run(send) == ["sent"]
    assert not os.path.exists(former[0])  # nobody was told that one
    supervisor.run("kill")
    assert not os.path.exists(former[1])


def descriptors_of(supervisor: Supervisor) -> int:
    return len(os.listdir(f"/proc/{int((supervisor.home / 'run' / 'lock').read_text())}/fd"))


def cpu_share(pid: int) -> float:
    """Of one core, within the next second."""
    began, before = time.monotonic(), cpu_seconds(pid)
    time.sleep(1)  # what is asked for is a share of time
    return (cpu_seconds(pid) - before) / (time.monotonic() - began)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
