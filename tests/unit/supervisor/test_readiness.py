"""Which proof of a worker counts: where it must listen, by the port that the app is known by and by its predecessor."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from percore.supervisor.base.loop import Loop as RealLoop
from percore.supervisor.config.address import Address, everywhere
from percore.supervisor.config.app import AppConfig, Place, known_port
from percore.supervisor.core import slot
from percore.supervisor.core.slot import _kept_addresses
from percore.supervisor.health.probe import Probe, WorkerTarget
from percore.supervisor.health.readiness import Readiness
from percore.supervisor.sockets.worker_sockets import WorkerSockets


class Loop:
    """The timer that was set last is over when the test says so."""

    outer: Any = None

    def __init__(self) -> None:
        self.timers: list[Any] = []

    def later(self, seconds: float, callback: Any) -> Any:
        self.timers.append(
            SimpleNamespace(ring=callback, cancel=lambda: timer in self.timers and self.timers.remove(timer))
        )
        timer = self.timers[-1]
        return timer

    def ring(self) -> None:
        self.timers.pop().ring()


@pytest.fixture(autouse=True)
def nothing_can_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it listens is the best proof there is."""
    monkeypatch.setattr("percore.supervisor.health.readiness.target_of", lambda *_, **__: None)


def config(env_port: str = "", /, **more: Any) -> AppConfig:
    fields: dict[str, Any] = {"name": "web", "script": "w", "cwd": "/", "mode": "cluster", **more}
    return AppConfig(env={"PORT": env_port} if env_port else {}, **fields)


class Start:
    """A worker that starts, in an app whose others listen on port 5000."""

    def __init__(self, *expected: Address, shell_port: str = "", env_port: str = "", **more: Any) -> None:
        self.loop, self.answers = Loop(), list[str]()
        self.sockets = WorkerSockets({everywhere(5000): None}, 0, 0)  # type: ignore[dict-item]
        self.readiness = Readiness(self.loop, self.sockets, self.answers.append)  # type: ignore[arg-type]
        self.readiness.expect(expected)
        place = Place(0, 0, {"PORT": shell_port} if shell_port else {})
        self.readiness.begin(1, "", 0.0, config(env_port, listen_timeout=0, **more), place, is_incoming=True)

    def listen(self, *ports: int) -> Start:
        self.sockets.addresses = [everywhere(port) for port in ports]
        self.readiness.addresses_changed()
        return self

    def after_a_while(self) -> list[str]:
        self.loop.ring()
        return self.answers


def test_where_no_port_is_known_the_first_one_counts() -> None:
    assert Start().listen(9090).after_a_while() == [""]


def test_a_port_that_is_known_must_be_listened_on_whatever_opens_first() -> None:
    for more in ({"port": 5000}, {"env_port": "5000"}):
        start = Start(**more)
        reason = "not ready within 0 s (it listens on [::]:9090, but does not listen on port 5000)"
        assert start.listen(9090).after_a_while() == [reason]
        assert start.listen(9090, 5000).after_a_while()[1:] == [""]


def test_a_port_that_only_a_shell_named_may_mean_another_program() -> None:
    start = Start(shell_port="5000").listen(9090)
    assert start.after_a_while() == []
    assert start.after_a_while() == [""]


def test_every_address_of_the_worker_before_must_be_listened_on() -> None:
    start = Start(everywhere(5000), everywhere(9090)).listen(9090)
    reason = "not ready within 0 s (it does not listen on [::]:5000, where the worker before it does)"
    assert start.after_a_while() == [reason]
    assert start.listen(9090, 5000).after_a_while()[1:] == [""]


def test_what_is_closed_before_it_is_proved_proves_nothing() -> None:
    start = Start(everywhere(5000)).listen(5000)
    assert start.listen().after_a_while() == ["not ready within 0 s (it waited for it to listen)"]


def test_a_ready_message_counts_once_the_worker_listens_where_the_one_before_does() -> None:
    start = Start(everywhere(5000), wait_ready=True)
    start.readiness.said_ready()
    assert start.answers == []
    start.listen(6000).readiness.said_ready()
    assert start.answers == []
    assert start.listen(6000, 5000).after_a_while() == [""]


def test_a_worker_that_is_refused_an_address_and_listens_nowhere_else_is_told_why() -> None:
    start = Start()
    start.readiness.was_refused("it overlaps")
    assert start.after_a_while() == ["it overlaps"]
    start = Start()
    start.readiness.was_refused("it overlaps")
    refusal = start.loop.timers[-1]
    start.listen(5000)
    refusal.ring()
    assert start.answers == [], "it was looking for a free port"


@pytest.mark.parametrize(
    ("fields", "shell", "known"),
    [
        ({}, "", None),
        ({"port": 5000}, "6000", 5000),
        ({}, "6000", 6000),
        ({}, "x", None),
        ({}, "70000", None),
        ({"filter_env": ("PORT",)}, "6000", None),
        ({"increment_var": "PORT"}, "6000", 6002),
    ],
)
def test_an_app_is_known_by_the_port_that_its_worker_is_told(
    fields: dict[str, Any], shell: str, known: int | None
) -> None:
    assert known_port(config(**fields), Place(2, 0, {"PORT": shell})) == known


def former(monkeypatch: pytest.MonkeyPatch, port: str, *addresses: Address, **more: Any) -> Any:
    monkeypatch.setattr(slot, "environment_of", lambda _: [f"PORT={port}".encode()])
    sockets = WorkerSockets(dict.fromkeys(addresses), 0, 0)  # type: ignore[arg-type]
    sockets.addresses = list(addresses)
    return SimpleNamespace(pid=1, config=config(port, **more), place=Place(0, 0, {}), sockets=sockets)


def test_a_reload_keeps_what_the_worker_before_listens_on_and_moves_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    main, metrics = everywhere(5000), everywhere(9090)
    udp = Address(socket.AF_INET, socket.SOCK_DGRAM, "0.0.0.0", 53)
    worker = former(monkeypatch, "5000", main, metrics, udp)
    assert _kept_addresses(worker, config("5000")) == [main, metrics]
    assert _kept_addresses(worker, config("6000")) == [metrics], "the file has another one now"
    assert _kept_addresses(worker, config()) == [main, metrics]
    declared = former(monkeypatch, "", main, metrics, listen=("5000",))
    assert _kept_addresses(declared, config(listen=("6000",))) == [metrics]


def test_a_path_is_kept_where_clients_can_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    path, main = Address(socket.AF_UNIX, socket.SOCK_STREAM, "/root/.gunicorn/gunicorn.ctl", 0), everywhere(5000)
    assert _kept_addresses(former(monkeypatch, "", main, path), config()) == [main]
    named = config(args=("--control", "unix:gunicorn.ctl"))
    assert _kept_addresses(former(monkeypatch, "", main, path), named) == [main, path]
    assert _kept_addresses(former(monkeypatch, "", path), config()) == [path], "it has no other clients"


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
    assert found == ([""] if proof else ["GET /health answered 400 to the name localhost, which health_host sets"])
