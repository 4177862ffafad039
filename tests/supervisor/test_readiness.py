"""Ready is a worker that serves itself: what others on its port answer proves nothing."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.supervisor.conftest import Supervisor
from tests.waiting import wait_for

# Begins to listen once there is a file called `go`.
LATE = """
import os, socket, time
while not os.path.exists("go"):
    time.sleep(0.02)
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind(("127.0.0.1", int(os.environ["PORT"])))
sock.listen()
while True:
    sock.accept()[0].close()
"""
# Leaves its launcher's tree before it listens.
ESCAPED = (
    "import os\nif os.fork():\n    time_to_stay = __import__('time').sleep(1000)\nif os.fork():\n    os._exit(0)\n"
    + LATE
)


def fork_app(supervisor: Supervisor, program: str = LATE, **fields: Any) -> dict[str, Any]:
    (supervisor.folder / "late.py").write_text(program)
    return supervisor.singleton(
        script="late.py", args=[], interpreter=sys.executable, port=supervisor.port, min_uptime=0, **fields
    )


@contextmanager
def stranger_on(port: int) -> Iterator[None]:
    """A web server that says yes to everything."""

    class Yes(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Yes)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_stranger_on_its_port_does_not_make_a_worker_ready_and_is_named(supervisor: Supervisor) -> None:
    for number, fields in enumerate(({}, {"health": "/"})):
        app = fork_app(supervisor, listen_timeout=1.0, **fields)
        with stranger_on(supervisor.port):
            result = supervisor.apply(app, release=f"r{number}", check=False)
        assert result["exit_code"] == 4
        assert f"(port {supervisor.port} is in use by " in result["error"]
        assert f"(pid {os.getpid()})" in result["error"]


def test_a_worker_is_ready_once_it_has_the_port_that_a_stranger_gave_up(supervisor: Supervisor) -> None:
    with stranger_on(supervisor.port):
        starting = threading.Thread(target=supervisor.apply, args=[fork_app(supervisor)])
        starting.start()
        wait_for(lambda: supervisor.home.exists() and supervisor.workers("tick"), "its start")
    (supervisor.folder / "go").touch()
    starting.join()
    assert supervisor.workers("tick")[0]["state"] == "running"


def test_a_worker_whose_listening_process_left_its_tree_is_ready(supervisor: Supervisor) -> None:
    (supervisor.folder / "go").touch()
    supervisor.apply(fork_app(supervisor, ESCAPED))
    assert supervisor.workers("tick")[0]["state"] == "running"


ENCRYPTED = """
const fs = require('fs');
const keys = { key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem') };
const answer = (request, response) => {
  const name = request.headers.host || request.headers[':authority'];
  response.writeHead(request.url === '/health' && name === 'shop.example.com' ? 204 : 421).end();
};
const make = { https: () => require('https').createServer(keys, answer), h2c: () => require('http2').createServer(answer),
  h2: () => require('http2').createSecureServer(keys, answer) };
make[process.env.KIND]().listen(process.env.PORT);
"""


@pytest.mark.parametrize(("kind", "protocol"), [("https", "https"), ("h2", "https"), ("h2c", "h2c")])
def test_health_is_asked_over_tls_and_over_http_2_by_the_name_of_the_site(
    supervisor: Supervisor, kind: str, protocol: str
) -> None:
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=shop.example.com -keyout key.pem -out cert.pem"
    subprocess.run(["openssl", *words.split()], cwd=supervisor.folder, check=True, capture_output=True)
    (supervisor.folder / "encrypted.js").write_text(ENCRYPTED)
    app = supervisor.api(script="encrypted.js", env={"KIND": kind}, health=f"{protocol}://shop.example.com/health")
    supervisor.apply(app)
    assert [worker["state"] for worker in supervisor.workers("api")] == ["running", "running"]
    wrong = app | {"health": f"{protocol}://other.example.com/health", "listen_timeout": 1.5}
    result = supervisor.apply(wrong, release="r2", check=False)
    assert f"GET {protocol}://other.example.com/health answered 421" in result["error"]
