"""Which lines of a log are shown for --since, --until and --grep, and what is said of lines that tell no time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from percore.supervisor.commands import logs
from percore.supervisor.commands.logs import LogSource
from percore.supervisor.logs.selection import LogSelection, read_moment, read_selection, with_moments

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds_ago"),
    [("10m", 600), ("2h", 7200), ("1.5d", 129_600), ("90 s", 90), ("1w", 604_800), ("5min", 300)],
)
def test_a_time_may_be_told_as_how_long_ago_it_was(text: str, seconds_ago: float) -> None:
    assert read_moment(text, NOW) == NOW - seconds_ago


def test_a_time_may_be_a_moment_a_day_a_time_of_today_or_seconds_since_1970() -> None:
    assert read_moment("2026-05-06T07:08:09Z", NOW) == 1_778_051_289
    assert read_moment("2026-05-06T07:08Z", NOW) == 1_778_051_280
    assert read_moment("2026-05-06 07:08:09+02:00", NOW) == 1_778_051_289 - 7200
    assert read_moment("@1778051289.5", NOW) == 1_778_051_289.5
    midnight = time.mktime((*time.localtime(NOW)[:3], 0, 0, 0, 0, 0, -1))
    assert read_moment(time.strftime("%Y-%m-%d", time.localtime(NOW)), NOW) == midnight
    assert read_moment("14:30", NOW) == midnight + 14.5 * 3600
    assert read_moment("14:30:05", NOW) == midnight + 14.5 * 3600 + 5


@pytest.mark.parametrize(
    "text",
    ["soon", "10", "10y", "-5m", "2026-13-01", "25:99", "@x", "2026-05-06T", "2026-05-06T07:08:09Zx", "1e5s", ""],
)
def test_what_is_no_time_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(ValueError, match="is no time: 10m, 2h"):
        read_moment(text, NOW)


def test_what_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="'1h' is later than '2h'"):
        read_selection("1h", "2h", "")
    with pytest.raises(ValueError, match="unterminated"):
        read_selection("", "", "(")


def test_a_line_without_a_time_belongs_to_the_one_above_it() -> None:
    lines = with_moments([b"boot", b"1970-01-01T00:00:10Z failed", b"  at x.js", b"1970-01-01T00:00:20Z well"])
    assert [line.moment for line in lines] == [10, 10, 10, 20]
    assert [line.moment for line in with_moments([b"more"], 20)] == [20]
    assert [line.moment for line in with_moments([b"a", b"b"])] == [None, None]


class Log:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = self._source()

    def _source(self) -> LogSource:
        worker: dict[str, Any] = {"id": 0, "name": "api", "config": {}}
        return LogSource(worker, "out", str(self.path), begin=None)

    def write(self, *lines: str) -> None:
        self.path.write_text("".join(f"{line}\n" for line in lines))
        self.source = self._source()

    def last(self, count: int | None = None, **asked: str) -> list[str]:
        selection = read_selection(asked.get("since", ""), asked.get("until", ""), asked.get("grep", ""), NOW)
        return [line.text.decode() for line in self.source.last(count, selection)]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    (tmp_path / "api.log").touch()
    return Log(tmp_path / "api.log")


def stamped(seconds_ago: float, text: str) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(NOW - seconds_ago))} {text}"


def test_lines_of_a_span_of_time_are_found_however_many_came_after(log: Log) -> None:
    log.write(*(stamped(9000 - number, f"line {number}") for number in range(9000)))
    assert len(log.last(since="2h")) == 7200
    assert log.last(since="5s")[0].endswith("line 8995")
    assert [line.rpartition(" ")[2] for line in log.last(since="8000s", until="7999s")] == ["1000", "1001"]
    assert [line.rpartition(" ")[2] for line in log.last(2, until="8000s")] == ["999", "1000"]
    assert log.last(3, since="2h")[-1].endswith("line 8999"), "with a number of lines only the last ones"
    assert log.last(since="3h")[0].endswith("line 0")


def test_a_word_is_found_in_lines_before_the_last_ones(log: Log) -> None:
    log.write("needle", *("hay" for _ in range(20_000)), "another needle")
    assert log.last(15, grep="need.e$") == ["needle", "another needle"]
    assert log.last(1, grep="need.e$") == ["another needle"]
    assert log.last(15, grep="absent") == []


def test_a_stack_trace_is_within_the_time_of_its_first_line(log: Log) -> None:
    log.write(stamped(7200, "old"), "  at old.js", stamped(60, "new"), "  at new.js")
    assert log.last(since="10m") == [stamped(60, "new"), "  at new.js"]


def test_of_lines_that_tell_no_time_the_last_are_shown_and_it_is_said(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    log.write(*(f"line {number}" for number in range(100)))
    os.utime(log.path, (NOW - 60, NOW - 60))
    assert log.last(since="10m") == [f"line {number}" for number in range(85, 100)]
    assert "its lines tell no time, so the last ones are shown -> set log_date_format" in capsys.readouterr().err
    os.utime(log.path, (NOW - 3600, NOW - 3600))
    assert log.last(since="10m") == [], "nothing was written since"


def test_no_more_lines_are_looked_through_than_a_host_has_memory_for(
    log: Log, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "_MOST_READ", 4000)
    log.write(*(stamped(9000 - number, "x") for number in range(9000)))
    assert len(log.last(since="3h")) == 4000
    assert "lines before the last 4000 are not looked at" in capsys.readouterr().err


def test_without_a_selection_the_last_lines_are_those_of_the_file(log: Log) -> None:
    log.write(*(f"line {number}" for number in range(100)))
    assert [line.text for line in log.source.last(2, LogSelection())] == [b"line 98", b"line 99"]
