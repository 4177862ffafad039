"""Which proof of a worker counts, where it takes over from one that serves clients."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from percore.supervisor.base.loop import Loop as RealLoop
from percore.supervisor.config.address import everywhere
from percore.supervisor.config.app import AppConfig
from percore.supervisor.core.slot import _kept_port
from percore.supervisor.health.probe import Probe, WorkerTarget
from percore.supervisor.health.readiness import Readiness


class Loop:
    """Keeps the last timer; the test says when it is over."""

    outer: Any = None

    def later(self, seconds: float, callback: Any) -> Any:
        self.callback = callback
        return SimpleNamespace(cancel=lambda: None)


def config(port: str = "5000", **more: Any) -> AppConfig:
    fields: dict[str, Any] = {"name": "web", "script": "w", "cwd": "/", "mode": "cluster", "release": "r2", **more}
    return AppConfig(env={"PORT": port}, **fields)


def begin(expected: int | None, **more: Any) -> tuple[Readiness, Any, Loop, list[str]]:
    loop, answers = Loop(), list[str]()
    sockets: Any = SimpleNamespace(slot=0, addresses=[], listeners={everywhere(5000): None})
    readiness = Readiness(loop, sockets, answers.append)  # type: ignore[arg-type]
    readiness.expect(expected)
    readiness.begin(1, "", 0.0, config(listen_timeout=0, **more), is_incoming=True)
    return readiness, sockets, loop, answers


def bind(readiness: Readiness, sockets: Any, port: int) -> None:
    sockets.addresses.append(everywhere(port))
    readiness.bound(everywhere(port))


def test_a_worker_that_listens_elsewhere_than_the_one_before_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("percore.supervisor.health.readiness.target_of", lambda *_, **__: None)
    readiness, sockets, loop, answers = begin(5000)
    bind(readiness, sockets, 9090)
    loop.callback()
    assert answers == ["not ready within 0 s (it listens on port 9090, not on 5000)"]
    readiness, sockets, loop, answers = begin(5000)
    bind(readiness, sockets, 9090)
    bind(readiness, sockets, 5000)
    loop.callback()
    assert answers == [""]
    readiness, sockets, loop, answers = begin(None)
    bind(readiness, sockets, 9090)
    loop.callback()
    assert answers == [""], "nobody expects it on another port"


def test_a_ready_message_of_a_worker_that_listens_elsewhere_is_a_failure() -> None:
    readiness, sockets, _, answers = begin(5000, wait_ready=True)
    sockets.addresses.append(everywhere(6000))
    readiness.said_ready()
    assert answers == ["it listens on port 6000, not on 5000"]
    readiness, sockets, _, answers = begin(5000, wait_ready=True)
    sockets.addresses.append(everywhere(5000))
    readiness.said_ready()
    assert answers == [""]


@pytest.mark.parametrize(
    ("former", "listens", "wanted", "release", "kept"),
    [
        ("5000", 5000, "5000", "r2", 5000),
        ("5000", 5000, "6000", "r2", 6000),  # the inventory has another one now
        ("5000", 7000, "5000", "r2", None),  # it never listened on its PORT
        ("5000", 5000, "5000", "", None),  # started by hand
        ("5000", 5000, "x", "r2", None),
    ],
)
def test_a_port_is_kept_where_the_release_before_serves_on_its_own(
    former: str, listens: int, wanted: str, release: str, kept: int | None
) -> None:
    worker: Any = SimpleNamespace(config=config(former), sockets=SimpleNamespace(addresses=[everywhere(listens)]))
    assert _kept_port(worker, config(wanted, release=release)) == kept


class Picky(BaseHTTPRequestHandler):
    """An app that answers to its own name only, as Django's ALLOWED_HOSTS makes it."""

    def do_GET(self) -> None:
        self.send_response(200 if self.headers["Host"] == "shop.example.com" else 400)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(("asked", "proof"), [("shop.example.com", True), (None, False)])
def test_a_worker_is_asked_by_the_name_of_its_site(asked: str | None, proof: bool) -> None:
    server = HTTPServer(("127.0.0.1", 0), Picky)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    found: list[str] = []
    loop = RealLoop()
    target = WorkerTarget("127.0.0.1", server.server_port, health="/health", asked=asked)
    probe = Probe(loop, target, lambda: found.append(""), found.append)
    try:
        while not found:
            loop.turn()
    finally:
        probe.cancel()
        loop.close()
        server.shutdown()
        server.server_close()
        thread.join()
    assert found == ([""] if proof else ["GET /health answered 400"])
