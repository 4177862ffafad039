"""How a port is shared on every kernel and for every kind of address, and what a worker or a stranger can do to it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.conftest import Load, Supervisor
from tests.waiting import wait_for

REUSEPORT, ATTACH_PROGRAM, DETACH_PROGRAM = 15, 51, 68


def on_a_kernel_without(supervisor: Supervisor, *options: int) -> None:
    script = Path(__file__).with_name("sabotage.py")
    supervisor.prefix = [sys.executable, str(script), ",".join(map(str, options))]


def sharing(supervisor: Supervisor) -> str:
    rows = supervisor.run("describe", "api").stdout.splitlines()
    return next(row for row in rows if "port sharing" in row)


@pytest.mark.parametrize(
    ("missing", "mode", "told"),
    [
        ([], "steered", ""),
        ([ATTACH_PROGRAM], "hashed", "the kernel takes no program that steers: Protocol not available"),
        ([ATTACH_PROGRAM, REUSEPORT], "one socket", "two sockets cannot share a port: Protocol not available"),
    ],
)
def test_where_the_kernel_lacks_something_the_port_is_shared_the_next_best_way(
    supervisor: Supervisor, missing: list[int], mode: str, told: str
) -> None:
    if missing:
        on_a_kernel_without(supervisor, *missing)
    supervisor.apply(supervisor.api())
    assert mode in sharing(supervisor)
    assert told in sharing(supervisor)
    with Load(supervisor.port, keeping=2, closing=2) as load:
        supervisor.run("reload", "api")
        supervisor.run("scale", "api", "3")
        supervisor.kill_daemon()
        supervisor.run("ping")
        wait_for(lambda: [worker["state"] for worker in supervisor.workers("api")] == ["running"] * 3, "adoption")
        supervisor.run("reload", "api")
        if mode != "hashed":
            supervisor.run("scale", "api", "2")
    assert load.failures == []
    # Where the kernel spreads connections by itself, those in the queue of a slot that is given up are lost with it.
    supervisor.run("scale", "api", "2")
    assert {supervisor.get()["slot"] for _ in range(60)} == {"0", "1"}


WORKER = """
import http.server, json, os, socket, threading
def sabotage():
    SABOTAGE
slot = os.environ["NODE_APP_INSTANCE"]
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/":
            threading.Timer(0.1, sabotage).start()
        body = json.dumps({"pid": os.getpid(), "slot": slot}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
    def get_request(self):
        try:
            return super().get_request()
        except OSError:  # shut down
            raise SystemExit(0)
server = Server(("", int(os.environ["PORT"])), Answer)
server.serve_forever()
"""
# By the system call itself, since the library's function is watched.
SHUT_DOWN = (
    "import ctypes; ctypes.CDLL(None).syscall({'x86_64': 48, 'aarch64': 210}[os.uname().machine], server.fileno(), 2)"
)
DETACH = f"server.socket.setsockopt(socket.SOL_SOCKET, {DETACH_PROGRAM}, 0)"
ATTACH_OWN = f"""import array, struct
    code = array.array("B", struct.pack("HBBI", 6, 0, 0, 0))
    server.socket.setsockopt(socket.SOL_SOCKET, {ATTACH_PROGRAM}, struct.pack("HP", 1, code.buffer_info()[0]))"""


@pytest.mark.parametrize("sabotage", [SHUT_DOWN, DETACH, ATTACH_OWN], ids=["shut down", "detach", "own program"])
def test_what_a_worker_does_to_the_shared_sockets_is_put_right(supervisor: Supervisor, sabotage: str) -> None:
    (supervisor.folder / "worker.py").write_text(WORKER.replace("SABOTAGE", sabotage))
    # Of three, so that a socket which leaves the group and comes back at its end changes the number of another slot's.
    supervisor.apply(supervisor.api(interpreter=sys.executable, script="worker.py", instances=3))
    assert supervisor.get("/sabotage", source="127.77.0.2")["slot"] == "1"
    with Load(supervisor.port, keeping=0, closing=4) as load:
        if sabotage == SHUT_DOWN:  # who waits in the very queue that a worker shuts down is cut off with it
            wait_for(lambda: "put right" in supervisor.log(), "the sabotage to be seen")
        wait_for(lambda: {supervisor.get()["slot"] for _ in range(20)} == {"0", "1", "2"}, "all workers to serve again")
        wait_for(lambda: reaches_each(supervisor), "each worker to be reached by its own source")
    assert load.counts["hung"] == 0
    assert not [failure for failure in load.failures if "Refused" in failure or (sabotage != SHUT_DOWN)]
    with Load(supervisor.port, keeping=0, closing=4) as load:
        supervisor.run("reload", "api")
    assert load.counts["hung"] == 0
    assert load.failures == []
    assert reaches_each(supervisor)


def reaches_each(supervisor: Supervisor) -> bool:
    return all(
        {supervisor.get(source=f"127.77.0.{slot + 1}")["slot"] for _ in range(5)} == {str(slot)} for slot in range(3)
    )


def test_a_stranger_that_takes_a_part_of_the_address_is_told_with_its_process(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        thief.bind(("127.0.0.1", supervisor.port))
        thief.listen()
        told = f"127.0.0.1:{supervisor.port} of {Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()}) takes"
        assert told in sharing(supervisor)
        assert told in supervisor.log()
    assert "takes" not in sharing(supervisor)


def test_a_release_that_listens_on_another_host_is_told_to_restart_and_then_can(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    script = supervisor.folder / "narrow.js"
    script.write_text((supervisor.folder / "server.js").read_text().replace("PORT,", "PORT, '127.0.0.1',"))
    narrow = supervisor.api(script="narrow.js")
    result = supervisor.apply(narrow, release="r2", check=False)
    wide = f"[::]:{supervisor.port}"
    assert f"127.0.0.1:{supervisor.port} overlaps with {wide}, where the workers in service listen" in result["error"]
    assert {supervisor.get()["release"] for _ in range(10)} == {"r1"}
    supervisor.run("stop", "api")
    supervisor.apply(narrow, release="r2")
    assert supervisor.get()["release"] == "r2"
    assert wide not in supervisor.run("describe", "api").stdout


def test_two_apps_whose_addresses_overlap_are_both_named(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    script = supervisor.folder / "narrow.js"
    script.write_text("require('http').createServer().listen(process.env.PORT, '127.0.0.1');")
    result = supervisor.apply(supervisor.api(), supervisor.api(name="other", script="narrow.js"), check=False)
    told = f"127.0.0.1:{supervisor.port} overlaps with [::]:{supervisor.port}, which is already shared by the app 'api'"
    assert told in result["error"]
    assert "other" in result["error"]


ANSWERS = """
const { NODE_APP_INSTANCE: slot, WHERE } = process.env;
const http = require('http');
for (const where of JSON.parse(WHERE)) {
  http.createServer((_, response) => response.end(JSON.stringify({ pid: process.pid, slot }))).listen(where);
}
"""


def listening(supervisor: Supervisor, *where: dict[str, Any]) -> dict[str, Any]:
    (supervisor.folder / "answers.js").write_text(ANSWERS)
    return supervisor.api(script="answers.js", env={"WHERE": json.dumps(where)})


def answer(connection: socket.socket) -> dict[str, Any]:
    with connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as reply:
            found: dict[str, Any] = json.loads(reply.read().partition(b"\r\n\r\n")[2])
            return found


KEEPS_CONNECTIONS = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '2')
        self.end_headers()
        self.wfile.write(b'hi')
http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
"""


def test_a_server_that_knows_nothing_of_a_drain_loses_no_request_of_clients_that_keep_their_connections(
    supervisor: Supervisor,
) -> None:
    (supervisor.folder / "keeps.py").write_text(KEEPS_CONNECTIONS)
    app = supervisor.api(script="keeps.py", interpreter=sys.executable)
    supervisor.apply(app)
    idle = socket.create_connection(("127.0.0.1", supervisor.port), timeout=5)
    with idle, Load(supervisor.port, keeping=16, closing=0) as load:
        for number in range(3):  # so each socket is one that was left before
            if number == 1:
                supervisor.kill_daemon()
            supervisor.run("reload", "api")
        connection = http.client.HTTPConnection("127.0.0.1", supervisor.port, timeout=5)
        for _ in range(2):
            connection.request("GET", "/")
            with connection.getresponse() as response:
                assert response.headers["Connection"] is None  # who serves now lets nobody go
                response.read()
        connection.close()
    assert not load.failures


@pytest.mark.parametrize(("host", "v6only"), [("::", True), ("::1", False)])
def test_a_worker_that_listens_on_ipv6_alone_proves_that_it_serves(
    supervisor: Supervisor, host: str, v6only: bool
) -> None:
    where = {"port": supervisor.port, "host": host, "ipv6Only": v6only}
    supervisor.apply(listening(supervisor, where) | {"health": "/"})
    ask = lambda: answer(socket.create_connection(("::1", supervisor.port), timeout=5))["slot"]  # noqa: E731
    assert {ask() for _ in range(40)} == {"0", "1"}
    before = supervisor.pids("api")
    supervisor.run("reload", "api")
    assert not set(before) & set(supervisor.pids("api"))
    assert {ask() for _ in range(40)} == {"0", "1"}
    broken = listening(supervisor, where) | {"health": "/", "listen_timeout": 1.5}
    (supervisor.folder / "answers.js").write_text(ANSWERS.replace("response.end(", "response.writeHead(500).end("))
    result = supervisor.apply(broken, release="r2", check=False)
    assert "GET / answered 500" in result["error"]


def test_an_app_of_several_ports_and_a_socket_path_shares_all_of_them(supervisor: Supervisor) -> None:
    other, path = supervisor.port + 1, str(supervisor.folder / "app.sock")
    supervisor.apply(listening(supervisor, {"port": supervisor.port}, {"port": other}, {"path": path}))

    def by_path() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        return connection

    before = supervisor.pids("api")
    for _ in range(2):
        for port in (supervisor.port, other):
            found = {answer(socket.create_connection(("127.0.0.1", port), timeout=5))["slot"] for _ in range(40)}
            assert found == {"0", "1"}
        assert answer(by_path())["pid"] in supervisor.pids("api")
        supervisor.run("reload", "api")
    assert not set(before) & set(supervisor.pids("api"))


UDP = """
const socket = require('dgram').createSocket('udp4');
socket.on('message', (text, from) => socket.send(`${process.env.NODE_APP_INSTANCE} ${text}`, from.port, from.address));
socket.bind(+process.env.PORT);
"""


def test_a_udp_app_runs_and_goes_on_through_a_reload(supervisor: Supervisor) -> None:
    (supervisor.folder / "udp.js").write_text(UDP)
    supervisor.apply(supervisor.api(script="udp.js"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        for _ in range(2):
            for number in range(20):
                client.sendto(b"%d" % number, ("127.0.0.1", supervisor.port))
                assert client.recv(100).split()[1] == b"%d" % number
            supervisor.run("reload", "api")


def test_a_home_with_a_path_too_long_for_a_socket_works_all_the_same(supervisor: Supervisor) -> None:
    supervisor.home = supervisor.folder / ("long" * 25) / "home"
    ready = "with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:\n"
    ready += "    notify.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'].replace('@', '\\0', 1))\n"
    text = WORKER.replace("SABOTAGE", "pass").replace("server.serve_forever()", f"{ready}server.serve_forever()")
    (supervisor.folder / "ready.py").write_text(text)
    supervisor.apply(supervisor.api(interpreter=sys.executable, script="ready.py", wait_ready=True))
    assert {supervisor.get()["slot"] for _ in range(40)} == {"0", "1"}
    supervisor.run("delete", "api")
    supervisor.apply(supervisor.api(), release="r2")  # Node's preload finds its way, too: it is asked to drain
    with Load(supervisor.port) as load:
        supervisor.run("reload", "api")
    assert load.failures == []


def test_sharing_can_be_switched_off(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(instances=1, share_port=False, port=supervisor.port))
    environ = Path(f"/proc/{supervisor.pids('api')[0]}/environ").read_bytes()
    assert b"LD_PRELOAD" not in environ
    assert b"percore" not in environ.partition(b"NODE_OPTIONS=")[2].partition(b"\0")[0]
    assert supervisor.get()["slot"] == "0"


@pytest.mark.parametrize("program", ["require('http').createServer().listen(0)", "setInterval(() => {}, 1000)"])
def test_a_clustered_app_without_a_port_to_share_is_soon_ready(supervisor: Supervisor, program: str) -> None:
    """A port that the kernel chose is each worker's own, and a queue consumer has none."""
    (supervisor.folder / "alone.js").write_text(program)
    began = time.monotonic()
    supervisor.apply(supervisor.api(script="alone.js", listen_timeout=60.0))
    assert time.monotonic() - began < 30
    before = supervisor.pids("api")
    supervisor.run("reload", "api")
    assert not set(before) & set(supervisor.pids("api"))


def test_options_that_node_is_given_anyway_are_kept(supervisor: Supervisor) -> None:
    (supervisor.folder / "first.cjs").write_text("process.env.WAS_FIRST = '1';")
    script = supervisor.folder / "options.js"
    script.write_text("if (!process.env.WAS_FIRST) throw new Error('lost'); require('./server.js');")
    supervisor.apply(
        supervisor.api(script="options.js", env={"NODE_OPTIONS": f"--require {supervisor.folder}/first.cjs"})
    )
    assert supervisor.get()["pid"] in supervisor.pids("api")


def test_a_worker_whose_supervisor_is_gone_binds_alone_and_says_so(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    environ = dict(
        entry.split("=", 1)
        for entry in Path(f"/proc/{supervisor.pids('api')[0]}/environ").read_text().split("\0")
        if "=" in entry
    )
    supervisor.run("kill")
    environ["PERCORE_SOCKET"] = str(supervisor.folder / "nobody.sock")
    read_end, write_end = os.pipe()
    pid = os.posix_spawn(
        sys.executable, [sys.executable, "-m", "http.server", str(supervisor.port)], environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, write_end, 2), (os.POSIX_SPAWN_CLOSE, read_end)],
    )  # fmt: skip
    os.close(write_end)
    try:
        with open(read_end) as errors:
            assert "the supervisor does not answer, so this worker binds its port alone" in errors.readline()
        wait_for(lambda: can_connect(supervisor.port), "it to serve")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def can_connect(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
