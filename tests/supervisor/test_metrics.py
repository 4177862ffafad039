"""`percore web` beside a real supervisor: the sums of what workers counted, whatever becomes of them; and what is not shown."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
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


def start_shop(supervisor: Supervisor, **fields: Any) -> None:
    (supervisor.folder / "shop.py").write_text(SHOP)
    app = {"name": "shop", "script": "shop.py", "interpreter": sys.executable, "app_metrics": "/metrics", **fields}
    supervisor.apply(supervisor.api(**app))


def sums(port: int, by: str = "app") -> dict[str, float]:
    _, page = get(port, f"/metrics/shop?by={by}")
    lines = [line for line in page.splitlines() if line.startswith("shop_requests_total{")]
    return {line.partition("{")[2].partition("}")[0]: float(line.split()[-1]) for line in lines}


def test_each_request_is_counted_once_across_three_reloads_under_load_and_a_crash(
    supervisor: Supervisor, web: int
) -> None:
    start_shop(supervisor)
    with Load(supervisor.port, keeping=0, closing=4, path="/work") as load:
        for _ in range(3):
            supervisor.run("reload", "shop")
    assert not load.failures
    wait_for(lambda: list(sums(web).values()) == [load.counts["ok"]], f"{load.counts['ok']} requests: {sums(web)}")
    os.kill(supervisor.pids("shop")[0], signal.SIGKILL)
    with Load(supervisor.port, keeping=0, closing=4, path="/work") as more:
        pass
    sent = load.counts["ok"] + more.counts["ok"]
    wait_for(lambda: list(sums(web).values()) == [sent], f"{sent} requests: {sums(web)}")
    assert f'shop_seconds_count{{app="shop"}} {sent}.0' in get(web, "/metrics/shop")[1]
    counts = json.loads(supervisor.run("status", "--json").stdout)["apps"][0]["counts"]
    assert counts == {"reloaded": 3, "request": 6, "drained": 6, "crash": 1}


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
    with contextlib.closing(OpenLink(Home(str(supervisor.home)))) as silent:
        assert silent.open()
        silent.send("farewells")
        supervisor.run("reload", "shop")
        assert [message["event"] for message in silent.read()] == ["farewell", "result"]
