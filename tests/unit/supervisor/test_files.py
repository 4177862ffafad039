"""Logs and state on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from percore.supervisor import snapshot
from percore.supervisor.config import AppConfig
from percore.supervisor.logs import last_lines, log_paths


@pytest.mark.parametrize("size", [1, 100, 200_000])
def test_the_last_lines_are_read_from_the_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"{number} {'x' * size}\n" for number in range(20)))
    assert [line.split()[0] for line in last_lines(str(path), 3)] == ["17", "18", "19"]
    assert last_lines(str(path), 0) == []
    assert last_lines(str(tmp_path / "none"), 3) == []


def test_only_what_one_process_wrote_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\nnew\n")
    assert last_lines(str(path), 10, since=4) == ["new"]


def test_workers_write_files_of_their_own_unless_merged() -> None:
    config = AppConfig("api", "a.js", "/srv", mode="cluster", instances=2)
    assert log_paths(config, 1, "/logs").out == "/logs/api-out-1.log"
    assert log_paths(config._replace(merge_logs=True), 1, "/logs").error == "/logs/api-error.log"
    assert log_paths(config._replace(disable_logs=True), 1, "/logs").out == "/dev/null"
    assert log_paths(AppConfig("one", "a.js", "/srv", out_file="log/o.txt"), 0, "/logs").out == "/srv/log/o.txt"


def test_a_state_file_cut_at_any_byte_is_set_aside_and_never_believed(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    snapshot.save(path, {"apps": [{"name": "a"}], "release": "r"})
    whole = Path(path).read_bytes()
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert snapshot.load(path)[0] == json.loads(whole)
    for length in range(len(whole)):
        Path(path).write_bytes(whole[:length])
        content, problem = snapshot.load(path)
        assert content is None
        assert "set aside" in problem
    assert snapshot.load(path) == (None, "")
