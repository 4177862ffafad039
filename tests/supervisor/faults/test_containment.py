"""A failure stays where it happened: whatever a worker, a stranger or a fault of ours does, the supervisor and all else go on."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from percore.supervisor.base.home import connect
from tests.supervisor.conftest import Supervisor
from tests.supervisor.faults.tools import cpu_seconds, plain, start_daemon
from tests.waiting import free_port, wait_for


@contextlib.contextmanager
def same_daemon(supervisor: Supervisor) -> Iterator[int]:
    """The supervisor that is there before answers afterwards, and did not begin again."""
    pid = supervisor.daemon_pid()
    instance = supervisor.ask("ping")["instance"]
    yield pid
    now = supervisor.ask("ping")
    assert (now["pid"], now["instance"]) == (pid, instance), supervisor.log()


def failure_of(supervisor: Supervisor, app: str) -> str:
    return " ".join(worker["failure"] for worker in supervisor.workers(app))


# -- faults of our own -----------------------------------------------------------------------------------------------


def test_an_unexpected_exception_fails_its_job_alone_and_doctor_counts_it(supervisor: Supervisor) -> None:
    patch = """
from percore.supervisor.core import lifecycle
def scale(app, count):
    yield from ()
    raise ZeroDivisionError("as a fault would")
lifecycle.scale = scale
"""
    start_daemon(supervisor, patch)
    supervisor.apply(supervisor.singleton())
    with same_daemon(supervisor):
        answer = supervisor.ask("scale", name="tick", count="3")
        assert answer["ok"] is False
        assert "ZeroDivisionError: as a fault would" in answer["error"]
        assert "Traceback" not in answer["error"]
        assert supervisor.ask("stop", selector="tick")["ok"] is True
    assert "in scale" in supervisor.log()
    assert supervisor.ask("ping")["faults"]["count"] == 1
    assert "as a fault would" in supervisor.run("doctor", check=False).stdout


def test_one_app_that_fails_unexpectedly_in_a_job_does_not_keep_the_others_of_it_from_theirs(
    supervisor: Supervisor,
) -> None:
    patch = """
from percore.supervisor.core import lifecycle
start = lifecycle.start
def fail(app, *arguments, **more):
    if app.name == "bad":
        raise MemoryError
    return start(app, *arguments, **more)
lifecycle.start = fail
"""
    start_daemon(supervisor, patch)
    apps = [supervisor.singleton(name=name) for name in ("bad", "good")]
    with same_daemon(supervisor):
        assert "MemoryError" in supervisor.ask("start", apps=apps)["error"]
    assert supervisor.pids("good")[0]


def test_a_descriptor_whose_callback_always_fails_rests_and_its_traceback_is_not_written_each_time(
    supervisor: Supervisor,
) -> None:
    patch = """
from percore.supervisor.health.sd_notify import NotifySocket
def fail(self):
    raise OSError(24, "Too many open files")
NotifySocket._read = fail
"""
    start_daemon(supervisor, patch)
    with same_daemon(supervisor) as daemon, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"READY=1", str(supervisor.home / "run" / "notify.sock"))
        spent = cpu_seconds(daemon)
        wait_for(lambda: supervisor.ask("ping")["faults"]["count"] >= 5, "the descriptor to be tried again and again")
        assert cpu_seconds(daemon) - spent < 1.5
    assert supervisor.log().count("OSError: [Errno 24]") == 3


def test_a_timer_whose_callback_fails_is_tried_again(supervisor: Supervisor) -> None:
    patch = """
from percore.supervisor.automation.memory_limit import MemoryLimit
look, times = MemoryLimit._look, []
def fail(self):
    times.append(1)
    if len(times) == 1:
        raise UnicodeError("once")
    look(self)
MemoryLimit._look = fail
"""
    start_daemon(supervisor, patch)
    with same_daemon(supervisor):
        supervisor.apply(supervisor.singleton(max_memory=1 << 10))
        wait_for(lambda: "over its limit" in supervisor.log(), "the look at the memory to come all the same")


@pytest.mark.parametrize(
    "place", ["percore.supervisor.process.child.make_command", "percore.supervisor.process.child.spawn"]
)
def test_a_worker_that_cannot_be_started_for_an_unexpected_reason_backs_off_alone(
    supervisor: Supervisor, place: str
) -> None:
    module, _, name = place.rpartition(".")
    patch = f"""
import {module} as module
real = module.{name}
def fail(*arguments, **more):
    if "'bad'" in repr(arguments):
        raise RuntimeError("as a fault would")
    return real(*arguments, **more)
module.{name} = fail
"""
    start_daemon(supervisor, patch)
    good, bad = supervisor.singleton(name="good"), supervisor.singleton(name="bad", env={"NAME": "'bad'"})
    with same_daemon(supervisor):
        supervisor.ask("start", apps=[bad, good])
        assert supervisor.pids("good")[0]
        assert "RuntimeError: as a fault would" in failure_of(supervisor, "bad")
        supervisor.run("delete", "bad")


def test_a_worker_whose_end_fails_unexpectedly_is_started_again(supervisor: Supervisor) -> None:
    patch = """
from percore.supervisor.process import child
real, times = child.kill_orphans, []
def fail(*arguments, **more):
    times.append(1)
    if len(times) == 1:
        raise UnicodeDecodeError("utf-8", b"x", 0, 1, "as a fault would")
    real(*arguments, **more)
child.kill_orphans = fail
"""
    start_daemon(supervisor, patch)
    supervisor.apply(supervisor.singleton())
    before = supervisor.pids("tick")
    with same_daemon(supervisor):
        os.kill(before[0], 9)
        wait_for(lambda: supervisor.pids("tick") not in (before, [0]), "its successor")


# -- what workers and strangers do -----------------------------------------------------------------------------------


def test_variables_that_no_program_can_be_given_fail_that_worker_alone(supervisor: Supervisor) -> None:
    """They are refused at the socket; a state or a plan may hold them all the same."""
    start_daemon(supervisor, "from percore.supervisor.config import kinds; kinds.KINDS.update(str=str, Variable=str)")
    apps = [supervisor.singleton(name=f"bad{number}", env=env)
            for number, env in enumerate([{"A=B": "x"}, {"": "x"}, {"A": "x\0y"}, {"A\0": "x"}, {"A": "\ud800"}])]  # fmt: skip
    with same_daemon(supervisor):
        supervisor.ask("start", apps=[*apps, supervisor.singleton(name="good")])
        assert supervisor.pids("good")[0]
        for app in apps:  # it is tried again and again; while it starts, nothing has failed
            wait_for(lambda name=app["name"]: "variable" in failure_of(supervisor, name), "its failure")
        supervisor.run("delete", "/bad/")


@pytest.mark.parametrize("kind", ["pipe", "device", "table"])
def test_a_program_file_that_is_none_holds_nobody_up(supervisor: Supervisor, kind: str) -> None:
    program = supervisor.folder / "program"
    if kind == "pipe":
        os.mkfifo(program, 0o755)
    elif kind == "device":
        program.symlink_to("/dev/zero")
    else:
        header = bytearray(b"\x7fELF\x02\x01" + bytes(58))
        header[32:40] = (64).to_bytes(8, "little")
        header[54:58] = b"\xff\xff\xff\xff"  # a table of four gigabytes
        with program.open("wb") as file:
            file.write(header)
            file.truncate(8 << 30)
        program.chmod(0o755)
    app = supervisor.api(script=str(program), interpreter="none", listen_timeout=2.0)
    with same_daemon(supervisor):
        supervisor.ask("start", apps=[app, supervisor.singleton()])
        assert supervisor.pids("tick")[0]
        supervisor.run("delete", "api")


NAMELESS = """
import ctypes, socket, sys, time
ctypes.CDLL(None).prctl(15, b"\\xff\\xfe\\x1b[2J", 0, 0, 0)
sock = socket.socket()
sock.bind(("0.0.0.0", int(sys.argv[1])))
sock.listen()
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("mode", ["cluster", "fork"])
def test_a_stranger_on_the_port_whose_name_is_no_text_is_named_all_the_same(supervisor: Supervisor, mode: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", NAMELESS, str(supervisor.port)], stdout=subprocess.PIPE, text=True
    ) as stranger:
        assert stranger.stdout
        assert stranger.stdout.readline() == "ready\n"
        try:
            with same_daemon(supervisor):
                env = {"FAIL": "silent"} if mode == "fork" else {}
                app = supervisor.api(mode=mode, instances=1, port=supervisor.port, listen_timeout=2.0, env=env)
                supervisor.ask("start", apps=[app])
                wait_for(lambda: f"(pid {stranger.pid})" in failure_of(supervisor, "api"), "its name")
                assert "\x1b" not in supervisor.log()
                supervisor.run("delete", "api")
        finally:
            stranger.kill()


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 " + b"9" * 8000 + b"\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 x\r\n",
        b"x" * 100_000,
        b"",
    ],
)
def test_a_reply_to_a_health_check_that_makes_no_sense_is_no_proof(supervisor: Supervisor, reply: bytes) -> None:
    (supervisor.folder / "odd.py").write_text(
        "import os, socket\nsock = socket.socket()\nsock.bind(('127.0.0.1', int(os.environ['PORT'])))\nsock.listen()\n"
        "while True:\n    with sock.accept()[0] as client:\n"
        f"        try: client.recv(4096), client.sendall({reply!r})\n        except OSError: pass\n"
    )
    app = supervisor.api(script="odd.py", interpreter=sys.executable, mode="fork", instances=1, port=free_port(),
                         health="/health", listen_timeout=1.0, env={})  # fmt: skip
    with same_daemon(supervisor):
        supervisor.ask("start", apps=[app])
        wait_for(lambda: "(GET /health" in supervisor.log(), "the reason")
        assert max(map(len, supervisor.log().splitlines())) < 300
        supervisor.run("delete", "api")


def test_what_a_worker_sends_over_its_channel_costs_the_supervisor_neither_memory_nor_life(
    supervisor: Supervisor,
) -> None:
    (supervisor.folder / "chatty.js").write_text(
        "const fs = require('fs'), line = Buffer.alloc(1 << 16, 120);\n"
        "let left = 200;\n"
        "const send = () => { try { fs.writeSync(60, line); left--; } catch {} if (left) setTimeout(send, 1);\n"
        "  else fs.writeSync(60, '\\n\\xff{]\\n\"ready\"\\n'); };\nsend(); setInterval(() => {}, 1000);\n"
    )
    app = supervisor.api(script="chatty.js", mode="fork", instances=1, wait_ready=True, listen_timeout=20.0)
    with same_daemon(supervisor):
        assert supervisor.apply(app)["ok"] is True


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose a group")
@pytest.mark.parametrize("field", ["user", "group"])
@pytest.mark.parametrize("number", ["99999999999999", "4294967295", "9" * 5000, "²", "a\nb"])
def test_a_user_or_group_that_cannot_be_fails_its_worker_alone(supervisor: Supervisor, field: str, number: str) -> None:
    with same_daemon(supervisor):
        answer = supervisor.ask("start", apps=[supervisor.singleton(name="bad", **{field: number})])
        assert f"there is no {field}" in answer["error"] or f"key '{field}'" in answer["error"]
        supervisor.apply(supervisor.singleton())
        supervisor.run("delete", "bad", check=False)


@pytest.mark.parametrize("words", ["2 99999999999 0 0200aaaa7f000001", "99999999999999999999 1 0 0200aaaa7f000001"])
def test_a_request_for_a_socket_that_makes_no_sense_is_answered_and_ends_nobody(
    supervisor: Supervisor, words: str
) -> None:
    supervisor.apply(plain(supervisor))
    pid = supervisor.pids("api")[0]
    token = next(part for part in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if b"PERCORE_TOKEN=" in part)
    with same_daemon(supervisor), connect(str(supervisor.home / "run" / "worker.sock")) as sock:
        sock.settimeout(10)
        sock.sendall(f"bind {token.decode().partition('=')[2]} {pid} {words}".encode())
        assert sock.recv(100)


def test_times_that_are_none_are_refused_and_long_ones_do_not_end_the_loop(supervisor: Supervisor) -> None:
    with same_daemon(supervisor):
        for value in (float("nan"), float("inf"), -1.0, 1e300, "5", True, None):
            answer = supervisor.ask("start", apps=[supervisor.singleton(kill_timeout=value)])
            assert answer["ok"] is False, value
            assert "kill_timeout" in answer["error"]
        supervisor.apply(supervisor.singleton(kill_timeout=90 * 86400.0, listen_timeout=90 * 86400.0))
        assert supervisor.ask("stop", selector="tick")["ok"] is True


# -- the way to a newer version --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ({"root": 5, "python": sys.executable}, "'root' should be"),
        ({"root": "/", "python": "/nope"}, "'python' should be"),
        ({"root": "/nope", "python": sys.executable}, "'root' should be"),
        ({"root": "/usr", "python": sys.executable}, "cannot take over"),
        ({"root": "/usr", "python": "/bin/true"}, "cannot take over"),
    ],
)
def test_a_program_that_cannot_take_over_is_refused_before_anything_ends(
    supervisor: Supervisor, program: dict[str, Any], reason: str
) -> None:
    supervisor.apply(supervisor.singleton())
    before = supervisor.pids("tick")
    with same_daemon(supervisor):
        answer = supervisor.ask("update", **program)
        assert answer["ok"] is False
        assert reason in json.dumps(answer)
    assert supervisor.pids("tick") == before
