"""`percore web` beside a real supervisor: a real Prometheus counts what clients sent, whatever becomes of the workers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.conftest import Load, Supervisor
from tests.waiting import free_port, wait_for

TOOL = shutil.which("promtool") or "promtool"
SHOP = """
import http.server, os
from prometheus_client import Counter, Histogram, generate_latest

requests = Counter("shop_requests", "Requests", ["path"])
seconds = Histogram("shop_seconds", "Time", buckets=[0.1, 1])

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/metrics":
            body = generate_latest()
        else:
            requests.labels(self.path).inc()
            seconds.observe(0.05)
            body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={"Connection": "close"})
    with contextlib.closing(connection), connection.getresponse() as response:
        return response.status, response.read().decode()


@pytest.fixture
def web(supervisor: Supervisor) -> Iterator[int]:
    """The port of a `percore web` that looks after workers only when it is asked, or told that one ends."""
    with started_web(supervisor) as (port, _):
        yield port


@contextlib.contextmanager
def started_web(supervisor: Supervisor) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port = free_port()
    words = [sys.executable, "-m", "percore.supervisor.cli", "web", "--port", str(port), "--scrape-interval", "0"]
    process = subprocess.Popen(words, env={**os.environ, "PERCORE_HOME": str(supervisor.home)}, cwd=supervisor.folder)

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return get(port, "/health")[0] in (200, 503)
        return False

    try:
        wait_for(answers, "percore web")
        yield port, process
    finally:
        process.terminate()
        assert process.wait(10) in (0, -signal.SIGKILL)


@contextlib.contextmanager
def prometheus(folder: Path, target: int, path: str) -> Iterator[int]:
    """A real one that scrapes each second; its port."""
    port = free_port()
    job = {"job_name": "percore", "metrics_path": path, "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
    settings = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [job]}
    (folder / "prometheus.yml").write_text(json.dumps(settings))  # JSON is YAML as well
    words = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]  # fmt: skip
    process = subprocess.Popen(words)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(20)


def query(port: int, text: str) -> float | None:
    with contextlib.suppress(OSError):
        status, answer = get(port, f"/api/v1/query?query={urllib.parse.quote(text)}")
        if status == 200:
            found: list[Any] = json.loads(answer)["data"]["result"]
            return float(found[0]["value"][1]) if found else None
    return None


def start_shop(supervisor: Supervisor, **fields: Any) -> None:
    (supervisor.folder / "shop.py").write_text(SHOP)
    app = {"name": "shop", "script": "shop.py", "interpreter": sys.executable, "app_metrics": "/metrics", **fields}
    supervisor.apply(supervisor.api(**app))


@pytest.mark.skipif(not shutil.which("prometheus"), reason="Prometheus is not installed here")
def test_a_real_prometheus_counts_each_request_once_across_three_reloads_and_a_crash(
    supervisor: Supervisor, web: int, tmp_path: Path
) -> None:
    start_shop(supervisor)
    total = 'sum(shop_requests_total{path="/work"})'
    with prometheus(tmp_path, web, "/metrics/shop") as port:
        with Load(supervisor.port, keeping=0, closing=4, path="/work") as load:
            for _ in range(3):
                supervisor.run("reload", "shop")
        assert not load.failures
        sent = load.counts["ok"]
        wait_for(lambda: query(port, total) == sent, f"{sent} requests: {query(port, total)}")
        os.kill(supervisor.pids("shop")[0], signal.SIGKILL)
        with Load(supervisor.port, keeping=0, closing=4, path="/work") as load:
            pass
        sent += load.counts["ok"]
        wait_for(lambda: query(port, total) == sent, f"{sent} requests: {query(port, total)}")
        assert query(port, "max(resets(shop_requests_total[5m]))") == 0
        assert query(port, 'sum(shop_seconds_bucket{le="0.1"})') == sent
    counts = json.loads(supervisor.run("status", "--json").stdout)["apps"][0]["counts"]
    assert counts == {"reloaded": 3, "request": 6, "drained": 6, "crash": 1}


def sums(port: int, by: str = "app") -> dict[str, float]:
    _, page = get(port, f"/metrics/shop?by={by}")
    lines = [line for line in page.splitlines() if line.startswith("shop_requests_total{")]
    return {line.partition("{")[2].partition("}")[0]: float(line.split()[-1]) for line in lines}


def work(supervisor: Supervisor, count: int) -> None:
    for _ in range(count):
        get(supervisor.port, "/work")


def test_counters_outlive_workers_that_are_scaled_away_and_percore_web_itself(supervisor: Supervisor) -> None:
    start_shop(supervisor)
    with started_web(supervisor) as (port, process):
        work(supervisor, 20)
        supervisor.run("scale", "shop", "1")  # nobody read before: the one that goes is asked as it goes
        assert list(sums(port).values()) == [20]
        assert sum(sums(port, "worker").values()) == 20
        process.kill()
        process.wait()
    supervisor.run("restart", "shop")
    with started_web(supervisor) as (port, _):
        work(supervisor, 5)
        wait_for(lambda: list(sums(port).values()) == [25], "another round")
        assert get(port, "/metrics/other")[0] == 404
    done = supervisor.run("metrics", "shop", "--by-worker")
    assert 'shop_requests_total{app="shop",path="/work",worker="0"}' in done.stdout


def test_the_page_is_what_promtool_accepts_and_has_neither_variables_nor_arguments(
    supervisor: Supervisor, web: int
) -> None:
    start_shop(supervisor, env={"PORT": str(supervisor.port), "PASSWORD": "geheim-1"}, args=["--token=geheim-2"])
    up = 'percore_app_metrics_up{app="shop",worker="1"} 1.0'
    wait_for(lambda: up in get(web, "/metrics")[1], "another look at the supervisor")
    _, page = get(web, "/metrics?apps=1")
    assert "shop_seconds_bucket" in page
    if shutil.which("promtool"):
        done = subprocess.run([TOOL, "check", "metrics"], input=page, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    _, status = get(web, "/status")
    assert [each["pm2_env"]["status"] for each in json.loads(status)["processes"]] == ["online", "online"]
    assert "geheim" not in page + status
    assert get(web, "/health")[0] == 200
    supervisor.run("stop", "shop")
    assert get(web, "/health")[0] == 200  # it is not wanted


def test_who_waits_for_a_farewell_and_does_not_answer_holds_no_worker_up(supervisor: Supervisor) -> None:
    from percore.supervisor.base.home import Home
    from percore.supervisor.client import OpenLink

    start_shop(supervisor, instances=1)
    silent = OpenLink(Home(str(supervisor.home)))
    assert silent.open()
    silent.send("farewells")
    supervisor.run("reload", "shop")
    told = [message["event"] for message in silent.read()]
    assert told == ["farewell", "result"]
    silent.close()
