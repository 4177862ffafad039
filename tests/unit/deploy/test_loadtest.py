"""Load by our own clients against a real server, what wrk prints, and how both counts are compared."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from percore.deploy.loadtest.clients import LoadTarget, LoadWish, send_load
from percore.deploy.loadtest.picture import draw, write_picture
from percore.deploy.loadtest.spread import WorkerShare, compare, shares_of, total
from percore.deploy.loadtest.verb import LoadOptions, check
from percore.deploy.loadtest.wrk import read_wrk
from percore.errors import PercoreError, UsageError

WRK = """\
Running 2s test @ http://127.0.0.1:80/
  1 threads and 10 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.35ms    1.12ms  22.62ms   95.57%
    Req/Sec     8.20k     1.02k    9.52k    75.00%
  Latency Distribution
     50%    1.10ms
     75%    1.36ms
     90%    1.90ms
     99%  650.00us
  16420 requests in 2.01s, 2.44MB read
  Socket errors: connect 0, read 3, write 0, timeout 0
  Non-2xx or 3xx responses: 7
Requests/sec:   8169.15
"""


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404 if self.path == "/none" else 200)
        self.end_headers()
        self.wfile.write(b"x" * 1000)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[tuple[int, list[object]]]:
    """The port, and what was accepted."""
    accepted: list[object] = []

    class Server(ThreadingHTTPServer):
        def get_request(self) -> Any:
            accepted.append(1)
            return super().get_request()

    with Server(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port, accepted
        server.shutdown()
        thread.join()


def place(port: int, path: str = "/", host: str = "web1") -> LoadTarget:
    return LoadTarget(host, "127.0.0.1", port, False, "example.org", path)


def test_each_request_is_one_connection_and_every_one_is_counted() -> None:
    with serving() as (port, accepted):
        load = send_load([place(port)], LoadWish(4, 0.5))["web1"]
    assert load.sent == len(accepted) == len(load.took) > 10
    assert not load.faults
    assert 0 < (load.percentile(0.5) or 0) <= (load.percentile(0.99) or 0) <= (load.percentile(1.0) or 0) < 5


def test_a_rate_is_kept_and_hosts_are_asked_in_turn() -> None:
    with serving() as (port, _):
        loads = send_load([place(port, host="a"), place(port, host="b")], LoadWish(10, 1.0, rate=40))
    assert (loads["a"].sent, loads["b"].sent) == (20, 20)


def test_what_fails_is_counted_by_its_kind() -> None:
    with serving() as (port, _):
        load = send_load([place(port, "/none")], LoadWish(1, 1.0, rate=5))["web1"]
    assert load.faults == {"status 404": 5}
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        load = send_load([place(closed.getsockname()[1])], LoadWish(1, 1.0, rate=5))["web1"]
    assert sum(load.faults.values()) == load.sent == 5
    assert load.percentile(0.5) is None


def test_what_wrk_prints_is_read() -> None:
    load = read_wrk(WRK)
    assert (load.sent, load.seconds, round(load.rate)) == (16420, 2.01, 8169)
    assert [load.percentile(share) for share in (0.5, 0.9, 0.99, 1.0)] == pytest.approx(
        [0.0011, 0.0019, 0.00065, 0.02262]
    )
    assert load.faults == {"read failed": 3, "status 400 to 599, or below 200": 7}
    with pytest.raises(PercoreError, match="wrk printed no result"):
        read_wrk("unable to connect")


def worker(app: str, slot: int, pid: int, accepted: int | None) -> dict[str, Any]:
    return {"app": app, "slot": slot, "pid": pid, "accepted": accepted}


def test_the_spread_is_what_each_worker_accepted_meanwhile() -> None:
    before = [worker("api", 0, 10, 5), worker("api", 1, 11, 7), worker("idle", 0, 12, 3), worker("go", 0, 13, None)]
    after = [worker("api", 0, 10, 65), worker("api", 1, 99, 40), worker("idle", 0, 12, 3), worker("go", 0, 13, None)]
    shares = shares_of("web1", before, after)
    assert shares == [WorkerShare("web1", "api", 0, 10, 60), WorkerShare("web1", "api", 1, 99, 40, "started meanwhile")]
    assert compare("web1", 100, shares, kept=False) == ""
    assert "1 are health checks, other clients" in compare("web1", 99, shares, kept=False)
    assert "2 did not reach a worker that counts" in compare("web1", 102, shares, kept=False)
    assert "several requests share a connection" in compare("web1", 500, shares, kept=True)
    assert total(shares) == 100


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"path": "http://other.example/"}, "--path must begin with one /"),
        ({"path": "//other.example/"}, "--path must begin with one /"),
        ({"path": "/a b\r\nHost: x"}, "--path must begin with one /"),
        ({"wish": LoadWish(20, 601)}, "--duration must be between 1 and 600 seconds"),
        ({"wish": LoadWish(0, 10)}, "--connections must be between"),
        ({"wish": LoadWish(1, 10, -1)}, "--rate must be between"),
        ({"tool": "ab"}, "--tool must be one of own, wrk"),
    ],
)
def test_only_bounded_load_on_a_path_of_a_host_is_sent(changes: dict[str, Any], said: str) -> None:
    usual: dict[str, Any] = {
        "wish": LoadWish(20, 10),
        "path": "/",
        "direct": False,
        "tool": "own",
        "json": False,
        "svg": "",
        "png": "",
    }
    check(LoadOptions(**usual))
    with pytest.raises(UsageError, match=said):
        check(LoadOptions(**{**usual, **changes}))


def test_the_picture_has_a_bar_for_each_worker(tmp_path: Path) -> None:
    shares = [WorkerShare("web<1", "api", 0, 1, 100), WorkerShare("web<1", "api", 1, 2, None, "not counted")]
    write_picture(tmp_path / "x.svg", draw("load & spread", shares))
    text = (tmp_path / "x.svg").read_text()
    assert text.count("<rect") == 3
    assert "web&lt;1 api 0" in text
    assert "not counted" in text
