"""Lines of many hosts in the order of time, whatever their clocks and however fast they send."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from percore.deploy.fleet import merge
from percore.deploy.fleet.logs import LogWish, _words_of, moment_of, read_line
from percore.deploy.fleet.merge import LiveMerge, OrderedMerge
from percore.errors import UsageError


def feed(target: Any, streams: dict[str, list[tuple[float | None, str]]]) -> list[str]:
    def send(name: str) -> None:
        for moment, text in streams[name]:
            target.put(name, moment, text)
        target.end(name)

    threads = [threading.Thread(target=send, args=(name,), daemon=True) for name in streams]
    for thread in threads:
        thread.start()
    return list(target.lines())


def test_lines_of_all_hosts_come_in_the_order_of_time() -> None:
    streams: dict[str, list[tuple[float | None, str]]] = {
        "a": [(1, "a1"), (None, "a1 trace"), (5, "a5")], "b": [(2, "b2"), (3, "b3")], "c": []
    }  # fmt: skip
    assert feed(OrderedMerge([*streams]), streams) == ["a1", "a1 trace", "b2", "b3", "a5"]


def test_a_host_that_sends_much_waits_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "MOST_WAITING", 10)
    streams: dict[str, list[tuple[float | None, str]]] = {
        "fast": [(number, f"fast {number}") for number in range(1000)],
        "slow": [(500.5, "slow")],
    }
    found = feed(OrderedMerge([*streams]), streams)
    assert found.index("slow") == 501
    assert len(found) == 1001


def test_new_lines_are_sorted_as_they_come() -> None:
    live: LiveMerge[str] = LiveMerge(["a", "b"])
    now = time.time()
    live.put("a", now + 2, "second")
    live.put("b", now + 1, "first")
    live.put("b", None, "first, trace")
    lines = live.lines()
    assert [next(lines) for _ in range(3)] == ["first", "first, trace", "second"]
    live.put("a", now, "late")
    live.end("a")
    live.end("b")
    assert [*lines] == ["late"]


def test_a_line_is_read_with_its_time_and_anything_else_shown_as_it_is() -> None:
    said = {"message": "hi", "timestamp": "1970-01-01T00:00:10.500Z", "type": "out", "process_id": 3, "app_name": "api"}
    line = read_line("web1", json.dumps(said))
    assert (line.text, moment_of(line)) == ("3|api | hi", 10.5)
    assert moment_of(read_line("web1", json.dumps({**said, "untimed": True}))) is None
    for odd in ("warning: x", "{", '{"message": 1}', '{"message": "x"}', "[" * 100_000, '{"a":' * 5000):
        assert read_line("web1", odd).text == odd
        assert moment_of(read_line("web1", odd)) is None
    assert moment_of(read_line("web1", json.dumps({**said, "timestamp": 7}))) is None


def test_a_host_whose_clock_is_ahead_is_asked_for_its_own_times() -> None:
    words = _words_of(LogWish(app="api", since="@1000", until="@2000.5", grep="a b", err=True))
    assert words(0) == ["api", "--json", "--nostream", "--since=@1000.000", "--until=@2000.500", "--grep=a b", "--err"]
    assert "--since=@1060.000" in words(60)
    assert _words_of(LogWish())(0) == ["--json", "--nostream", "--lines", "20"]
    assert "--lines" not in _words_of(LogWish(since="1h"))(0), "all of them"


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        (LogWish(since="soon"), "--since: 'soon' is no time"),
        (LogWish(until="later"), "--until: 'later' is no time"),
        (LogWish(grep="("), "--grep: '(' is no regular expression"),
        (LogWish(lines="many"), "--lines: 'many' is no number"),
        (LogWish(follow=True, until="1m"), "--follow has no end"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_host_is_asked(wish: LogWish, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        _words_of(wish)
    assert str(caught.value).startswith(told)
