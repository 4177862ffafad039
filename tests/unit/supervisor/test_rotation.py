"""Rotation under a writer, on file systems that can take blocks out and on those that can only leave holes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from percore.supervisor import rotation
from percore.supervisor.logs import last_lines
from percore.supervisor.rotation import Follower, Limits, older_files, rotate

LIMITS = Limits(64 << 10, 1000)


@pytest.fixture(params=["disk", "memory"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A log on the disk of this machine, and one on tmpfs."""
    folder = tmp_path if request.param == "disk" else Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder / "app.log"
    if request.param == "memory":
        shutil.rmtree(folder)


def content(log: Path) -> bytes:
    """Older files and the log, as one."""
    older = b"".join(Path(path).read_bytes() for path in reversed(list(older_files(str(log)))))
    return older + log.read_bytes().lstrip(b"\0")


def test_every_line_is_there_once_and_in_order_whatever_is_rotated_while_it_is_written(log: Path) -> None:
    follower = Follower(str(log), 0)
    seen = b""
    written = b""
    with log.open("ab", buffering=0) as writer:
        for number in range(20_000):
            line = b"%d %s\n" % (number, b"x" * (number % 97))
            written += line
            writer.write(line)
            if number % 700 == 0:
                while rotate(str(log), LIMITS):
                    pass
            if number % 450 == 0:
                seen += follower.read()
    seen += follower.read()
    assert len(list(older_files(str(log)))) > 10
    assert content(log) == written
    assert seen == written
    assert last_lines(str(log), 2) == [line.decode() for line in written.splitlines()[-2:]]


def test_no_more_than_the_wished_files_are_kept_and_none_is_larger_than_wished(log: Path) -> None:
    log.write_bytes(b"0123456789\n" * 60_000)
    while rotate(str(log), Limits(64 << 10, 3)):
        pass
    assert [Path(path).name for path in older_files(str(log))] == ["app.log.1", "app.log.2", "app.log.3"]
    assert max(os.stat(path).st_size for path in older_files(str(log))) <= 64 << 10
    assert log.stat().st_blocks * 512 <= 72 << 10


@pytest.mark.parametrize("step", ["_cut_off", "_shift"])
def test_a_supervisor_killed_between_two_steps_loses_and_doubles_nothing(
    log: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(b"".join(b"%d\n" % number for number in range(30_000)))
    written = log.read_bytes()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rotation, step, die)
        with pytest.raises(KeyboardInterrupt):
            rotate(str(log), LIMITS)
    with log.open("ab") as writer:
        writer.write(b"meanwhile\n")
    while rotate(str(log), LIMITS):
        pass
    assert content(log) == written + b"meanwhile\n"


def test_a_full_disk_leaves_the_log_as_it_is(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_bytes(b"line\n" * 30_000)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "sendfile", full)
    with pytest.raises(OSError, match="No space"):
        rotate(str(log), LIMITS)
    assert content(log) == b"line\n" * 30_000
    assert [path.name for path in log.parent.iterdir()] == ["app.log"]


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    assert rotate("/dev/null", LIMITS) == 0
    assert rotate(str(tmp_path / "none"), LIMITS) == 0
    os.mkfifo(tmp_path / "pipe")
    assert rotate(str(tmp_path / "pipe"), LIMITS) == 0
