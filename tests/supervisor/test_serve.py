"""`percore serve`: static files from a clustered app."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from percore.errors import UsageError
from percore.supervisor import static_server
from percore.supervisor.config.process_file import load_process_file
from tests.supervisor.conftest import Load, Supervisor
from tests.waiting import free_port, wait_for


class Answer:
    def __init__(self, port: int, path: str, method: str = "GET", **headers: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        self.status, self.body, self.headers = response.status, response.read(), response.headers
        connection.close()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    (folder / "sub").mkdir(parents=True)
    (folder / "index.html").write_text("home")
    (folder / "sub" / "a b<.txt").write_text("0123456789")
    (folder / "sub" / ".secret").write_text("hidden")
    (folder / ".env").write_text("hidden")
    (tmp_path / "outside").write_text("outside")
    (folder / "out").symlink_to(tmp_path / "outside")
    (folder / "in").symlink_to(folder / "sub" / "a b<.txt")
    (folder / "to-hidden").symlink_to(folder / ".env")
    os.mkfifo(folder / "pipe")
    return folder


def test_files_are_served_as_browsers_expect_and_nothing_else_is(supervisor: Supervisor, site: Path) -> None:
    port = free_port()
    supervisor.run("serve", str(site), str(port), "--name", "site")
    home = Answer(port, "/")
    assert (home.status, home.body, home.headers["Content-Type"]) == (200, b"home", "text/html; charset=utf-8")
    text = Answer(port, "/sub/a%20b%3C.txt?x=1")
    assert (text.status, text.body, text.headers["Content-Length"]) == (200, b"0123456789", "10")
    head = Answer(port, "/in", "HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "10")
    # what is known already
    assert Answer(port, "/in", If_None_Match=text.headers["ETag"]).status == 304
    assert Answer(port, "/in", If_None_Match='"other"').status == 200
    assert Answer(port, "/in", If_Modified_Since=text.headers["Last-Modified"]).status == 304
    assert Answer(port, "/in", If_Modified_Since="nonsense").status == 200
    # parts
    for wanted, status, body in (
        ("bytes=2-4", 206, b"234"), ("bytes=7-", 206, b"789"), ("bytes=-3", 206, b"789"), ("bytes=0-99", 206, b"0123456789"),
        ("bytes=20-30", 416, b""), ("bytes=4-2", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"), ("bytes=-", 200, b"0123456789"),
    ):  # fmt: skip
        part = Answer(port, "/in", Range=wanted)
        assert (part.status, part.body) == (status, body), wanted
    assert Answer(port, "/in", Range="bytes=2-4").headers["Content-Range"] == "bytes 2-4/10"
    assert Answer(port, "/in", Range="bytes=2-4", If_Range='"old"').status == 200
    # folders, without a way to another host
    assert Answer(port, "/sub").headers["Location"] == "/sub/"
    assert Answer(port, "//sub").headers["Location"] == "/sub/"
    assert Answer(port, "/sub/").status == 404
    # what must not be seen
    for path in ("/.env", "/sub/.secret", "/../outside", "/%2e%2e/outside", "/sub/..%2f..%2foutside", "/out", "/to-hidden",
                 "/nothing", "/%00", "/pipe", "/in/x", "/" + "a" * 5000):  # fmt: skip
        answer = Answer(port, path)
        assert answer.status == 404, path
        assert b"outside" not in answer.body
    assert Answer(port, "/", "POST").status == 501
    (site / "404.html").write_text("own page")
    missing = Answer(port, "/nothing")
    assert (missing.status, missing.body) == (404, b"own page")


def test_listing_single_page_and_password(supervisor: Supervisor, site: Path) -> None:
    ports = [free_port(), free_port()]
    supervisor.run("serve", str(site), "--port", str(ports[0]), "--ftp", "--spa")
    listed = Answer(ports[0], "/sub/").body.decode()
    assert '<a href="./a%20b%3C.txt">a b&lt;.txt</a>' in listed
    assert "secret" not in listed
    assert Answer(ports[0], "/some/route").body == b"home"
    assert Answer(ports[0], "/missing.js").status == 404
    supervisor.run(
        "serve", str(site), str(ports[1]), "--basic-auth-username", "me", "--basic-auth-password", "very-secret-word"
    )
    refused = Answer(ports[1], "/")
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="files"')
    for given in ("me:wrong", "me:very-secret-word2"):
        assert Answer(ports[1], "/", Authorization=f"Basic {base64.b64encode(given.encode()).decode()}").status == 401
    assert Answer(ports[1], "/", Authorization="Basic ???").status == 401
    right = base64.b64encode(b"me:very-secret-word").decode()
    assert Answer(ports[1], "/", Authorization=f"Basic {right}").body == b"home"
    for pid in supervisor.pids(f"static-page-server-{ports[1]}"):
        assert b"very-secret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert "very-secret" not in supervisor.run("describe", "all").stdout
    half = supervisor.run("serve", str(site), "--basic-auth-username", "me", check=False)
    assert half.returncode == 2


def test_a_reload_under_load_loses_nothing(supervisor: Supervisor, site: Path) -> None:
    supervisor.run("serve", str(site), str(supervisor.port), "--name", "site", "-i", "2")
    with Load(supervisor.port) as load:
        supervisor.run("reload", "site")
    assert load.failures == []
    assert set(load.counts) == {"ok"}


def test_a_request_that_has_a_body_does_not_hide_another_one_in_it(supervisor: Supervisor, site: Path) -> None:
    supervisor.run("serve", str(site), str(supervisor.port))
    with socket.create_connection(("127.0.0.1", supervisor.port), timeout=10) as client:
        inner = b"GET /in HTTP/1.1\r\nHost: x\r\n\r\n"
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(inner) + inner)
        received = b""
        while part := client.recv(65536):
            received += part
    assert received.count(b"HTTP/1.1") == 1


def test_script_serve_and_static_in_a_process_file(supervisor: Supervisor, site: Path) -> None:
    ports = [free_port(), free_port()]
    file = supervisor.folder / "ecosystem.json"
    file.write_text(json.dumps({
        "apps": [{"name": "one", "script": "serve", "env": {"PM2_SERVE_PATH": "site", "PM2_SERVE_PORT": ports[0]}}],
        "static": [{"path": "./site/sub", "port": ports[1], "directory": True, "spa": "false"}],
    }))  # fmt: skip
    supervisor.run("start", str(file))
    assert Answer(ports[0], "/").body == b"home"
    assert b"a b" in Answer(ports[1], "/").body
    assert {worker["state"] for worker in supervisor.workers(f"static-page-server-{ports[1]}")} == {"running"}


def test_static_entries_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "apps.json"
    written: Any = {"static": [{"path": ".", "prot": 80}]}
    file.write_text(json.dumps(written))
    loaded = load_process_file(str(file))
    assert [app.name for app in loaded.apps] == ["static-page-server-8080"]
    assert "did you mean 'port'?" in loaded.warnings[0]
    file.write_text(json.dumps({"static": ["public"]}))
    with pytest.raises(UsageError, match="must be a mapping"):
        load_process_file(str(file))


@contextlib.contextmanager
def file_server(site: Path, most_files: int = 1024) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port = free_port()
    process = subprocess.Popen(
        ["prlimit", f"--nofile={most_files}", sys.executable, "-I", static_server.__file__],
        env={"PM2_SERVE_PATH": str(site), "PM2_SERVE_PORT": str(port)},
    )
    try:
        wait_for(lambda: accepts(port), "the server")
        yield port, process
    finally:
        process.kill()
        process.wait()


def accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_clients_that_never_end_their_request_leave_room_for_others(site: Path) -> None:
    with file_server(site, most_files=128) as (port, process), contextlib.ExitStack() as stack:
        slow = []
        for _ in range(300):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            client.sendall(b"GET / HTTP/1.1\r\n")
            slow.append(client)
        for _ in range(20):
            assert Answer(port, "/").body == b"home"
        assert len(os.listdir(f"/proc/{process.pid}/task")) < 64
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        assert int(fields[11]) + int(fields[12]) < 300, "it was busy for three seconds"


def test_a_head_that_comes_drop_by_drop_has_ten_seconds(site: Path) -> None:
    with file_server(site) as (port, _), socket.create_connection(("127.0.0.1", port)) as client:
        began = time.monotonic()
        client.sendall(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            while not select.select([client], [], [], 1)[0]:
                client.sendall(b"x: y\r\n")
            assert client.recv(100) == b""
        assert 5 < time.monotonic() - began < 15


def test_a_client_that_takes_its_answer_drop_by_drop_is_left(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "large").write_bytes(bytes(64 << 20))
    monkeypatch.setattr(static_server, "_STALLED_SECONDS", 1.0)
    server = static_server.FileServer(static_server.Settings(str(site), "127.0.0.1", free_port()))
    stop, end = os.pipe()
    thread = threading.Thread(target=server.serve, args=(stop,))
    thread.start()
    with socket.create_connection(server.server_address[:2]) as client:  # type: ignore[arg-type]
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: client.recv(4096) and not server._clients, "it to be left", seconds=60)
    assert Answer(server.server_address[1], "/large", Range="bytes=0-2097151").body == bytes(2 << 20)
    os.close(end)
    thread.join()
    os.close(stop)


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"), (b"GET / HTTP/9.9\r\n\r\n", b"505"), (b"GET / HTTP/x\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n", b"414"), (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\na: " + b"b" * 70000 + b"\r\n\r\n", b"431"), (b"BREW / HTTP/1.1\r\n\r\n", b"501"),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"200"), (b"HEAD /nothing HTTP/1.0\r\n\r\n", b"404"),
        (b"GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", b"100"), (b"\xff\xfe / \x00\r\n\r\n", b"400"),
    ],
)  # fmt: skip
def test_odd_requests_are_answered(
    site: Path, request_text: bytes, status: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with file_server(site) as (port, _), socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request_text)
        text = b""
        while status not in text and (part := client.recv(65536)):
            text += part
        assert status in text
    assert "Error" not in capfd.readouterr().err
