"""The files for ops, judged by NGINX, HAProxy, crossplane and gixy, and by what goes through them."""

from __future__ import annotations

import contextlib
import http.client
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import crossplane
import pytest
import yaml

from percore.deploy.report import Report
from percore.deploy.rollout.edge.hand_off import hand_over
from percore.deploy.rollout.scope import Scope
from percore.tasks import make_namespace
from tests.deploy.balanced import Backend, WebSocket, backends, vanished_port
from tests.hosts.reader import Reader, steps_of
from tests.stages import BIN, ROOT
from tests.waiting import free_port, wait_for

NGINX, HAPROXY = (
    shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") or f"apt install {name}" for name in ("nginx", "haproxy")
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "shop.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=shop.example.com -addext subjectAltName=DNS:shop.example.com"
    subprocess.run(["openssl", *words.split(), "-keyout", f"{path}.key", "-out", path], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.key").read_text())
    return path


def make(project: Path, ports: Mapping[str, int], **variables: Any) -> Path:
    """The files for hosts that are ports of this machine, as `invoke nginx` writes them."""
    (project / "inventories").mkdir(exist_ok=True)
    hosts = {name: {"ansible_host": "127.0.0.1", "nginx_port": port} for name, port in ports.items()}
    fixed = {"app_name": "shop", "app_path": ".", "server_name": "shop.example.com"}
    content = {"all": {"children": {"app": {"hosts": hosts}}, "vars": {**fixed, **variables}}}
    (project / "inventories" / "eu.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    hand_over(Scope("eu", project), Report(quiet=True))
    return project / "build" / "nginx" / "eu"


class Server:
    """An NGINX of its own, with a file that was handed over."""

    def __init__(self, directory: Path, file: Path, more: str = "") -> None:
        self.directory = directory
        self.config = directory / "nginx.conf"
        temporary = " ".join(f"{name}_temp_path tmp;" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root;" if os.geteuid() == 0 else ""
        self.config.write_text(
            f"daemon off; {user} pid {directory}/pid; error_log {directory}/error.log;\nworker_processes 2;\n"
            f"events {{}}\nhttp {{ access_log off; {temporary} include {file}; {more} }}\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [NGINX, "-p", str(self.directory), "-c", str(self.config), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    @contextlib.contextmanager
    def serving(self, port: int) -> Iterator[Server]:
        tested = self.run("-t")
        assert tested.returncode == 0, tested.stderr
        self.process = subprocess.Popen([NGINX, "-p", str(self.directory), "-c", str(self.config)])
        try:
            wait_for(lambda: can_connect(port), "nginx")
            yield self
        finally:
            self.process.send_signal(signal.SIGQUIT if self.process.poll() is None else signal.SIGTERM)
            self.process.terminate()
            self.process.wait(20)

    def reload(self) -> None:
        """Until its new workers are the only ones that take requests."""
        assert self.process is not None
        before = children(self.process.pid)
        assert self.run("-s", "reload").returncode == 0
        wait_for(lambda: len(children(self.process.pid) - before) == 2, "new workers")  # type: ignore[union-attr]
        wait_for(lambda: all(is_leaving(pid) for pid in before & children(self.process.pid)), "old workers")  # type: ignore[union-attr]


def children(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def is_leaving(pid: int) -> bool:
    try:
        return b"shutting down" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def can_connect(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def ask(port: int, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, "/", body, {"Host": f"shop.example.com:{port}", **headers})
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


HOSTS = {"web1": 8001, "web2": 8002}
KINDS: dict[str, dict[str, Any]] = {
    "http": {},
    "https": {"edge_certificate": "TLS"},
    "everything": {
        "edge_certificate": "TLS", "edge_certificate_key": "KEY", "edge_keepalive": 16, "edge_tls_port": 8443, "edge_port": 8080,
        "server_name": "_", "edge_name": "shop-eu", "edge_body_size": "1g",
    },
}  # fmt: skip


@pytest.fixture(params=KINDS)
def files(request: pytest.FixtureRequest, tmp_path: Path, certificate: Path) -> Path:
    places = {"TLS": str(certificate), "KEY": f"{certificate}.key"}
    return make(tmp_path, HOSTS, **{name: places.get(value, value) for name, value in KINDS[request.param].items()})


def test_the_judges_find_nothing_wrong(files: Path, tmp_path: Path) -> None:
    server = Server(tmp_path, files / "shop.conf")
    tested = server.run("-t")
    assert tested.returncode == 0, tested.stderr
    assert "[warn]" not in tested.stderr
    parsed = crossplane.parse(str(server.config))
    assert parsed["errors"] == []
    judged = subprocess.run(
        [BIN / "gixy", "--format", "json", str(server.config)], capture_output=True, text=True, check=False
    )
    assert (judged.returncode, json.loads(judged.stdout)) == (0, []), judged.stdout
    own = "server { listen 8081; location / { proxy_pass http://%s; } }"
    name = (files / "shop.upstream.conf").read_text().split()[1]
    alone = Server(tmp_path, files / "shop.upstream.conf", own % name).run("-t")
    assert alone.returncode == 0, alone.stderr
    (tmp_path / "haproxy.cfg").write_text("global\n    user nobody\n")
    checked = subprocess.run(
        [HAPROXY, "-c", "-f", tmp_path / "haproxy.cfg", "-f", files / "shop.haproxy.cfg"], capture_output=True, text=True
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "WARNING" not in checked.stdout + checked.stderr
    assert subprocess.run(["sha256sum", "--quiet", "--check", "SHA256SUMS"], cwd=files, check=False).returncode == 0


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[int, dict[str, Backend], Server]]:
    port = free_port()
    with backends("web1", "web2", "web3") as made:
        ports = {name: backend.port for name, backend in made.items()}
        files = make(tmp_path, ports, edge_port=port, nginx_body_size="4m")
        with Server(tmp_path, files / "shop.conf").serving(port) as server:
            yield port, made, server


def test_requests_uploads_and_websockets_reach_the_hosts_as_the_client_sent_them(
    shop: tuple[int, dict[str, Backend], Server],
) -> None:
    port, made, server = shop
    answers = [ask(port, **{"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https"}) for _ in range(9)]
    assert {text.split()[0] for _, text in answers} == set(made)
    status, text = answers[0]
    assert status == 200
    for line in (f"Host: shop.example.com:{port}", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http"):
        assert f"{line}\n" in text
    assert ask(port, "POST", b"x" * 3_000_000)[1].endswith("3000000 bytes")
    assert ask(port, "POST", b"x" * 5_000_000)[0] == 413
    live = WebSocket(port)
    assert live.says("before") == "before"
    server.reload()
    assert live.says("after a reload") == "after a reload"
    live.close()


def test_a_host_that_is_drained_by_hand_gets_nothing_new_and_keeps_its_websocket(
    shop: tuple[int, dict[str, Backend], Server], tmp_path: Path
) -> None:
    port, made, server = shop
    live = WebSocket(port)
    holder = next(name for name, backend in made.items() if "/live" in backend.asked)
    readme = (tmp_path / "build/nginx/eu/README.md").read_text().splitlines()
    at = readme.index(f"# {holder}: drain, undrain")
    for line, gets in ((readme[at + 1], False), (readme[at + 2], True)):
        *words, _ = shlex.split(line)
        subprocess.run([*words, tmp_path / "build/nginx/eu/shop.conf"], check=True)
        server.reload()
        assert (holder in {ask(port)[1].split()[0] for _ in range(12)}) is gets
        assert live.says("still here") == "still here"
    live.close()


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_no_client_waits_longer_than_the_time_to_connect_and_a_second_for_a_host_that_vanished(
    kind: str, tmp_path: Path
) -> None:
    port = free_port()
    with backends("web1", "web2") as made, vanished_port() as vanished:
        ports = {**{name: backend.port for name, backend in made.items()}, "web3": vanished}
        files = make(tmp_path, ports, edge_port=port)
        with serving(kind, tmp_path, files, port), ThreadPoolExecutor(12) as clients:
            took = list(clients.map(lambda _: timed(port), range(60)))
    assert {status for status, _ in took} == {200}
    assert max(seconds for _, seconds in took) < 3


def timed(port: int) -> tuple[int, float]:
    began = time.monotonic()
    return ask(port)[0], time.monotonic() - began


@contextlib.contextmanager
def serving(kind: str, directory: Path, files: Path, port: int) -> Iterator[None]:
    if kind == "nginx":
        with Server(directory, files / "shop.conf").serving(port):
            yield
        return
    (directory / "haproxy.cfg").write_text("global\n    maxconn 100\n")
    process = subprocess.Popen([HAPROXY, "-db", "-f", directory / "haproxy.cfg", "-f", files / "shop.haproxy.cfg"])
    try:
        wait_for(lambda: can_connect(port), "haproxy")
        yield
    finally:
        process.terminate()
        process.wait(20)


def test_a_request_that_a_host_is_slow_to_answer_is_not_sent_to_another_one(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as mute, backends("web2") as made:
        ports = {"web1": mute.getsockname()[1], "web2": made["web2"].port}
        files = make(tmp_path, ports, edge_port=port, edge_read_seconds=1)
        with Server(tmp_path, files / "shop.conf").serving(port):
            found = sorted(ask(port)[0] for _ in range(2))
    assert found == [200, 504]
    assert len(made["web2"].asked) == 1


PAGE = (ROOT / "docs" / "how-to" / "load-balancer.md").read_text()


def test_the_page_s_commands_do_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "inventories").mkdir()
    (tmp_path / "tasks.py").write_text(
        "from percore.tasks import make_namespace\nnamespace = make_namespace(__file__)\n"
    )
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    with Reader(tmp_path, env, {}) as reader:
        reader.follow(steps_of(PAGE, "Files for your own load balancer"))


def test_the_page_names_every_variable_and_its_commands_exist() -> None:
    defaults = yaml.safe_load((ROOT / "roles" / "app" / "role.yml").read_text())["defaults"]
    assert {name for name in defaults if name.startswith("edge_")} == set(re.findall(r"`(edge_\w+)`", PAGE))
    tasks = make_namespace(str(ROOT / "tasks.py")).tasks
    for line in re.findall(r"^(?:\$ )?invoke (.+)$", PAGE, re.MULTILINE):
        name, *words = shlex.split(line)
        known = set(inspect.signature(tasks[name].body).parameters)
        assert {word[2:] for word in words if word.startswith("--")} <= known


def test_the_steps_of_the_readme_take_it_over_and_go_back(tmp_path: Path) -> None:
    port = free_port()
    with backends("web1") as made:
        files = make(tmp_path, {"web1": made["web1"].port}, edge_port=port)
        parts = (files / "README.md").read_text().split("### ")
        take_over, back = (re.search(r"```sh\n(.*?)```", part, re.DOTALL)[1] for part in parts[1:3])  # type: ignore[index]
        conf = tmp_path / "shop.conf"
        conf.write_text(f"server {{ listen {port}; return 204; }}\n")
        server = Server(tmp_path, conf)
        nginx = shlex.join([NGINX, "-p", str(tmp_path), "-c", str(server.config)])

        def follow(text: str) -> None:
            lines = text.replace("/etc/nginx/conf.d/shop.conf", str(conf)).replace("\nnginx ", f"\n{nginx} ")
            subprocess.run(["sh", "-exc", lines], cwd=files, check=True, capture_output=True)

        with server.serving(port):
            assert ask(port)[0] == 204
            follow(take_over)
            wait_for(lambda: ask(port)[1].startswith("web1"), "the file that was handed over")
            follow(back)
            wait_for(lambda: ask(port)[0] == 204, "the way back")
