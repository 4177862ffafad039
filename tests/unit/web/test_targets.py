"""Which workers are asked for their metrics, and how each is reached alone; where that cannot be, why."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from typing import Any

import pytest

from percore.web.app_metrics import scrape as scrape_module
from percore.web.app_metrics.scrape import ScrapeError, scrape
from percore.web.app_metrics.targets import MetricsTarget, leaving_target, targets_of

PIDS = (1, 2)  # that are there on any system


def worker(slot: int, **changes: Any) -> dict[str, Any]:
    return {"slot": slot, "pid": PIDS[slot], "state": "running", "role": "current", "port": 3000, **changes}


def app(
    *workers: dict[str, Any], addresses: tuple[str, ...] = ("[::]:3000", "/run/a.sock"), **changes: Any
) -> dict[str, Any]:
    return {"workers": workers or (worker(0), worker(1)), "addresses": addresses, "port": 3000, **changes}


def described(sharing: str = "steered", **config: Any) -> dict[str, Any]:
    return {"sharing": sharing, "config": {"app_metrics": "/metrics", **config}}


def reached(found: Any) -> list[tuple[int, str, int, str]]:
    return [(each.slot, each.host, each.port, each.source.host if each.source else "") for each in found.targets]


def test_workers_of_a_shared_port_are_reached_by_the_source_of_each() -> None:
    found = targets_of(app(), described())
    assert reached(found) == [(0, "127.0.0.1", 3000, "127.77.0.1"), (1, "127.0.0.1", 3000, "127.77.0.2")]
    leaving = leaving_target(app(), described(), 1, 2)
    assert leaving
    assert leaving.source
    assert leaving.source.host == "127.76.0.2"


def test_metrics_may_have_a_port_of_their_own_and_the_app_a_name() -> None:
    own = app(addresses=("0.0.0.0:3000", "127.0.0.1:9464"))
    found = targets_of(own, described(app_metrics_port=9464, health_host="shop.example.com"))
    assert {(each.port, each.asked) for each in found.targets} == {(9464, "shop.example.com")}


def test_only_workers_that_serve_are_asked_but_all_that_live_are_known() -> None:
    others = (
        worker(0, state="starting"),
        worker(1),
        worker(1, role="outgoing", state="stopping"),
        worker(1, role="incoming"),
    )
    found = targets_of(app(*others), described())
    assert [each.slot for each in found.targets] == [1]
    assert len(found.living) == 2


def test_an_address_names_the_host_and_whether_it_is_tls() -> None:
    [found, _] = targets_of(
        app(), described(app_metrics="https://shop.example.com/a/metrics", health_host="other")
    ).targets
    assert (found.asked, found.path, found.is_tls) == ("shop.example.com", "/a/metrics", True)


@pytest.mark.parametrize(("made", "of", "said"), [
    (app(), described(app_metrics="h2c://localhost/metrics"), "over HTTP/1, not h2c"),
    (app(), described("hashed (the kernel takes no program)"), "nobody can ask one worker"),
    (app(addresses=("/run/a.sock",)), described(), "no worker listens on a TCP port for its metrics"),
    (app(), described(app_metrics_port=9000), "no worker listens on a TCP port for its metrics"),
    (app(), described("none", app_metrics_port=9000), "cannot all have port 9000"),
    (app(worker(0, port=None)), described("none"), "the port is not known: set port or app_metrics_port"),
])  # fmt: skip
def test_where_one_worker_cannot_be_asked_alone_it_is_said_why(made: Any, of: Any, said: str) -> None:
    found = targets_of(made, of)
    assert found.targets == ()
    assert said in found.problem


def test_one_worker_needs_no_steering_and_ports_of_their_own_do_not_either() -> None:
    assert reached(targets_of(app(worker(0)), described("one socket"))) == [(0, "127.0.0.1", 3000, "")]
    own = app(worker(0), worker(1, port=3001), addresses=())
    assert reached(targets_of(own, described("none"))) == [(0, "127.0.0.1", 3000, ""), (1, "127.0.0.1", 3001, "")]


# -- one request -------------------------------------------------------------------------------------------------------


def answering(monkeypatch: pytest.MonkeyPatch, *parts: bytes, wait: float = 0.0) -> MetricsTarget:
    """A server on a port of its own, in this process."""
    monkeypatch.setattr(scrape_module, "_holder", lambda *_: 7)
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with server, server.accept()[0] as client:
            client.recv(65536)
            for part in parts:
                try:
                    client.sendall(part)
                except OSError:
                    return
                time.sleep(wait)

    threading.Thread(target=serve, daemon=True).start()
    return MetricsTarget(0, 1, "127.0.0.1", server.getsockname()[1], "/metrics", "localhost", False)


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


@pytest.mark.parametrize("answer", [
    OK + b"Content-Length: 4\r\n\r\na 1\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\na \r\n2\r\n1\n\r\n0\r\n\r\n",
    OK + b"\r\na 1\n",
])  # fmt: skip
def test_a_page_is_read_however_it_is_sent(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    found = scrape(answering(monkeypatch, answer))
    assert (list(found.page.others.values()), found.holder) == ([1.0], 7)


@pytest.mark.parametrize(("parts", "said"), [
    ((b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",), "answered 404"),
    ((b"HTTP/1.1 302 Found\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n",), "answered 302"),
    ((b"nonsense\r\n\r\n",), "GET /metrics on port"),
    ((OK + b"Content-Length: 100\r\n\r\na 1\n",), "the page was cut off"),
    ((OK + b"Content-Length: 5\r\n\r\na 123",), "ends in the middle of a line"),
    ((OK + b"\r\na 12",), "ends in the middle of a line"),
    ((OK + b"\r\n", *[b"x" * (1 << 20)] * 9), "larger than 8 MB"),
    ((OK + b"\r\n<html>\n",), "cannot be read"),
    ((OK + b"Content-Length: 1000\r\n\r\n", *[b"a 1\n"] * 100), "took too long|timed out"),
    ((b"",), "GET /metrics on port"),
])  # fmt: skip
def test_what_is_no_page_is_an_error_within_its_bounds(
    monkeypatch: pytest.MonkeyPatch, parts: tuple[bytes, ...], said: str
) -> None:
    """What is sent whole, drop by drop, would be cut off at its end: who says that it takes too long did not wait for that."""
    target = answering(monkeypatch, *parts, wait=0.01)
    with pytest.raises(ScrapeError, match=said):
        scrape(target, 0.5 if "too long" in said else 30.0)


def test_an_answer_of_another_process_is_not_asked_for() -> None:
    asked: list[bytes] = []

    def serve(server: socket.socket) -> None:
        with server.accept()[0] as client:
            asked.append(client.recv(10))

    with socket.create_server(("127.0.0.1", 0)) as server, subprocess.Popen(["sleep", "60"]) as other:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        target = MetricsTarget(0, other.pid, "127.0.0.1", server.getsockname()[1], "/metrics", "localhost", False)
        with pytest.raises(ScrapeError, match="another worker answered"):
            scrape(target, 5)
        other.kill()
        thread.join()
    assert asked == [b""]
