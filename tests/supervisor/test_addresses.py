"""What a worker listens on is its app's address: not what it only binds, or closed, nor what opens first."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import percore
from percore.common.procfs import command_line_of, environment_of
from tests.supervisor.conftest import Supervisor
from tests.waiting import free_port, wait_for

# How programs find a port that is free: by binding it, by listening on it on every host, by connecting to it.
SEARCHES = {
    "bind": "with socket.socket() as trial:\n            trial.bind(('127.0.0.1', port))",
    "listen": "for host in ('127.0.0.1', '0.0.0.0', '127.0.0.1'):\n            with socket.socket() as trial:\n"
    "                trial.bind((host, port)); trial.listen()",
    "connect": "with socket.socket() as trial:\n            if trial.connect_ex(('127.0.0.1', port)) == 0: raise OSError",
}
SEARCHING = """
import http.server, os, signal, socket, sys
signal.signal(signal.SIGINT, lambda *_: os._exit(0))
first = int(os.environ["FIRST"])
for port in range(first, first + 5):
    try:
        {search}
        break
    except OSError:
        pass
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{{}}")
    log_message = lambda *_: None
http.server.HTTPServer(("", port), Answer).serve_forever()
"""
SEVERAL = """
const http = require('http'), net = require('net');
const { METRICS, PORT, OTHER, BREAK } = process.env;
http.createServer((_, answer) => answer.end('{}')).listen(METRICS);
setTimeout(() => {
  if (BREAK === 'all') throw new Error('broken');
  if (BREAK !== 'main') http.createServer((_, answer) => answer.end('{}')).listen(PORT);
  const brief = http.createServer().listen(OTHER, () => brief.close());
}, 300);
"""
FIRST_ALONE = """
const http = require('http');
const { NODE_APP_INSTANCE, PORT, OTHER } = process.env;
http.createServer((_, answer) => answer.end('{}')).listen(PORT);
const own = http.createServer((request, answer) => (request.url === '/crash' ? process.exit(3) : answer.end('{}')));
if (NODE_APP_INSTANCE === '0') own.listen(OTHER);
"""
OUTGOING = """
const http = require('http'), net = require('net');
http.createServer((_, answer) => answer.end('{}')).listen(process.env.PORT, () => {
  const client = net.connect({ port: process.env.PORT, host: '127.0.0.1', localPort: +process.env.OTHER });
  client.on('error', (error) => console.log(error.message));
  client.on('connect', () => console.log('connected from ' + client.localPort));
});
"""


def python(supervisor: Supervisor, program: str, **fields: Any) -> dict[str, Any]:
    (supervisor.folder / "program.py").write_text(program)
    return supervisor.api(script="program.py", interpreter=sys.executable, **fields)


def node(supervisor: Supervisor, program: str, **fields: Any) -> dict[str, Any]:
    (supervisor.folder / "program.js").write_text(program)
    return supervisor.api(script="program.js", **fields)


CONNECTS = """
import socket, sys
trial = socket.socket()
print(trial.connect_ex(('127.0.0.1', int(sys.argv[1]))), trial.connect_ex(('127.0.0.1', int(sys.argv[2]))))
"""


def answer_with(server: socket.socket, answers: list[bytes]) -> Iterator[bytes]:
    """What a worker asks on its socket, each question answered with the next of these."""
    for answer in answers:
        client, _ = server.accept()
        with client:
            yield client.recv(600)
            client.sendall(answer)


def test_an_address_that_another_worker_opens_while_one_connects_there_is_the_apps(tmp_path: Path) -> None:
    shim = Path(percore.__file__).parent / "supervisor" / "sockets" / f"bindshim-{os.uname().machine}.so"
    path = tmp_path / "worker.sock"
    with socket.socket(socket.AF_UNIX) as server, socket.socket() as shared, socket.socket() as other:
        server.settimeout(20)
        server.bind(str(path))
        server.listen()
        for each in (shared, other):
            each.bind(("127.0.0.1", 0))
            each.listen()
        ports = [str(each.getsockname()[1]) for each in (shared, other)]
        worker = subprocess.Popen(
            [sys.executable, "-c", CONNECTS, *ports], stdout=subprocess.PIPE,
            env={"LD_PRELOAD": str(shim), "PERCORE_SOCKET": str(path), "PERCORE_TOKEN": "0a"},
        )  # fmt: skip
        with worker:
            asked = list(answer_with(server, [b"own\n", b"fail 111\n", b"own\n", b"own\n"]))
            assert worker.communicate(timeout=20)[0] == f"{errno.ECONNREFUSED} 0\n".encode()
        assert [question.split()[0] for question in asked] == [b"connect"] * 4


def ask(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=8)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().read()
    finally:
        connection.close()


def is_refused(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex(("127.0.0.1", port)) != 0


def listens_on(supervisor: Supervisor) -> list[str]:
    (app,) = supervisor.ask("status")["apps"]
    found: list[str] = app["addresses"]
    return found


@pytest.mark.parametrize("search", SEARCHES)
def test_a_program_that_looks_for_a_free_port_shares_the_one_that_the_others_have(
    supervisor: Supervisor, search: str
) -> None:
    program = SEARCHING.format(search=SEARCHES[search])
    supervisor.apply(python(supervisor, program, env={"PORT": "", "FIRST": str(supervisor.port)}))
    assert listens_on(supervisor) == [f"0.0.0.0:{supervisor.port}"]
    supervisor.run("reload", "api")
    assert listens_on(supervisor) == [f"0.0.0.0:{supervisor.port}"]


def test_what_is_closed_is_closed_and_a_stopped_app_holds_no_port(supervisor: Supervisor) -> None:
    brief, metrics = free_port(), free_port()
    supervisor.apply(node(supervisor, SEVERAL, env={"METRICS": str(metrics), "OTHER": str(brief)}))
    wait_for(lambda: is_refused(brief), "what was closed to be closed", seconds=10)
    assert listens_on(supervisor) == [f"[::]:{metrics}", f"[::]:{supervisor.port}"]
    # A release that lacks an address of the one before is refused, and the one before serves on.
    for broken in ("main", "all"):
        env = {"METRICS": str(metrics), "OTHER": str(brief), "BREAK": broken}
        result = supervisor.apply(node(supervisor, SEVERAL, env=env, listen_timeout=2.0), release=broken, check=False)
        assert result["exit_code"] == 4
        assert not is_refused(supervisor.port)
        missing = f"it does not listen on [::]:{supervisor.port}, where the worker before it does"
        assert missing in result["error"] or broken == "all"
    supervisor.run("stop", "api")
    assert is_refused(supervisor.port)
    with socket.create_server(("", supervisor.port)):  # another program has it now
        assert supervisor.run("start", "api", check=False).returncode != 0
    supervisor.run("restart", "api")
    assert not is_refused(supervisor.port)


@pytest.mark.parametrize("then", ["listens elsewhere", "listens nowhere"])
def test_what_a_worker_closed_while_it_started_is_asked_for_no_proof(supervisor: Supervisor, then: str) -> None:
    """Such as a look whether a port is free."""
    looked_at, own = free_port(), free_port()
    main = f"require('http').createServer((_, response) => response.end()).listen({own})"
    program = f"""
        const look = require('net').createServer();
        look.listen({looked_at}, () => look.close(() => {main if then == "listens elsewhere" else "{}"}));
        setInterval(() => {{}}, 1000);
    """
    result = supervisor.apply(node(supervisor, program, env={"PORT": ""}))
    assert result["ok"], result
    wait_for(lambda: is_refused(looked_at), "what was closed to be closed", seconds=10)
    assert listens_on(supervisor) == ([f"[::]:{own}"] if then == "listens elsewhere" else [])


def test_an_address_of_one_worker_is_reached_at_that_worker_alone_also_while_it_starts_again(
    supervisor: Supervisor,
) -> None:
    """Such as one for metrics. In the queue of another worker clients would wait for ever."""
    (supervisor.folder / "first.js").write_text(FIRST_ALONE)
    other = free_port()
    supervisor.apply(supervisor.api(script="first.js", instances=3, env={"OTHER": str(other)}))
    before = supervisor.pids("api")
    for _ in range(2):
        for _ in range(20):
            assert ask(other, "/") == b"{}"
        with contextlib.suppress(OSError, http.client.HTTPException):
            ask(other, "/crash")
    wait_for(lambda: supervisor.pids("api")[0] not in (0, None, before[0]), "the first worker to be there again")
    assert ask(other, "/") == b"{}"
    assert supervisor.pids("api")[1:] == before[1:]
    assert "it accepts no connections" not in supervisor.log()


def test_an_address_that_a_restart_moved_away_from_is_let_go(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(instances=1))
    former, supervisor.port = supervisor.port, free_port()
    (supervisor.folder / "app.json").write_text(
        __import__("json").dumps({"apps": [{"name": "api", "script": "server.js", "exec_mode": "cluster",
                                            "env": {"PORT": supervisor.port}}]})
    )  # fmt: skip
    supervisor.run("restart", "app.json")
    wait_for(lambda: is_refused(former), "the former port to be closed", seconds=10)
    assert not is_refused(supervisor.port)


def test_a_connection_out_of_a_bound_port_is_the_worker_s_own(supervisor: Supervisor) -> None:
    local = free_port()
    supervisor.apply(node(supervisor, OUTGOING, instances=1, env={"OTHER": str(local)}))
    log = supervisor.home / "logs" / "api-out-0.log"
    wait_for(lambda: log.exists() and log.read_text(), "what it says")
    assert log.read_text() == f"connected from {local}\n"
    assert listens_on(supervisor) == [f"[::]:{supervisor.port}"]


PATHS = {
    "node": """
const fs = require('fs'), path = process.env.SOCKET;
try { fs.unlinkSync(path); } catch {}
const server = require('http').createServer((_, answer) => answer.end('{}'));
server.listen(path, () => fs.chmodSync(path, 0o660));
process.on('SIGINT', () => server.close(() => process.exit()));  // which removes the path
""",
    "python": """
import os, signal, socket, socketserver
path = os.environ["SOCKET"]
if os.path.exists(path):
    os.unlink(path)
class Answer(socketserver.StreamRequestHandler):
    def handle(self):
        self.rfile.readline()
        self.wfile.write(b"HTTP/1.0 200 OK\\r\\n\\r\\n{}")
os.umask(0o117)
server = socketserver.UnixStreamServer(path, Answer)
signal.signal(signal.SIGINT, lambda *_: (os.unlink(path), os._exit(0)))
server.serve_forever()
""",
}


def is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return client.recv(100).startswith(b"HTTP/1")
        except OSError:
            return False


@pytest.fixture
def folder() -> Iterator[Path]:
    """Which every user may pass, and change."""
    with tempfile.TemporaryDirectory(prefix="percore-test-", dir="/var/tmp") as made:
        Path(made).chmod(0o755)
        inner = Path(made) / "sockets"
        inner.mkdir()
        inner.chmod(0o777)
        yield inner


@pytest.mark.parametrize("language", PATHS)
def test_a_path_leads_to_its_socket_whoever_removes_it(supervisor: Supervisor, folder: Path, language: str) -> None:
    user = "nobody" if os.geteuid() == 0 else None
    path = folder / "app.sock"
    make = node if language == "node" else python
    app = make(supervisor, PATHS[language], user=user, cwd=str(folder), env={"PORT": "", "SOCKET": str(path)})
    shutil.move(supervisor.folder / app["script"], folder.parent)
    supervisor.apply(
        {**app, "script": f"../{app['script']}", "interpreter": shutil.which(language + "3", path="/usr/bin") or "node"}
    )
    for verb in ("reload", "restart", "scale"):
        supervisor.run(verb, "api", *(["1"] if verb == "scale" else []))
        assert is_answered(path), verb
        assert (path.stat().st_mode & 0o777, path.owner()) == (0o660, user or path.parent.owner())
    path.unlink()
    wait_for(lambda: is_answered(path), "the path to be there again", seconds=5)
    supervisor.kill_daemon()
    path.unlink()
    supervisor.run("ping")
    wait_for(lambda: is_answered(path), "the next supervisor to put it back", seconds=5)
    supervisor.run("stop", "api")
    assert list(folder.iterdir()) == []


def processes_of(supervisor: Supervisor) -> list[str]:
    mark = f"PERCORE_HOME={supervisor.home}".encode()
    daemon = supervisor.log().rpartition("supervisor ready (pid ")[2].partition(")")[0]
    pids = (path.name for path in Path("/proc").glob("[0-9]*") if path.name != daemon)
    return [pid for pid in pids if mark in environment_of(int(pid)) and b"program.js" in command_line_of(int(pid))]


SLOW = """
setTimeout(() => require('http').createServer((_, answer) => answer.end('{}')).listen(process.env.PORT), 500);
global.kept = Buffer.alloc(80 << 20, 1);
"""


@pytest.mark.parametrize("verb", ["stop", "delete", "kill"])
def test_whatever_is_queued_for_an_app_it_ends(supervisor: Supervisor, verb: str) -> None:
    supervisor.apply(node(supervisor, SLOW, instances=3, max_memory_restart=60 << 20))
    wait_for(lambda: supervisor.log().count("is over its limit") == 3, "all of them to be over their limit")
    supervisor.run(verb, *(["api"] if verb != "kill" else []))
    log = supervisor.log()
    assert is_refused(supervisor.port)
    assert processes_of(supervisor) == []
    if verb != "kill":
        supervisor.run("jobs")  # the supervisor went on
        supervisor.run("ping")
        assert supervisor.log() == log, "nothing was started afterwards"
