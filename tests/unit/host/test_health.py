"""Health: what counts as well, and that a fault says what was answered."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from percore.common.socket_peers import source_host
from percore.host.release import health

seen: list[tuple[str, str]] = []


class App(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        seen.append((self.client_address[0], self.path))
        self.send_response(int(self.path.rsplit("/", 1)[-1]))
        self.end_headers()
        self.wfile.write(b"the database is away")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), App)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def status(port: int | None, *, running: int = 2, wanted: int = 2, mode: str = "cluster") -> dict[str, Any]:
    workers = [{"slot": slot, "pid": 100 + slot, "state": "running", "port": port} for slot in range(running)]
    return {"apps": [{"name": "api", "mode": mode, "wanted": wanted, "port": port, "workers": workers}]}


@pytest.mark.parametrize(("code", "well"), [(200, True), (204, True), (302, True), (404, False), (503, False)])
def test_two_and_three_hundreds_are_well(port: int, code: int, well: bool) -> None:
    fault = health.ask("127.0.0.1", port, path=f"/{code}")
    assert (fault is None) == well
    if not well:
        assert f"GET /{code} answered {code}" in str(fault)


def test_a_bad_answer_is_quoted(port: int) -> None:
    assert "the database is away" in str(health.ask("127.0.0.1", port, path="/503"))


def test_every_worker_is_asked_from_the_address_of_its_slot(port: int) -> None:
    assert health.check_workers(status(port), path="/200", seconds=2) == 2
    assert [address for address, _ in seen] == ["127.77.0.1", "127.77.0.2"]


def test_slots_beyond_the_first_254_have_addresses_too() -> None:
    assert source_host(0) == "127.77.0.1"
    assert source_host(299) == "127.77.1.44"


def test_an_unhealthy_worker_is_named(port: int) -> None:
    with pytest.raises(
        health.HealthError, match=r"api worker 0 \(pid 100\) on port \d+: GET /500 answered 500"
    ) as caught:
        health.check_workers(status(port), path="/500", seconds=0)
    assert caught.value.app == "api"


def test_too_few_workers_are_not_healthy() -> None:
    with pytest.raises(health.HealthError, match="api: 1 of 2 workers run"):
        health.check_workers(status(1, running=1), path="/", seconds=0)


def ended(*, finished: bool | None, failure: str = "") -> dict[str, Any]:
    """The status of an app that is meant to end; None is what an older supervisor says."""
    said = {} if finished is None else {"finished": finished}
    worker = {"slot": 0, "pid": 0, "state": "exited", "port": None, "failure": failure, **said}
    return {"apps": [{"name": "migrate", "mode": "fork", "wanted": 1, "port": None, "workers": [worker]}]}


def test_an_app_that_is_meant_to_end_and_did_so_with_success_is_healthy() -> None:
    assert health.check_workers(ended(finished=True), path="/", seconds=0) == 0


@pytest.mark.parametrize("finished", [False, None])
def test_an_app_that_was_meant_to_end_and_failed_is_named_with_its_end(finished: bool | None) -> None:
    told = r"migrate: 0 of 1 workers run \(exited with code 3\)"
    with pytest.raises(health.HealthError, match=told) as caught:
        health.check_workers(ended(finished=finished, failure="exited with code 3"), path="/", seconds=0)
    assert caught.value.app == "migrate"


def test_a_worker_that_is_just_being_replaced_is_waited_for() -> None:
    passing, running = status(None, running=1, wanted=1), status(None, running=1, wanted=1)
    passing["apps"][0]["workers"][0]["state"] = "stopping"
    answers = iter([passing, passing, running])
    assert health.wait_settled(lambda: next(answers), seconds=30) is running
    assert health.wait_settled(lambda: passing, seconds=0) is passing
    failed = ended(finished=False)
    assert health.wait_settled(lambda: failed, seconds=30) is failed


def test_singletons_are_only_counted() -> None:
    assert health.check_workers(status(None, running=1, wanted=1, mode="fork"), path="/", seconds=0) == 0


def test_nobody_listening_is_said_in_plain_words() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert health.ask("127.0.0.1", sock.getsockname()[1], path=None) == "Connection refused"


def test_without_a_path_a_connection_is_enough(port: int) -> None:
    assert health.ask("127.0.0.1", port, path=None) is None


def test_waiting_ends_with_the_last_answer(port: int) -> None:
    started = time.monotonic()
    fault = health.wait_healthy("127.0.0.1", port, path="/503", deadline=started + 0.3)
    assert "503" in str(fault)
    assert time.monotonic() - started < 2


def test_an_app_that_answers_byte_by_byte_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time; the answer never does."""
    monkeypatch.setattr(health, "WHOLE_SECONDS", 0.5)
    gone = threading.Event()

    def drip() -> None:
        link = server.accept()[0]
        try:
            while not gone.wait(0.05):
                link.sendall(b"x")
        except OSError:
            pass
        link.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip)
        thread.start()
        assert health.ask("127.0.0.1", server.getsockname()[1], path="/") is not None
        gone.set()
        thread.join()


def listening(*, web: int | None, other: int | None = None) -> dict[str, Any]:
    """A status of two apps; a pid stands for a program that listens on that port."""
    return {"apps": [{"name": "web", "workers": [{"pid": web}]}, {"name": "other", "workers": [{"pid": other}]}]}


@pytest.mark.parametrize(
    "found",
    [listening(web=5000), listening(web=6000, other=5000), listening(web=None), listening(web=5000, other=6000)],
)
def test_one_app_that_listens_on_the_port_is_enough_and_so_are_none_that_listen(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any]
) -> None:
    monkeypatch.setattr(health, "ports_of", set)
    health.check_port(found, {"web", "other"}, port=5000, seconds=0)


def test_apps_that_listen_elsewhere_are_told_with_the_port_they_listen_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "ports_of", set)
    with pytest.raises(
        health.HealthError, match=r"no app listens on port 5000: web listens on port 6000 -> "
    ) as caught:
        health.check_port(listening(web=6000, other=5000), {"web"}, port=5000, seconds=0)
    assert "set 'port'" in caught.value.next
