"""What `invoke top` shows of many hosts, and how it looks at them."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from percore.deploy.fleet import watch
from percore.deploy.fleet.top_view import TopBoard
from percore.deploy.fleet.watch import AWAY, CONNECTING, UP, HostView, LiveHosts
from percore.errors import UnreachableError
from tests.waiting import wait_for


def worker(slot: int, **changed: Any) -> Any:
    return {
        "slot": slot, "pid": 100 + slot, "state": "running", "release": "20260101120000-0a1b2c3d", "port": 80,
        "memory_bytes": 50 << 20, "cpu_percent": 10.0, "uptime_seconds": 60.0, "restarts": 0, **changed,
    }  # fmt: skip


def host(name: str, *workers: Any, app: str = "api") -> HostView:
    return HostView(name, UP, "", [{"name": app, "mode": "cluster", "wanted": len(workers), "workers": [*workers]}])


def screen(board: TopBoard, width: int = 80, height: int = 24) -> list[str]:
    lines = ["".join(span.text for span in line) for line in board.lines(width, height)]
    assert len(lines) == height
    assert all(len(line) <= width for line in lines)
    return [line.rstrip() for line in lines]


@pytest.fixture
def board() -> TopBoard:
    made = TopBoard("production")
    made.update(
        [host("web1", worker(0), worker(1, cpu_percent=90.0)), host("web2", worker(0, state="backoff", restarts=7))]
    )
    return made


def test_workers_of_all_hosts_stand_in_a_plain_terminal(board: TopBoard) -> None:
    shown = screen(board)
    assert shown[0] == "production: 2 of 2 hosts; 3 workers, 1 failing; cpu 1.1 cores, mem 150M"
    assert shown[1].split() == ["host", "worker", "status", "cpu", "mem", "restarts", "up", "pid"]
    assert shown[2].split() == ["web1", "api", "0", "running", "10%", "50.0M", "0", "1m", "100"]
    assert shown[4].split()[3] == "backoff"
    assert "release" in screen(board, 120)[1]
    assert screen(board, 20, 6)[1].split()[0] == "host"
    assert board.lines(0, 0) == []


def test_a_host_that_is_away_shows_why_and_none_of_its_former_workers(board: TopBoard) -> None:
    board.update(
        [host("web1", worker(0)), HostView("web2", AWAY, "the link \x1b[2J is cut"), HostView("web3", CONNECTING)]
    )
    shown = screen(board)
    assert shown[0].startswith("production: 1 of 3 hosts, 1 away, 1 connecting; 1 workers")
    assert shown[3] == "web2         away: the link \\x1b[2J is cut"
    assert shown[4] == "web3         connecting"


def test_rows_are_filtered_and_sorted_and_the_selected_one_stays(board: TopBoard) -> None:
    board.move(1)
    assert board.current
    assert board.current.key == ("web1", "api", 1)
    while board.sort != "cpu":
        board.sort_by(1)
    assert board.rows[0].key == ("web1", "api", 1)
    assert board.current.key == ("web1", "api", 1)
    board.set_filter("backoff")
    assert [row.host for row in board.rows] == ["web2"]
    assert board.current.host == "web2"
    board.set_filter("nothing")
    assert "nothing contains 'nothing'" in screen(board)[2]
    assert board.current is None
    board.sort_by(-1)
    board.set_filter("")
    assert len(board.rows) == 3


def test_a_long_table_scrolls_with_the_selected_row() -> None:
    board = TopBoard("production")
    board.update([host(f"web{number:03}", worker(0)) for number in range(200)])
    assert "web000" in screen(board)[2]
    board.move_page(1)
    board.move(1)
    assert any(line.startswith("web022") for line in screen(board))
    board.move(1000)
    assert screen(board)[22].startswith("web199")


def test_two_hundred_hosts_are_sorted_and_drawn_in_a_fraction_of_a_second() -> None:
    views = [host(f"web{number:03}", *(worker(slot) for slot in range(8))) for number in range(200)]
    board = TopBoard("production")
    began = time.process_time()
    board.update(views)
    board.lines(120, 50)
    assert time.process_time() - began < 0.5


class FakeHost:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.forks, self.remote, self.log = name, 4, None, log
        self.is_cut = False

    def connect(self) -> None:
        self.log.append(f"connect {self.name}")
        if self.is_cut:
            raise UnreachableError("no route", where=self.name)
        self.remote = SimpleNamespace(close=lambda **_: self.log.append(f"close {self.name}"))  # type: ignore[assignment]

    def ask(self, op: str) -> Any:
        if self.is_cut:
            raise UnreachableError("the link is cut", where=self.name)
        return {"status": {"apps": [{"name": "api", "workers": [worker(0)]}]}}


def test_a_host_that_goes_away_is_shown_so_and_comes_back_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "FIRST_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(watch, "LAST_RETRY_SECONDS", 0.05)
    log: list[str] = []
    hosts = [FakeHost("web1", log), FakeHost("web2", log)]
    told = threading.Event()
    looks = LiveHosts(hosts, 0.01, lambda _: told.set())  # type: ignore[arg-type]
    looks.start()

    def state() -> list[str]:
        return [view.state for view in looks.views()]

    try:
        wait_for(lambda: state() == [UP, UP], "both hosts to be seen")
        assert told.is_set()
        hosts[1].is_cut = True
        wait_for(lambda: state() == [UP, AWAY], "one to be away")
        assert looks.views()[1].apps == ()
        assert looks.views()[1].reason in ("the link is cut", "no route")
        wait_for(lambda: log.count("connect web2") >= 3, "it to be tried again")
        hosts[1].is_cut = False
        wait_for(lambda: state() == [UP, UP], "it to be back")
        assert log.count("connect web1") == 1, "one connection for as long as it holds"
        assert "close web2" in log
    finally:
        looks.close()


def test_a_host_whose_link_is_cut_without_a_word_is_away_and_its_connection_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "FIRST_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(watch, "STALE_SECONDS", 0.1)
    monkeypatch.setattr(watch, "GIVEN_UP_SECONDS", 0.3)
    log: list[str] = []
    closed = threading.Event()

    class SilentHost(FakeHost):
        def connect(self) -> None:
            super().connect()
            self.remote = SimpleNamespace(close=lambda **_: closed.set())  # type: ignore[assignment]

        def ask(self, op: str) -> Any:
            if len(log) == 1:
                log.append("cut")
                return super().ask(op)
            if log[-1] == "cut":
                closed.wait(20)
                raise UnreachableError("it was closed", where=self.name)
            return super().ask(op)

    looks = LiveHosts([SilentHost("web1", log)], 0.01, lambda _: None)  # type: ignore[list-item]
    looks.start()
    try:
        wait_for(lambda: looks.views()[0].reason.startswith("no answer for"), "it to be away")
        assert looks.views()[0].state == AWAY
        wait_for(lambda: looks.views()[0].state == UP and log[-1] == "connect web1", "it to be back")
        assert closed.is_set()
    finally:
        looks.close()
