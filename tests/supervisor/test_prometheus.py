"""A real Prometheus and an unmodified client library: the figures are what was sent, whatever happens to the workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.supervisor.conftest import Supervisor
from tests.waiting import free_port, wait_for

# As prometheus_client's own documentation has it: nothing in it knows of several workers.
SHOP = """
import http.server, os, socketserver
from prometheus_client import Counter, generate_latest
REQUESTS = Counter("shop_requests", "Requests that were answered")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/metrics":
            body = generate_latest()
        else:
            REQUESTS.inc()
            body = b'{}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


@contextmanager
def running(words: list[str], **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def answers(url: str) -> bool:
    try:
        read(url)
    except OSError:
        return False
    return True


@contextmanager
def prometheus(folder: Path, page_port: int) -> Iterator[int]:
    """It reads percore's page each second; its own port."""
    job = {"job_name": "percore", "scrape_interval": "1s", "params": {"apps": ["1"]}}
    job["static_configs"] = [{"targets": [f"127.0.0.1:{page_port}"]}]  # type: ignore[assignment]
    (folder / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
    port = free_port()
    words = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    with running(words):
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/-/ready"), "Prometheus", seconds=30)
        yield port


def ask(port: int, query: str) -> float:
    """The value of a query of one series; -1 where there is none yet."""
    said = json.loads(read(f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"))
    return float(said["data"]["result"][0]["value"][1]) if said["data"]["result"] else -1.0


@pytest.mark.skipif(not shutil.which("prometheus"), reason="Prometheus is not installed")
def test_what_prometheus_adds_up_is_what_was_sent_across_reloads_and_a_crash(supervisor: Supervisor) -> None:
    (supervisor.folder / "shop.py").write_text(SHOP)
    app = supervisor.api(script="shop.py", interpreter=sys.executable, app_metrics="/metrics")
    supervisor.apply(app)
    page = free_port()
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            supervisor.get("/")
            sent += 1

    web = [sys.executable, "-m", "percore.supervisor.cli", "web", "--port", str(page), "--scrape-interval", "1"]
    env = {**os.environ, "PERCORE_HOME": str(supervisor.home)}
    with running(web, env=env), prometheus(supervisor.folder, page) as port:
        send(50)
        for number in range(3):
            supervisor.apply({**app, "env": {**app["env"], "ROUND": str(number)}}, release=f"r{number + 2}")
            send(50)
        wait_for(lambda: ask(port, "sum(shop_requests_total)") == sent, f"{sent} requests in Prometheus", seconds=20)
        os.kill(supervisor.pids("api")[0], signal.SIGKILL)
        wait_for(lambda: ask(port, 'sum(percore_app_workers{state="running"})') == 2, "the worker again", seconds=20)
        send(50)
        wait_for(lambda: ask(port, "sum(shop_requests_total)") == sent, f"{sent} requests in Prometheus", seconds=20)
        assert ask(port, "sum(resets(shop_requests_total[5m]))") == 0
        assert ask(port, 'sum(percore_app_reloads_total{result="done"})') == 3
        assert ask(port, 'sum(percore_app_restarts_total{cause="crash"})') == 1
        done = subprocess.run(["promtool", "check", "metrics"], input=read(f"http://127.0.0.1:{page}/metrics?apps=1"),
                              text=True, capture_output=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
