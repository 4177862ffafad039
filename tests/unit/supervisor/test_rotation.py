"""Rotation under a writer, on file systems that can take blocks out and on those that can only leave holes."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from percore.supervisor.logs import rotate as rotation
from percore.supervisor.logs.files import id_of, last_lines
from percore.supervisor.logs.follow import Follower
from percore.supervisor.logs.limits import LogTask, RotationLimits
from percore.supervisor.logs.retention import do_tasks
from percore.supervisor.logs.rotate import locked, older_files, rotate

LIMITS = RotationLimits(64 << 10, 1000)


@pytest.fixture(params=["disk", "memory"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A log on the disk of this machine, and one on tmpfs."""
    folder = tmp_path if request.param == "disk" else Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder / "app.log"
    if request.param == "memory":
        shutil.rmtree(folder)


def rotate_all(log: Path, limits: RotationLimits = LIMITS) -> int:
    moved = 0
    with locked(str(log)) as descriptor:
        while descriptor >= 0 and (part := rotate(str(log), limits, descriptor)):
            moved += part
    return moved


def older_bytes(path: str) -> bytes:
    return gzip.decompress(Path(path).read_bytes()) if path.endswith(".gz") else Path(path).read_bytes()


def content(log: Path) -> bytes:
    """Older files and the log, as one."""
    return b"".join(map(older_bytes, reversed(list(older_files(str(log)))))) + log.read_bytes().lstrip(b"\0")


def read_all(follower: Follower) -> bytes:
    text = b""
    while part := follower.read():
        text += part
    return text


def test_every_line_is_there_once_and_in_order_whatever_is_rotated_while_it_is_written(log: Path) -> None:
    log.touch()
    follower, late = Follower(str(log)), Follower(str(log))
    seen = b""
    written = b""
    with log.open("ab", buffering=0) as writer:
        for number in range(20_000):
            line = b"%d %s\n" % (number, b"x" * (number % 97))
            written += line
            writer.write(line)
            if number % 700 == 0:
                rotate_all(log)
            if number % 450 == 0:
                seen += read_all(follower)
    seen += read_all(follower)
    assert len(list(older_files(str(log)))) > 10
    assert content(log) == written
    assert seen == written
    assert read_all(late) == written
    assert last_lines(str(log), 2) == [line.decode() for line in written.splitlines()[-2:]]
    assert follower.last_lines(10_000) == written.splitlines()[-10_000:]


def test_no_more_than_the_wished_files_are_kept_and_none_is_larger_than_wished(log: Path) -> None:
    log.write_bytes(b"0123456789\n" * 60_000)
    rotate_all(log, RotationLimits(64 << 10, 3))
    assert [Path(path).name for path in older_files(str(log))] == ["app.log.1", "app.log.2", "app.log.3"]
    assert max(os.stat(path).st_size for path in older_files(str(log))) <= 64 << 10
    assert log.stat().st_blocks * 512 <= 72 << 10


def die_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills this process right after that many of the calls by which a rotation changes anything."""
    left = [calls]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def perform(*arguments: Any, **named: Any) -> Any:
            result = call(*arguments, **named)
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return perform

    sendfile = os.sendfile
    monkeypatch.setattr(
        os, "sendfile", lambda to, log, position, count: sendfile(to, log, position, min(count, 50_000))
    )
    for name in ("open", "fchown", "rename", "unlink", "symlink", "sendfile", "fdatasync", "utime"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    monkeypatch.setattr(rotation, "_fallocate", counted(rotation._fallocate))


@pytest.mark.parametrize("lines", ["numbered", "identical"])
def test_killed_after_any_step_a_rotation_loses_and_doubles_nothing(
    log: Path, lines: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = b"".join(b"%07d\n" % (number if lines == "numbered" else 0) for number in range(45_000))
    was_killed, calls = True, 0
    while was_killed:
        calls += 1
        for place in log.parent.iterdir():
            place.unlink()
        log.write_bytes(written)
        rotate_all(log, RotationLimits(128 << 10, 1000))
        follower, left = Follower(str(log), begin=0), log.read_bytes().lstrip(b"\0")
        child = os.fork()
        if child == 0:
            die_after(calls, monkeypatch)
            rotate_all(log)
            os._exit(0)
        was_killed = os.waitpid(child, 0)[1] != 0
        with log.open("ab") as writer:
            writer.write(b"meanwhile\n")
        rotate_all(log)
        assert content(log) == written + b"meanwhile\n"
        assert read_all(follower) == left + b"meanwhile\n"
        assert sorted(path.name for path in log.parent.iterdir() if not path.suffix[1:].isdigit()) == ["app.log"]
    assert calls >= 14


def test_a_full_disk_leaves_the_log_as_it_is(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_bytes(b"line\n" * 30_000)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "sendfile", full)
    report = do_tasks([LogTask("app", str(log), LIMITS, is_due=True)])
    assert report.problems == [f"{log} cannot be rotated: No space left on device"]
    assert content(log) == b"line\n" * 30_000
    assert [path.name for path in log.parent.iterdir()] == ["app.log"]


def test_what_is_no_file_or_not_the_writers_own_or_being_changed_is_left_alone(tmp_path: Path) -> None:
    assert rotate_all(Path("/dev/null")) == rotate_all(tmp_path / "none") == 0
    os.mkfifo(tmp_path / "pipe")
    assert rotate_all(tmp_path / "pipe") == 0
    (tmp_path / "log").write_bytes(b"line\n" * 30_000)
    (tmp_path / "other").touch()
    with locked(str(tmp_path / "log"), expected=id_of(os.stat(tmp_path / "other"))) as other:
        assert other == -1
    with locked(str(tmp_path / "log")) as first, locked(str(tmp_path / "log")) as second:
        assert (first >= 0, second) == (True, -1)


def test_an_old_log_is_rotated_however_short_and_older_files_are_compressed_from_the_second_on(log: Path) -> None:
    limits = RotationLimits(10 << 20, 10, compress=True)
    written = b""
    follower = None
    for day in range(4):
        lines = b"".join(b"day %d line %d\n" % (day, number) for number in range(5000))
        written += lines
        with log.open("ab") as writer:
            writer.write(lines)
        follower = follower or Follower(str(log), begin=0)
        do_tasks([LogTask("app", str(log), limits, is_due=True, is_aged=True)])
    names = [Path(path).name for path in older_files(str(log))]
    assert names == ["app.log.1", "app.log.2.gz", "app.log.3.gz", "app.log.4.gz"]
    assert content(log) == written
    assert follower
    assert read_all(follower) == written


def test_all_logs_of_an_app_together_stay_below_its_limit_and_the_oldest_go_first(tmp_path: Path) -> None:
    tasks = [LogTask("app", str(tmp_path / name), LIMITS, max_total=400 << 10, is_due=True) for name in ("a", "b")]
    for number in range(3):
        for task in tasks:
            with open(task.path, "ab") as writer:
                writer.write(b"%d\n" % number * 60_000)
        do_tasks(tasks)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 400 << 10
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert (b"0" in kept, b"2" in kept) == (False, True)


def test_who_follows_a_log_that_was_emptied_begins_with_its_first_new_line_even_if_it_is_longer_now(log: Path) -> None:
    log.write_bytes(b"old line\n" * 100)
    follower = Follower(str(log))
    log.write_bytes(b"")
    log.write_bytes(b"short\n")
    assert read_all(follower) == b"short\n"
    log.write_bytes(b"".join(b"new %d\n" % number for number in range(1000)))
    assert read_all(follower).startswith(b"new 0\nnew 1\n")


def test_who_follows_a_log_goes_on_in_the_file_that_takes_its_name(log: Path) -> None:
    follower = Follower(str(log))
    assert follower.read() == b""
    log.write_bytes(b"first\n")
    assert read_all(follower) == b"first\n"
    with log.open("ab") as writer:
        log.rename(log.parent / "away")
        log.write_bytes(b"third\n")
        writer.write(b"second\n")
    assert follower.read() + follower.read() == b"second\nthird\n"


def test_a_line_without_end_is_read_in_pieces(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"x" * (5 << 20) + b"\nend\n")
    follower = Follower(str(log), begin=0)
    pieces = []
    while piece := follower.read():
        pieces.append(piece)
    assert b"".join(pieces) == log.read_bytes()
    assert max(map(len, pieces)) <= 1 << 20
    log.write_bytes(b"y" * (20 << 20))
    assert len(last_lines(str(log), 20)[0]) <= 1 << 20
