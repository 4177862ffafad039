"""Logs and state on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from percore.supervisor.config.app import AppConfig
from percore.supervisor.logs.files import last_lines, log_paths
from percore.supervisor.state.state_file import StateFile


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


def test_a_state_file_cut_or_changed_at_any_byte_is_set_aside_and_never_believed(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    StateFile(path).save({"apps": [{"name": "a"}], "release": "r"})
    whole = Path(path).read_bytes()
    assert Path(path).stat().st_mode & 0o777 == 0o600
    content = StateFile(path).load()[0]
    assert content
    assert content["apps"] == [{"name": "a"}]
    cut = [whole[:length] for length in range(len(whole))]
    changed = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    for broken in (*cut, *changed):
        Path(path).write_bytes(broken)
        content, problem = StateFile(path).load()
        assert content is None, broken
        assert "set aside" in problem
    assert StateFile(path).load() == (None, "")


def test_a_broken_file_of_environments_is_stood_in_for_by_its_copy_and_written_again(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    state = StateFile(path)
    apps = [{"config": {"name": "a", "env": {"A": "1"}}}]
    for number in range(3):
        state.save({"apps": apps, "number": number})
    for broken in (tmp_path / "state.env.json", tmp_path / "state.env.json.copy"):
        broken.write_bytes(broken.read_bytes()[:-5])
        state = StateFile(path)
        content, problem = state.load()
        assert content
        assert (content["apps"], problem) == (apps, "")
        state.save({"apps": apps, "number": broken.name})
        assert (tmp_path / "state.env.json").read_bytes() == (tmp_path / "state.env.json.copy").read_bytes()


def test_the_state_before_takes_the_place_of_an_unreadable_one(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    state = StateFile(str(path))
    for name in ("first", "second"):
        state.save({"apps": [{"config": {"name": name, "env": {"NAME": name}}}]})
    path.write_text("garbage")
    content, problem = StateFile(str(path)).load()
    assert content
    assert content["apps"] == [{"config": {"name": "first", "env": {"NAME": "first"}}}]
    assert "the one before it is used" in problem


def test_secrets_lie_in_a_private_file_of_their_own_and_leave_it_with_their_app(tmp_path: Path) -> None:
    state = StateFile(str(tmp_path / "state.json"))
    app = {"config": {"name": "a", "env": {"TOKEN": "hunter2"}}, "base_env": {"HOME": "/home/a"}}
    state.save({"apps": [app]})
    environments = tmp_path / "state.env.json"
    assert "hunter2" not in (tmp_path / "state.json").read_text()
    assert "hunter2" in environments.read_text()
    assert environments.stat().st_mode & 0o777 == 0o600
    assert StateFile(str(tmp_path / "state.json")).read()["apps"] == [app]
    state.save({"apps": []})
    state.save({"apps": [], "release": "r2"})
    assert "hunter2" not in "".join(path.read_text() for path in tmp_path.iterdir())
