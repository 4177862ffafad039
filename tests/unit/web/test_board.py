"""What the dashboard answers, to whom, and what it refuses; its files; a log's last lines; the report."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import runpy
import threading
from pathlib import Path
from typing import Any

import pytest
import setuptools

import percore
from percore.errors import PercoreError, UsageError
from percore.web.dashboard import assets
from percore.web.dashboard.board import PageBoard
from percore.web.dashboard.log_lines import LogQuery, read_query
from percore.web.dashboard.log_tail import tail
from percore.web.dashboard.one_file import render_report
from percore.web.dashboard.orders import Orders, PageOrder, read_order
from percore.web.http import HttpRequest, HttpResponse, Right, find_route
from tests.pages import FakeSource, fill, make_app, make_worker, usual_sample
from tests.waiting import wait_for


@pytest.fixture
def board() -> PageBoard:
    made = PageBoard("web1", FakeSource(), every=2.0)
    fill(made, "web1", [usual_sample(step) for step in range(5)])
    return made


def ask(
    board: PageBoard,
    path: str,
    *,
    body: bytes | None = None,
    accept: str = "",
    right: Right = Right.READING,
    **query: str,
) -> HttpResponse:
    """With a body it is a POST."""
    method = "GET" if body is None else "POST"
    given = {name: [value] for name, value in query.items()}
    request = HttpRequest(method, path, given, {"accept": accept}, body or b"", right)
    route, rest, _ = find_route(board.routes(), request)
    assert route
    return route.answer(request._replace(rest=rest))


def said(response: HttpResponse) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(response.body)
    return found


# -- routes ----------------------------------------------------------------------------------------------------------


def test_only_an_order_needs_the_right_to_act_and_logs_need_the_right_to_read(board: PageBoard) -> None:
    needed = {route.path: (route.method, route.needs) for route in board.routes()}
    assert needed.pop("/api/orders") == ("POST", Right.ACTIONS)
    assert needed.pop("/assets/*") == ("GET", Right.NOTHING)
    assert set(needed.values()) == {("GET", Right.READING)}


def test_what_a_client_may_not_do_is_not_offered_to_it(board: PageBoard) -> None:
    offers = [said(ask(board, "/api/snapshot", right=right))["may_act"] for right in (Right.READING, Right.ACTIONS)]
    assert offers == [False, True]


def test_a_browser_gets_the_page_and_a_program_what_others_answer(board: PageBoard) -> None:
    assert b"<!doctype html>" in ask(board, "/", accept="text/html,*/*").body
    request = HttpRequest("GET", "/", {}, {"accept": "*/*"}, b"", Right.READING)
    assert find_route(board.routes(), request) == (None, "", False)


def test_the_snapshot_has_every_app_and_its_sums(board: PageBoard) -> None:
    host = said(ask(board, "/api/snapshot"))["hosts"][0]
    shop = next(app for app in host["apps"] if app["name"] == "shop")
    assert (shop["up"], shop["wanted"], shop["open"], shop["memory"]) == (4, 4, 12, 4 * (90 << 20))
    assert [app["problem"] for app in host["apps"]] == ["", "exited with code 1", ""]


def test_one_app_is_told_with_its_workers_and_their_history(board: PageBoard) -> None:
    workers = said(ask(board, "/api/app", host="web1", app="shop"))["workers"]
    assert [worker["slot"] for worker in workers] == [0, 1, 2, 3]
    history = said(ask(board, "/api/history", host="web1", app="shop", parts="1"))
    assert sorted(history["parts"]) == ["0", "1", "2", "3"]
    known = [value for value in history["values"]["open"] if value is not None]
    assert known
    assert set(known) == {12.0}


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/app", {"host": "web1", "app": "none"}),
        ("/api/app", {"host": "none", "app": "shop"}),
        ("/api/history", {"seconds": "77"}),
        ("/api/history", {"seconds": "nan"}),
        ("/api/history", {"since": "-1"}),
        ("/api/log", {"host": "web1", "app": "shop", "worker": "99"}),
        ("/api/log", {"host": "web1", "app": "shop", "lines": "100000"}),
        ("/api/log", {"host": "web1", "app": "shop", "stream": "both"}),
        ("/api/log", {"host": "web1", "app": "shop", "search": "x" * 201}),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(board: PageBoard, path: str, query: dict[str, str]) -> None:
    response = ask(board, path, **query)
    assert response.status == 400
    assert said(response)["error"]


# -- orders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"host": "web1", "app": "shop"},
        {"host": "web1", "app": "shop", "verb": "delete"},
        {"host": "web1", "app": ["shop"], "verb": "reload"},
        {"host": "web1", "app": "shop", "verb": "scale"},
        {"host": "web1", "app": "shop", "verb": "scale", "workers": "0"},
        {"host": "web1", "app": "shop", "verb": "scale", "workers": "+1"},
        {"host": "web1", "app": "shop", "verb": "scale", "workers": "99999"},
        {"host": "web1", "app": "x" * 301, "verb": "reload"},
    ],
)
def test_an_order_that_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        read_order(given)


def test_an_order_for_an_app_that_is_not_there_is_refused(board: PageBoard) -> None:
    body = json.dumps({"host": "web1", "app": "none", "verb": "reload"}).encode()
    assert ask(board, "/api/orders", body=body, right=Right.ACTIONS).status == 400


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 20_000])
def test_an_order_that_is_no_json_is_refused(board: PageBoard, body: bytes) -> None:
    assert ask(board, "/api/orders", body=body, right=Right.ACTIONS).status == 400


def test_an_app_has_one_order_at_a_time_and_how_it_ended_is_told() -> None:
    events: list[str] = []
    goes_on = threading.Event()

    def carry_out(order: PageOrder) -> str:
        goes_on.wait(10)
        if order.verb == "restart":
            raise PercoreError("a worker failed")
        return ""

    orders = Orders(carry_out, lambda host, app, kind, text: events.append(f"{kind} {app} {text}"))
    orders.begin(PageOrder("web1", "shop", "reload"))
    orders.begin(PageOrder("web1", "blog", "restart"))
    with pytest.raises(UsageError, match="'reload' of shop is not done yet"):
        orders.begin(PageOrder("web1", "shop", "restart"))
    assert [one["app"] for one in orders.running()] == ["shop", "blog"]
    goes_on.set()
    wait_for(lambda: len(events) == 4, "both to end")
    assert set(events[2:]) == {"good shop reload: done", "bad blog restart failed: a worker failed"}
    assert orders.running() == []


# -- logs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def worker(tmp_path: Path) -> dict[str, str]:
    out, err = tmp_path / "out.log", tmp_path / "err.log"
    out.write_text("2026-11-29T10:00:01 first\n  more of it\n2026-11-29T10:00:05 last\n")
    err.write_text("2026-11-29T10:00:03 \x1b[31mWarning\x1b[0m <script>\n")
    return {"out_file": str(out), "error_file": str(err)}


def shown(worker: dict[str, str], **query: Any) -> list[str]:
    return [line["text"] for line in tail(worker, None, LogQuery(**query)).lines]


def test_both_streams_are_shown_in_the_order_of_time(worker: dict[str, str]) -> None:
    lines = shown(worker)
    assert [line.split(" ")[-1] for line in lines] == ["first", "it", "<script>", "last"]


def test_escape_sequences_do_not_reach_the_page(worker: dict[str, str]) -> None:
    assert "\x1b" not in "".join(shown(worker))
    assert shown(worker, stream="err") == ["2026-11-29T10:00:03 Warning <script>"]


def test_a_search_finds_lines_whatever_their_case_far_above_those_that_are_shown(worker: dict[str, str]) -> None:
    with open(worker["out_file"], "a") as log:
        log.writelines(f"line {number}\n" for number in range(5_000))
    assert shown(worker, search="FIRST", lines=10) == ["2026-11-29T10:00:01 first"]
    assert shown(worker, lines=3) == ["line 4997", "line 4998", "line 4999"]


def test_lines_without_a_time_stay_with_their_log_and_the_log_that_was_written_last_comes_last(tmp_path: Path) -> None:
    out, err = tmp_path / "out.log", tmp_path / "err.log"
    out.write_text("one\ntwo\n")
    err.write_text("cold\n")
    os.utime(err, (1, 1))
    assert shown({"out_file": str(out), "error_file": str(err)}) == ["cold", "one", "two"]


def test_a_log_that_cannot_be_read_is_named_and_the_other_is_shown(worker: dict[str, str], tmp_path: Path) -> None:
    os.unlink(worker["error_file"])
    os.mkdir(worker["error_file"])
    reply = tail(worker, None, LogQuery())
    assert worker["error_file"] in reply.problem
    assert len(reply.lines) == 3


def test_an_endless_line_costs_no_more_than_its_beginning(tmp_path: Path) -> None:
    out = tmp_path / "out.log"
    out.write_bytes(b"x" * (3 << 20))
    assert [len(line) for line in shown({"out_file": str(out), "error_file": os.devnull})] == [4096]


def test_the_usual_query_shows_two_hundred_lines_of_both_streams() -> None:
    assert read_query({}) == LogQuery(200, "", "all")


# -- files -----------------------------------------------------------------------------------------------------------


def test_the_page_names_its_own_files_alone_and_they_are_there() -> None:
    page = (assets.read_asset(assets.PAGE) or b"").decode()
    named = re.findall(r'(?:src|href)="([^#"]+)"', page)
    assert {name.removeprefix("assets/") for name in named} == {*assets.STYLES, *assets.SCRIPTS, "icon.svg"}
    assert all(assets.read_asset(name) for name in (*assets.STYLES, *assets.SCRIPTS, "icon.svg"))
    assert "unsafe" not in assets.POLICY
    assert not re.search(r"<script>|style=|\son\w+=", page)


@pytest.mark.parametrize("name", ["../board.py", "index.html", "uPlot.version", "none.js", "/etc/passwd"])
def test_no_other_file_is_served(board: PageBoard, name: str) -> None:
    assert ask(board, f"/assets/{name}").status == 404


def test_scripts_write_text_and_never_html() -> None:
    for name in assets.SCRIPTS[1:]:
        text = (assets.read_asset(name) or b"").decode()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), name


def test_the_library_of_the_charts_is_the_one_that_the_build_names_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    build = runpy.run_path(str(Path(percore.__file__).parent.parent / "setup.py"))
    assert (build["CHARTS"] / "uPlot.version").read_text() == build["UPLOT"]
    assert b"MIT" in (build["CHARTS"] / "uPlot.LICENSE").read_bytes()
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho other >uplot.tgz\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(OSError, match="is not what it should be"):
        build["fetch_charts"](tmp_path)
    assert not list(tmp_path.glob("uPlot*"))


def test_a_report_is_one_file_that_asks_nobody_and_whose_policy_names_each_script(board: PageBoard) -> None:
    evil = make_app("</script><script>alert(1)</script>", [make_worker(0)])
    board.take("web1", usual_sample()._replace(apps=[evil]), 1_795_990_000.0)
    page = render_report(board).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == len(assets.SCRIPTS)
    for text in scripts:
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy[1]
    assert "assets/" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    data = re.search(r'id="report">(.*?)</script>', page, re.DOTALL)
    assert data
    assert set(json.loads(data[1])) >= {"api/snapshot\n\n", "api/history\n\n", f"api/app\nweb1\n{evil.name}"}
