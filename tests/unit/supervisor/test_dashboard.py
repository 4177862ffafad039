"""The lines of `percore monit`, without a terminal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from percore.common.connections import Connections
from percore.supervisor.commands.monit import Monitor
from percore.supervisor.commands.monit_view import Dashboard
from percore.supervisor.commands.screen import cells, fit, plain


def worker(number: int, name: str = "api", **fields: Any) -> dict[str, Any]:
    return {
        "id": number, "name": name, "slot": number, "mode": "cluster", "pid": 100 + number, "state": "running", "failure": "",
        "crash_looping": False, "cpu_percent": 1.0, "memory_bytes": 50 << 20, "restarts": 0, "uptime_seconds": 70.0,
        "wanted": True, **fields,
    }  # fmt: skip


def text(board: Dashboard, width: int = 140, height: int = 20) -> list[str]:
    return ["".join(span.text for span in line) for line in board.lines(width, height)]


@pytest.mark.parametrize("width", [1, 7, 20, 40, 80, 140])
@pytest.mark.parametrize("height", [0, 1, 2, 3, 4, 8, 30])
def test_every_size_of_terminal_gets_as_many_lines_as_it_has_and_none_too_long(width: int, height: int) -> None:
    board = Dashboard()
    board.host = "host: " + "x" * 200
    board.update([worker(number, "a很长的名字", failure="why") for number in range(12)])
    lines = text(board, width, height)
    assert len(lines) == height
    assert all(cells(line) <= width for line in lines)


def test_a_narrow_terminal_keeps_id_name_and_status() -> None:
    board = Dashboard()
    board.update([worker(0)])
    assert text(board, 36)[1].split()[:3] == ["id", "name", "status"]


def test_a_long_name_gets_the_space_that_is_there() -> None:
    board = Dashboard()
    board.update([worker(0, "a-rather-long-name-of-an-app")])
    assert "a-rather-long-name-of-an-app 0 " in text(board, 200)[2]
    assert text(board, 36)[2].split()[-1] == "online"


def test_the_selection_stays_with_its_worker_and_moves_in_the_shown_order() -> None:
    board = Dashboard()
    board.update([worker(0, cpu_percent=1.0), worker(1, cpu_percent=9.0), worker(2, "job", cpu_percent=5.0)])
    while board.sort != "cpu":
        board.sort_by_next()
    assert [row["id"] for row in board.rows] == [1, 2, 0]
    board.move(1)
    board.move(-9)
    assert board.selected == 1
    board.set_filter("job")
    assert board.selected == 2
    board.update([worker(0)])
    assert board.selected is None
    assert "no name contains 'job'" in "\n".join(text(board))


def test_a_long_list_scrolls_with_the_selection() -> None:
    board = Dashboard()
    board.update([worker(number) for number in range(50)])
    board.move(40)
    assert any("api 40" in line for line in text(board, height=12))
    board.move(-40)
    assert "api 0" in text(board, height=12)[2]


def test_connections_are_shown_where_they_are_known() -> None:
    board = Dashboard()
    board.update([worker(0), worker(1)])
    board.connections = {0: Connections(7, 3, 90), 1: Connections(2, 0, None)}
    lines = text(board)
    assert lines[2].split()[-3:] == ["90", "7", "3"]
    assert lines[3].split()[-3:] == ["-", "2", "0"]


def test_escape_sequences_and_control_characters_of_a_log_do_not_reach_the_terminal() -> None:
    assert plain("\x1b[31mred\x1b[0m\x1b]0;title\x07\ta\x08b\x1b") == "red a b "


def test_wide_characters_are_counted_as_two_cells() -> None:
    assert fit("很好", 3) == "很 "
    assert fit("5%", 4, left=False) == "  5%"


@pytest.mark.parametrize(("mode", "asks"), [("cluster", False), ("fork", True)])
def test_a_second_worker_of_a_singleton_needs_a_yes(mode: str, asks: bool) -> None:
    monitor, scaled = Monitor.__new__(Monitor), list[str]()
    monitor._board, monitor._question, monitor._scale = Dashboard(), None, scaled.append  # type: ignore[method-assign]
    monitor._filter, monitor._screen = SimpleNamespace(begin=None), None  # type: ignore[assignment]
    monitor._board.update([worker(0, mode=mode)])
    monitor._make_keys()[ord("+")]()
    assert (scaled, monitor._board.message) == (([], "one worker more of api? y/n") if asks else (["+1"], ""))
    if monitor._question:
        monitor._question[1]()
    assert scaled == ["+1"]
