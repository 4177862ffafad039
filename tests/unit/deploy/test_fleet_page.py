"""The page of all hosts: what is seen of a host, its logs, and orders. Hosts are simulated; what they say is checked as ever."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from percore.deploy.connection import replies
from percore.deploy.fleet.watch import AWAY, HostView
from percore.deploy.fleet_page import serve
from percore.deploy.fleet_page.serve import enter_route, watch_into
from percore.deploy.fleet_page.source import FleetSource, look, sample_of, try_to_look
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host
from percore.errors import PercoreError, UnreachableError, UsageError
from percore.web.auth import Access, Token
from percore.web.dashboard.board import PageBoard
from percore.web.dashboard.log_lines import LogQuery
from percore.web.dashboard.orders import PageOrder
from percore.web.dashboard.sample import WorkerFigures
from percore.web.http import Right
from tests.pages import FakeSource, make_app, make_worker, serving
from tests.waiting import wait_for

WORKERS = 8


def said(daemon: bool = True) -> dict[str, Any]:
    worker = {"pid": 7, "state": "running", "release": None, "port": 3000, "memory_bytes": 5, "cpu_percent": 1.5,
              "uptime_seconds": 9.0, "restarts": 2, "failure": "", "crash_looping": False}  # fmt: skip
    workers = [{"slot": slot, "id": slot, **worker} for slot in range(WORKERS)]
    app = {"name": "shop", "mode": "cluster", "wanted": WORKERS, "addresses": ["0.0.0.0:3000"], "counts": {"crash": 3}}
    connections = {str(slot): {"open": 3, "queue": 0, "accepted": None} for slot in range(WORKERS)}
    status = {"apps": [{**app, "workers": workers}] if daemon else []}
    return {"event": "result", "ok": True, "status": status, "daemon": daemon, "connections": connections, "load": 0.5,
            "memory_used_bytes": 2 << 30}  # fmt: skip


class FakeAgent:
    """Answers as an agent does; its lines are read by the same checks as those of a host."""

    facts: Mapping[str, Any] = {"cores": 4, "memory_bytes": 8 << 30}

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self.is_closed = False

    def ask(
        self, op: str, *, on_event: Callable[[dict[str, Any]], None] | None = None, **message: Any
    ) -> dict[str, Any]:
        self.asked.append({"op": op, **message})
        for line in self.lines if on_event else ():
            assert on_event
            on_event({"event": "line", "text": line})
        return replies.read_result(op, said()) if op == "figures" else {"ok": True}

    def close(self) -> None:
        self.is_closed = True


class FakeHost:
    def __init__(self, name: str = "web1") -> None:
        self.name, self.forks = name, 32
        self.remote: FakeAgent | None = None
        self.agents: list[FakeAgent] = []
        self.scope = SimpleNamespace(command=lambda verb, options: f"invoke {verb} --env e {options}")
        self.fault: Exception | None = None

    @property
    def agent(self) -> FakeAgent:
        assert self.remote
        return self.remote

    def connect(self) -> None:
        if self.fault:
            raise self.fault
        self.remote = self.new_connection()

    def new_connection(self) -> FakeAgent:
        self.agents.append(FakeAgent())
        return self.agents[-1]

    def target(self) -> dict[str, str]:
        return {"deploy_to": "/srv/shop"}

    def ask(self, op: str) -> dict[str, Any]:
        return self.agent.ask(op)


def real(host: FakeHost) -> Host:
    return cast(Host, host)


def test_what_a_host_says_becomes_apps_and_workers_with_their_connections() -> None:
    host = FakeHost()
    host.connect()
    found = look(real(host))
    assert (found.machine.cores, found.machine.memory_used_bytes, found.problem) == (4, 2 << 30, "")
    assert [(app.name, app.restarts, len(app.workers)) for app in found.apps] == [("shop", 3, WORKERS)]
    worker: WorkerFigures = found.apps[0].workers[0]
    assert (worker.open, worker.queue, worker.accepted) == (3, 0, None)


def test_a_host_without_a_supervisor_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost()
    host.connect()
    monkeypatch.setattr(host, "ask", lambda op: replies.read_result(op, said(daemon=False)))
    found = look(real(host))
    assert (found.problem, found.next) == ("no supervisor runs", "invoke start --env e --limit web1")


def test_a_host_that_cannot_be_reached_is_shown_with_the_reason() -> None:
    host = FakeHost()
    host.fault = UnreachableError("connection refused", next="ssh web1")
    found = try_to_look(real(host))
    assert (found.problem, found.next) == ("connection refused", "ssh web1")
    assert sample_of(HostView("web1", AWAY, "connection lost")).problem == "connection lost"


def test_a_log_is_that_of_the_worker_and_the_host_does_the_search() -> None:
    host = FakeHost()
    host.connect()
    line = (
        '{"message": "%s", "timestamp": "2026-11-29T10:00:00.000Z", "type": "%s", "process_id": %d, "app_name": "shop"}'
    )
    host.agent.lines = ["a notice", line % ("one", "out", 1), line % ("other", "out", 2), line % ("two", "err", 1)]
    source = FleetSource([real(host)])
    query = LogQuery(50, "a.b", "err")
    found = source.read_log("web1", make_app("shop", []), make_worker(1), query)
    assert found.lines == [{"stream": "out", "text": "one"}, {"stream": "err", "text": "two"}]
    words = host.agent.asked[-1]["words"]
    assert words == ["shop", "--lines", "50", "--nostream", "--json", "--err", "--grep", r"(?i)a\.b"]


def test_a_search_also_works_where_an_older_percore_knows_none() -> None:
    host = FakeHost()
    host.connect()
    answer = host.agent.ask

    def refuse(op: str, *, words: list[str], **message: Any) -> dict[str, Any]:
        if "--grep" in words:
            raise PercoreError("'percore logs' ended with code 2")
        return answer(op, words=words, **message)

    host.agent.ask = refuse  # type: ignore[method-assign, assignment]
    host.agent.lines = [
        '{"message": "GET /cart", "type": "out", "process_id": 1, "app_name": "shop"}',
        '{"message": "GET /pay", "type": "out", "process_id": 1, "app_name": "shop"}',
    ]
    found = FleetSource([real(host)]).read_log("web1", make_app("shop", []), make_worker(1), LogQuery(50, "CART"))
    assert [line["text"] for line in found.lines] == ["GET /cart"]


def test_an_order_goes_over_a_connection_of_its_own_so_that_the_lock_is_let_go() -> None:
    host = FakeHost()
    host.connect()
    assert (
        FleetSource([real(host)]).carry_out(PageOrder("web1", "shop", "scale", "6")).startswith("scaled to 6 workers")
    )
    looking, acting = host.agents
    assert (looking.asked, looking.is_closed, acting.is_closed) == ([], False, True)
    asked = acting.asked[0]
    assert (asked["op"], asked["verb"], asked["app"], asked["count"]) == ("control", "scale", "shop", "6")
    assert asked["owner"]


def test_two_hundred_hosts_are_looked_at_and_shown_in_less_than_a_second() -> None:
    board = PageBoard("production", FakeSource(), every=2.0, is_fleet=True)
    hosts = [FakeHost(f"web{number}") for number in range(200)]
    began = time.thread_time()
    watch = watch_into(board, [real(host) for host in hosts])
    for host in hosts:
        host.connect()
        watch._note(watch._look(real(host)))
    shown = board.snapshot()
    took = time.thread_time() - began
    assert sum(app["up"] for host in shown["hosts"] for app in host["apps"]) == 200 * WORKERS
    assert took < 1.0


def test_a_host_comes_onto_the_page_by_itself_and_goes_when_it_is_lost() -> None:
    board = PageBoard("production", FakeSource(), every=2.0, is_fleet=True)
    host = FakeHost()
    watch = watch_into(board, [real(host)])
    watch.start()
    try:
        wait_for(lambda: board.snapshot()["hosts"] and board.snapshot()["hosts"][0]["apps"], "its figures")
        host.fault = UnreachableError("connection refused")
        host.agent.ask = _lost  # type: ignore[method-assign]
        watch.look_again("web1")
        wait_for(lambda: board.snapshot()["hosts"][0]["problem"] == "the link is cut", "the reason")
        assert board.snapshot()["hosts"][0]["apps"], "the last figures stay"
    finally:
        watch.close()


def _lost(op: str, **_: Any) -> dict[str, Any]:
    raise UnreachableError("the link is cut")


def test_without_the_key_of_the_printed_address_nothing_is_shown() -> None:
    token = Token("k" * 32, Right.READING)
    access = Access([token], port=0)
    board = PageBoard("production", FakeSource(), every=2.0, is_fleet=True)
    routes = [enter_route(access, token), *board.routes()]
    with serving(board, access=access, routes=routes) as url:
        assert _status(url + "api/snapshot") == 401
        assert _status(url + "enter/" + "x" * 32) == 403
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        request = urllib.request.Request(url + "enter/" + token.secret, headers={"Accept": "text/html"})
        with opener.open(request, timeout=10) as page:
            assert b"<!doctype html>" in page.read()
        with opener.open(url + "api/snapshot", timeout=10) as answer:
            assert b'"may_act":false' in answer.read()


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_report_is_refused_before_any_host_is_asked_where_its_directory_is_missing(tmp_path: Path) -> None:
    scope: Any = None  # nothing is asked of it
    with pytest.raises(UsageError, match=r"there is no directory .*none -> make it"):
        serve.write_report(scope, Report(quiet=True), output=str(tmp_path / "none" / "report.html"), seconds=2)
    assert not (tmp_path / "none").exists()
