"""An image of `invoke image`, read by other people's tools and run as a cluster runs it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from percore.deploy.image.make import make_images
from percore.deploy.image.write import ImageWish
from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from tests.nginx import NGINX, needs_nginx
from tests.pods import Pod, needs_containers, unpack
from tests.waiting import free_port, wait_for

pytestmark = needs_containers

MB = 1 << 20
PRE_STOP_SECONDS = 1.0
"""How long a pod goes on serving when it is told to end; those who send requests need it to hear of that."""

SERVER = """
const http = require('http');
const fs = require('fs');
const kept = [];
const healthy = process.env.BROKEN !== 'yes';
const server = http.createServer((request, response) => {
  if (request.url === '/leak') kept.push(Buffer.alloc(4 << 20, 1));
  const { NODE_APP_INSTANCE: slot, PERCORE_RELEASE: release, GREETING: greeting } = process.env;
  const answer = () => response.end(JSON.stringify({ pid: process.pid, slot, release, greeting }));
  response.statusCode = request.url === '/health' && !healthy ? 503 : 200;
  setTimeout(answer, request.url === '/slow' ? 800 : 0);
});
server.listen(process.env.PORT);
process.on('SIGINT', () => { server.close(() => process.exit(0)); server.closeIdleConnections(); });
"""
SINGLE = """
console.log('single is up, uid ' + process.getuid());
for (const place of ['/app/x', '/etc/x', '/run/percore/x', '/tmp/x']) {
  try { require('fs').writeFileSync(place, ''); console.log('can write ' + place); }
  catch (error) { console.log('cannot write ' + place + ': ' + error.code); }
}
setInterval(() => {}, 1000);
process.on('SIGINT', () => process.exit(0));
"""
PROCESS_FILE = """
module.exports = { apps: [
  { name: 'api', script: 'server.js', instances: 'max', exec_mode: 'cluster', max_memory_restart: '110M',
    kill_timeout: 8000, env: { PORT: 1, GREETING: 'file' }, env_production: { GREETING: 'production' } },
  { name: 'single', script: 'single.js' },
] };
"""
INVENTORY = {
    "all": {
        "hosts": {"web1": {"ansible_host": "10.0.0.1"}},
        "vars": {
            "app_name": "shop", "app_path": "app", "port": 5000, "health_path": "/health",
            "env": {"API_KEY": "a secret of the inventory"}, "secrets": ["API_KEY"],
        },
    }
}  # fmt: skip


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("project")
    (project / "inventories").mkdir()
    (project / "inventories/production.json").write_text(json.dumps(INVENTORY))
    (project / "inventories/production.json").rename(project / "inventories/production.yml")
    app = project / "app"
    app.mkdir()
    for name, text in (("server.js", SERVER), ("single.js", SINGLE), ("ecosystem.config.js", PROCESS_FILE)):
        (app / name).write_text(text)
    (app / ".env.production").write_text("TOKEN=a secret of the env file\n")
    make_images(Scope("production", project), Report(quiet=True), ImageWish(), json=False)
    return project / "build/image/production/shop.tar"


@pytest.fixture(scope="module")
def bundle(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(archive, tmp_path_factory.mktemp("image"))


Start = Callable[..., Pod]


@pytest.fixture
def start(bundle: Path, tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as started:

        def begin(*arguments: str, cpus: float = 1.5, memory: int = 500 * MB, **env: str) -> Pod:
            pod = Pod(bundle, tmp_path, *arguments, port=free_port(), cpus=cpus, memory=memory, **env)
            started.callback(pod.remove)
            return pod

        yield begin


def ask(port: int, path: str = "/", seconds: float = 10) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def is_ready(pod: Pod) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return ask(pod.port, "/health", 2)[0] == 200
    return False


def wait_until_ready(pod: Pod) -> None:
    try:
        wait_for(lambda: is_ready(pod), "the container to be ready", 60)
    except AssertionError as error:
        raise AssertionError(f"{error}: {pod.log.read_text()}") from None


def test_other_peoples_tools_read_it_and_no_secret_is_in_it(archive: Path, bundle: Path) -> None:
    """That umoci unpacked it says that digests, sizes and media types are right."""
    said = subprocess.run(["skopeo", "inspect", "--config", f"oci-archive:{archive}"], capture_output=True, check=True)
    config = json.loads(said.stdout)["config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["percore", "runtime", "ecosystem.config.js", "--env", "production"]
    assert (config["WorkingDir"], config["StopSignal"], list(config["ExposedPorts"])) == (
        "/app",
        "SIGTERM",
        ["5000/tcp"],
    )
    docker = subprocess.run(["skopeo", "inspect", f"docker-archive:{archive}"], capture_output=True, check=False)
    assert docker.returncode == 0, docker.stderr
    found = subprocess.run(
        ["grep", "-rlE", "secret of the (inventory|env file)", bundle], capture_output=True, text=True
    )
    assert found.stdout == ""
    assert not list((bundle / "rootfs/app").glob(".env*"))
    assert (bundle / "rootfs/app/server.js").stat().st_mtime != (bundle / "rootfs/app/single.js").stat().st_mtime


def test_it_serves_with_a_read_only_root_and_no_rights_on_as_many_workers_as_its_cpu_limit_says(start: Start) -> None:
    pods = {count: start(cpus=cpus) for cpus, count in ((1.0, 1), (1.5, 2))}
    for count, pod in pods.items():
        wait_until_ready(pod)
        assert len(pod.workers("api")) == min(count, len(os.sched_getaffinity(0)))
    pod = pods[2]
    status = Path(f"/proc/{pod.init}/status").read_text()
    assert "\nCapEff:\t0000000000000000" in status
    assert "\nCapBnd:\t0000000000000000" in status
    assert "\nNoNewPrivs:\t1" in status
    assert b"percore.supervisor.container" in Path(f"/proc/{pod.init}/cmdline").read_bytes()
    answer = ask(pod.port)[1]
    assert answer["greeting"] == "production"
    assert answer["release"].startswith("19700101000000-")
    wait_for(lambda: "/tmp/x" in pod.log.read_text(), "the single app")
    log = pod.log.read_text()
    assert log.count("single is up, uid 10001") == 1
    assert [line for line in log.splitlines() if "write" in line] == [
        "cannot write /app/x: EROFS", "cannot write /etc/x: EROFS", "can write /run/percore/x", "can write /tmp/x",
    ]  # fmt: skip
    assert {worker["pm2_env"]["username"] for worker in pod.workers("api")} == {"app"}
    assert json.loads(pod.exec("percore", "doctor", "--json"))["facts"]["memory_limit_bytes"] == 500 * MB


def test_sigterm_lets_each_request_end_within_the_grace_period(start: Start) -> None:
    pod = start("--only", "api")
    wait_until_ready(pod)
    answers: list[int] = []
    clients = [threading.Thread(target=lambda: answers.append(ask(pod.port, "/slow")[0])) for _ in range(20)]
    for client in clients:
        client.start()
    time.sleep(0.3)  # they are with the workers by then; the answers take longer
    pod.terminate()
    assert pod.end(10) == 0
    for client in clients:
        client.join()
    assert answers == [200] * 20


def test_a_worker_over_its_limit_is_replaced_before_the_kernel_ends_one(start: Start) -> None:
    pod = start("--only", "api", cpus=1.0, memory=400 * MB)
    wait_until_ready(pod)
    first = ask(pod.port)[1]["pid"]

    def other() -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return bool(ask(pod.port, "/leak")[1]["pid"] != first)
        return False

    wait_for(other, "another worker", 60, interval=0.1)
    assert "over its limit of 110 MB" in pod.log.read_text()
    assert pod.kills_for_memory() == 0


# -- a rolling update ------------------------------------------------------------------------------------------------


class Endpoints:
    """NGINX in front of the pods that are ready, as whoever watches them tells it: a moment later."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder, self._pods = free_port(), folder, list[Pod]()

    def set(self, pods: list[Pod]) -> None:
        self._pods = pods
        servers = "".join(f"server 127.0.0.1:{pod.port};" for pod in pods)
        (self._folder / "nginx.conf").write_text(
            f"daemon off; pid {self._folder}/pid; error_log {self._folder}/error.log; events {{}}\n"
            f"http {{ access_log off; upstream app {{ {servers} keepalive 8; }}\n"
            f"server {{ listen {self.port}; location / {{ proxy_pass http://app; proxy_http_version 1.1;"
            ' proxy_set_header Connection ""; } } }\n'
        )

    def add(self, pod: Pod) -> None:
        self.set([*self._pods, pod])
        self.reload()

    def without(self, pod: Pod) -> None:
        self.set([each for each in self._pods if each is not pod])

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        words = [NGINX, "-c", str(self._folder / "nginx.conf"), "-p", str(self._folder)]
        self._nginx = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: (self._folder / "pid").exists(), "NGINX")
            yield
        finally:
            self._nginx.terminate()
            self._nginx.wait(timeout=20)

    def reload(self) -> None:
        self._nginx.send_signal(signal.SIGHUP)


@contextlib.contextmanager
def load(port: int) -> Iterator[dict[str, Any]]:
    """Connections that are kept and new ones, all the time; the counts are there at the end."""
    script = Path(__file__).parents[1] / "hosts/load.py"
    words = [sys.executable, str(script), "--reconnect", *[f"http://127.0.0.1:{port}/"] * 4]
    counts: dict[str, Any] = {}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as clients:
        assert clients.stdout
        assert clients.stdout.readline() == "running\n"
        try:
            yield counts
        finally:
            clients.terminate()
            counts.update(json.loads(clients.stdout.read() or "{}"))


def leave(pod: Pod, endpoints: Endpoints) -> None:
    """A pod that is deleted is taken out, and told to end, at the same time; `preStop` is there for who hears of it late."""
    endpoints.without(pod)
    threading.Timer(PRE_STOP_SECONDS / 2, endpoints.reload).start()
    time.sleep(PRE_STOP_SECONDS)
    pod.terminate()
    assert pod.end(30) == 0


@needs_nginx
def test_pods_behind_nginx_are_replaced_one_by_one_without_losing_a_request_and_a_broken_release_replaces_none(
    start: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "nginx"
    folder.mkdir()
    endpoints, old = Endpoints(folder), [start("--only", "api") for _ in range(3)]
    for pod in old:
        wait_until_ready(pod)
    endpoints.set(old)
    with endpoints.serving(), load(endpoints.port) as counts:
        for pod in old:
            new = start("--only", "api")
            wait_until_ready(new)
            endpoints.add(new)
            leave(pod, endpoints)
        broken = start("--only", "api", BROKEN="yes")
        wait_for(lambda: "api 0: starting" in broken.log.read_text(), "its worker", 30)
        assert not is_ready(broken)
        assert ask(endpoints.port)[0] == 200
    assert counts["lost"] == counts["bad"] == 0, counts
    assert counts["ok"] > 500
