"""The journal of a switch, and whatever is cut short in it: what was noted is read, and what was not is as if it had not been."""

from __future__ import annotations

from pathlib import Path

import pytest

from percore.host.release.change.journal import Journal
from percore.host.release.history import History


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(str(tmp_path / ".pending"))
    made.begin(release="r2", run="1")
    made.note("restore", spec={"kind": "file", "path": "/etc/a"})
    return made


def cut(path: str, count: int) -> None:
    """As a power cut leaves it: `count` bytes of the last line are missing."""
    file = Path(path)
    file.write_bytes(file.read_bytes()[:-count])


def names(journal: Journal) -> list[str]:
    return [entry["what"] for entry in journal.read()]


def test_what_was_noted_is_read_in_its_order_until_the_switch_ends(journal: Journal) -> None:
    assert names(journal) == ["begin", "restore"]
    assert journal.has("restore")
    assert not journal.has("switched")
    journal.end()
    assert journal.read() == []
    assert list(Path(journal.path).parent.iterdir()) == []


@pytest.mark.parametrize("count", [1, 2, 20])
def test_a_line_that_was_cut_short_was_not_done_yet(journal: Journal, count: int) -> None:
    cut(journal.path, count)
    assert names(journal) == ["begin"]


@pytest.mark.parametrize("count", [1, 2, 20])
def test_what_the_next_agent_notes_after_a_cut_line_is_read_by_the_one_after_it(journal: Journal, count: int) -> None:
    cut(journal.path, count)
    journal.note("undoing")
    journal.note("agent", pid=7)
    assert names(journal) == ["begin", "undoing", "agent"]


def test_a_switch_whose_first_line_was_cut_was_not_begun(journal: Journal) -> None:
    Path(journal.path).write_bytes(b'{"what": "begin", "rel')
    assert journal.read() == []


def test_a_cut_line_of_the_history_costs_no_other(tmp_path: Path) -> None:
    history = History(str(tmp_path / "history.jsonl"))
    for what in ("deploy", "rollback"):
        history.add(what=what)
    cut(history.path, 5)
    history.add(what="converge")
    assert [entry["what"] for entry in history.last(5)] == ["deploy", "converge"]
