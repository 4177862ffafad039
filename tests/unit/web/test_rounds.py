"""The rounds: how often the supervisor and workers are asked, and whose answer it was."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from percore.supervisor.base.home import Home
from percore.supervisor.base.loop import Loop
from percore.supervisor.core.worker.figures import Counts, Farewells
from percore.web import snapshot as snapshot_module
from percore.web.app_metrics import collect
from percore.web.app_metrics.page import read_page
from percore.web.app_metrics.scrape import Scraped, ScrapeError
from percore.web.snapshot import Snapshots

PAGE = "# TYPE requests_total counter\nrequests_total 5\n"
OURS, ANOTHER = os.getpid(), os.getppid()


def rounds(
    home: Path, monkeypatch: pytest.MonkeyPatch, *pids: int, holder: int = 0
) -> tuple[collect.AppMetrics, list[int]]:
    """`pids`: of the one worker, look by look; the last one stays."""
    left, asked = list(pids), []

    def ask(_: Home, op: str, **__: object) -> dict[str, Any]:
        if op == "ping":
            return {"pid": 1}
        if op == "describe":
            config = {"app_metrics": "/metrics"}
            return {"workers": [{"name": "shop", "config": config, "sharing": "steered"}]}
        pid = left.pop(0) if len(left) > 1 else left[0]
        worker = {"slot": 0, "pid": pid, "state": "running", "role": "current", "port": 3000}
        return {
            "apps": [{"name": "shop", "workers": [worker], "addresses": ["[::]:3000"], "port": 3000}],
            "release": "",
        }

    def scrape(target: Any, seconds: float) -> Scraped:
        asked.append(target.pid)
        return Scraped(target, read_page(PAGE), holder, 1.0)

    monkeypatch.setattr(snapshot_module, "FRESH_SECONDS", 0.01)
    monkeypatch.setattr(collect, "scrape", scrape)
    return collect.AppMetrics(Home(str(home)), Snapshots(Home(str(home)), ask)), asked


def total(metrics: collect.AppMetrics) -> list[float]:
    return [each.value for family in metrics.families("shop") or () for each in family.samples]


def test_the_process_that_answered_is_believed_at_once_where_it_can_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, asked = rounds(tmp_path, monkeypatch, OURS, holder=OURS)
    threads = [threading.Thread(target=metrics.refresh) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == [OURS]  # once for all who read within a second
    assert total(metrics) == [5]
    assert metrics.results[0].problem == ""


def test_where_it_cannot_be_seen_the_worker_must_still_be_there_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, _ = rounds(tmp_path, monkeypatch, OURS)
    metrics.refresh()
    assert total(metrics) == [5]


def test_an_answer_of_which_nobody_knows_whose_it_was_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, _ = rounds(tmp_path, monkeypatch, OURS, ANOTHER)
    metrics.refresh()
    assert total(metrics) == []
    assert "it was replaced meanwhile" in metrics.results[0].problem


def test_a_problem_is_logged_once_and_only_where_the_next_round_has_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, _ = rounds(tmp_path, monkeypatch, OURS, holder=OURS)
    read, said = collect.scrape, []
    failures = iter(["replaced", "", "refused", "refused", "refused", ""])

    def scrape(*words: Any) -> Scraped:
        if failure := next(failures):
            raise ScrapeError(failure)
        return read(*words)

    monkeypatch.setattr(collect, "scrape", scrape)
    monkeypatch.setattr(collect, "_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(collect, "log", said.append)
    for _ in range(6):
        metrics.refresh()
    assert said == ["percore web: no metrics of shop 0: refused"]


# -- what the supervisor does for them -----------------------------------------------------------------------------------


def test_a_worker_ends_when_all_readers_have_answered_and_at_once_where_there_is_none() -> None:
    loop, ended = Loop(), []
    farewells = Farewells(loop)
    farewells.say("shop", 0, 1, lambda: ended.append(1))
    assert ended == [1]
    told: list[Any] = []
    for _ in range(2):
        farewells.listen(told.append)
    farewells.say("shop", 0, 2, lambda: ended.append(2))
    assert [message["event"] for message in told] == ["farewell", "farewell"]
    farewells.answered(2)
    assert ended == [1]
    farewells.answered(2)
    assert ended == [1, 2]
    farewells.answered(3)  # of a worker that nobody waits for
    assert ended == [1, 2]


def test_readers_are_few_and_the_oldest_makes_way() -> None:
    farewells, told = Farewells(Loop()), []
    for number in range(6):
        farewells.listen(lambda message, number=number: told.append((number, message["event"])))  # type: ignore[misc]
    assert told == [(0, "result"), (1, "result")]


def test_counts_follow_an_app_that_is_renamed_and_go_with_it() -> None:
    counts = Counts()
    counts.add("a", "crash")
    counts.restore("b", {"crash": 3})
    counts.rename("a", "c")
    counts.add("c", "crash", 2)
    assert (counts.of("a"), counts.of("b"), counts.of("c")) == ({}, {"crash": 3}, {"crash": 3})
    counts.keep(["c"])
    assert (counts.of("b"), counts.of("c")) == ({}, {"crash": 3})
