"""The prober against a small real server: what it counts, and what it makes of targets that cannot be reached."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from percore.host.messages import ProbeTarget
from percore.host.probe import Prober, percentile
from tests.waiting import free_port, wait_for


class Server(http.server.ThreadingHTTPServer):
    status = 200


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def probe(*targets: ProbeTarget) -> Prober:
    prober = Prober(targets)
    prober.start()
    return prober


def test_failures_count_from_the_mark_on(server: Server) -> None:
    prober = probe(ProbeTarget("web1", "127.0.0.1", server.server_port, "/health"))
    wait_for(lambda: prober.summary()["before"]["asked"] > 1, "samples before")
    server.status = 503
    prober.mark()
    wait_for(lambda: prober.summary()["during"]["failed"] > 1, "failures")
    prober.stop()
    found = prober.summary()
    assert found["target"] == "web1"
    assert found["before"]["p99"] > 0
    assert found["during"]["faults"][-1] == "GET /health answered 503"


def test_the_first_target_that_answers_is_kept(server: Server) -> None:
    prober = probe(
        ProbeTarget("web2", "127.0.0.1", free_port(), None), ProbeTarget("web1", "127.0.0.1", server.server_port, None)
    )
    wait_for(lambda: prober.summary()["before"]["asked"], "an answer")
    prober.stop()
    assert prober.summary()["target"] == "web1"


def test_without_a_health_path_any_answer_that_does_not_blame_the_server_will_do(server: Server) -> None:
    server.status = 404
    prober = probe(ProbeTarget("web1", "127.0.0.1", server.server_port, None))
    wait_for(lambda: prober.summary()["before"]["asked"] > 1, "samples")
    assert prober.summary()["before"]["failed"] == 0
    server.status = 500
    wait_for(lambda: prober.summary()["before"]["failed"], "a failure")
    prober.stop()


def test_percentiles_are_values_that_were_seen() -> None:
    assert percentile([], 99) is None
    assert percentile([3.0], 50) == 3.0
    assert percentile(list(map(float, range(1, 101))), 99) == 100.0
    assert percentile(list(map(float, range(1, 101))), 50) == 51.0
