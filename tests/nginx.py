"""A real NGINX on this machine, which serves a site as the template writes it, and the app behind it."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from percore.deploy.plan.host_plan import make_plan
from percore.deploy.plan.host_state import HostState
from tests.unit.deploy.planned import render_state
from tests.waiting import free_port, wait_for

PROJECT = Path(__file__).resolve().parent.parent
needs_nginx = pytest.mark.skipif(not shutil.which("nginx"), reason="NGINX is not installed here")
NGINX = shutil.which("nginx") or "nginx"
_CONFIG = """\
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log {level};
worker_processes {workers};
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{servers}
}}
"""


def write_config(folder: Path, servers: str, *, workers: int = 2, connections: int = 512, level: str = "info") -> Path:
    """What an NGINX needs that keeps everything in one directory, around its servers. `connections` of each worker."""
    user = "user root;" if Path("/proc/self").stat().st_uid == 0 else ""
    path = folder / "nginx.conf"
    path.write_text(
        _CONFIG.format(folder=folder, user=user, servers=servers, workers=workers, connections=connections, level=level)
    )
    return path


def installed_version() -> str:
    said = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True).stderr
    return said.strip().rpartition("/")[2].split()[0]


def render_site(folder: Path, **variables: Any) -> HostState:
    """The state of a host with the app `shop`, for the NGINX that is installed here."""
    made = make_plan(
        "web1",
        {
            "app_name": "shop", "app_path": "examples/boltlink", "deploy_to": f"{folder}/shop", "nginx_ipv6": False,
            "server_name": "shop.example.com", **variables,
        },
        env="test", project=PROJECT,
    )  # fmt: skip
    facts = {"cores": 4, "nginx_version": installed_version() if shutil.which("nginx") else "1.22.1"}
    known = {"facts": facts, "python_path": "/usr/bin/python3", "package_id": "abc123"}
    return render_state(made, known=known)


def text_of(state: HostState) -> str:
    site = next(spec for spec in state.after if spec["kind"] == "site")
    return state.files[site["sha256"]].decode()


class App(BaseHTTPRequestHandler):
    """Tells what it was asked; `/slow` is slow, `/STATUS` answers with that. `/upgrade` echoes whatever comes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path))  # type: ignore[attr-defined]
        if self.path.startswith("/slow"):
            time.sleep(float(self.path.rpartition("/")[2]))
        if self.path == "/upgrade":
            self._echo()
            return
        status = int(self.path[1:]) if self.path[1:].isdecimal() else 200
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps({"port": self.server.server_port, "path": self.path, "headers": headers}).encode()  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def _echo(self) -> None:
        self.send_response(101)
        self.send_header("Upgrade", self.headers["Upgrade"])
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        self.wfile.flush()
        while part := self.connection.recv(100):
            self.connection.sendall(part)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def running_apps(count: int = 1, handler: type[BaseHTTPRequestHandler] = App) -> Iterator[list[ThreadingHTTPServer]]:
    """On ports that follow each other."""
    servers: list[ThreadingHTTPServer] = []
    while len(servers) < count:
        _end(servers)
        first = free_port()
        servers = []
        with contextlib.suppress(OSError):
            for number in range(count):
                servers.append(ThreadingHTTPServer(("127.0.0.1", first + number), handler))
    for server in servers:
        server.asked = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield servers
    finally:
        for server in servers:
            server.shutdown()
        _end(servers)


def _end(servers: list[ThreadingHTTPServer]) -> None:
    for server in servers:
        server.server_close()


class Nginx:
    """Serves what lies in `sites-enabled` of its directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "sites-enabled").mkdir(parents=True)
        write_config(folder, f"    include {folder}/sites-enabled/*;")
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, text: str, name: str = "shop") -> None:
        (self.folder / "sites-enabled" / name).write_text(text)

    def words(self, *words: str) -> list[str]:
        return [NGINX, *words, "-c", str(self.folder / "nginx.conf"), "-e", str(self.folder / "error.log")]

    def judge(self) -> str:
        """What `nginx -t` says of it; fails unless it takes it."""
        done = subprocess.run(self.words("-t"), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def start(self, port: int) -> None:
        self.judge()
        self.process = subprocess.Popen(self.words(), stderr=subprocess.DEVNULL)
        wait_for(lambda: is_open(port), f"NGINX on port {port}")

    def reload(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(20)


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        connection.connect()
        connection.close()
        return True
    return False


@contextlib.contextmanager
def serving(folder: Path, **variables: Any) -> Iterator[tuple[Nginx, int]]:
    """A site on a port of its own."""
    port = free_port()
    made = Nginx(folder / "nginx")
    made.write(text_of(render_site(folder, nginx_port=port, **variables)))
    try:
        made.start(port)
        yield made, port
    finally:
        made.stop()


class Reply:
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def seen(self) -> dict[str, str]:
        """The headers as the app saw them."""
        headers: dict[str, str] = json.loads(self.body)["headers"]
        return headers

    @property
    def worker(self) -> int:
        return int(json.loads(self.body)["port"])


def ask(
    port: int, path: str = "/", *, method: str = "GET", headers: Mapping[str, str] | None = None, tls: bool = False,
    source: str = "127.0.0.1", body: bytes | None = None,
) -> Reply:  # fmt: skip
    """One request, from an address of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(source, 0))
    try:
        connection.connect()
        if tls:
            connection.sock = unverified().wrap_socket(connection.sock, server_hostname="shop.example.com")
        connection.request(method, path, body=body, headers={"Host": "shop.example.com", **(headers or {})})
        reply = connection.getresponse()
        return Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
    finally:
        connection.close()


def unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def make_pair(
    *, begins_in_days: float = -1, ends_in_days: float = 90, name: str = "shop.example.com"
) -> tuple[str, str]:
    """A certificate that signs itself, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=begins_in_days))
        .not_valid_after(now + datetime.timedelta(days=ends_in_days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), pem.decode()
