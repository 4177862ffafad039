"""What a scribe was killed in, the next one ends: each line once, also where logs were rotated or emptied in between."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from percore.supervisor.logs import formatter
from percore.supervisor.logs import rotate as rotation
from percore.supervisor.logs.formatter import RawLog, RawLogEntry
from percore.supervisor.logs.limits import RotationLimits


class Killed(Exception):
    pass


def make_raw_log(folder: Path) -> RawLog:
    (folder / "spool").mkdir(exist_ok=True)
    targets = (str(folder / "out.log"), str(folder / "both.log"))
    return RawLog(RawLogEntry(str(folder / "spool" / "s"), targets, "app", 0, "out", "YYYY", False))


def read(raw: RawLog) -> None:
    while raw.advance():
        pass


def say(folder: Path, text: str) -> None:
    with open(folder / "spool" / "s", "a") as spool:
        spool.write(text)


def nothing(path: Path) -> None:
    pass


def rotate(path: Path) -> None:
    with rotation.locked(str(path)) as log:
        rotation.rotate(str(path), RotationLimits(1 << 20, 9), log, whole=True)


def content(path: Path) -> str:
    older = sorted(path.parent.glob(f"{path.name}.[0-9]*"), key=lambda place: -int(place.suffix[1:]))
    return "".join(place.read_text() for place in [*older, path]).replace("\0", "")


@pytest.mark.parametrize("kept", [0, 1, 3000, 60_000])
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("meanwhile", [nothing, rotate])
def test_killed_anywhere_in_an_append_it_leaves_no_line_out_and_none_double(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, which: int, meanwhile: Callable[[Path], None]
) -> None:
    spool = make_raw_log(tmp_path)
    say(tmp_path, "same\n" * 2000)
    read(spool)
    say(tmp_path, "same\n" * 4000)
    appended: list[int] = []

    def append(log: int, text: bytes) -> None:
        appended.append(len(text))
        if len(appended) > which:
            whole(log, text[:kept])
            raise Killed
        whole(log, text)

    whole = formatter._write_all
    with monkeypatch.context() as patch:
        patch.setattr(formatter, "_write_all", append)
        with pytest.raises(Killed):
            read(spool)
    spool.close()
    for name in ("out.log", "both.log"):
        meanwhile(tmp_path / name)
    say(tmp_path, "last\n")
    after = make_raw_log(tmp_path)
    read(after)
    after.close()
    for name in ("out.log", "both.log"):
        lines = content(tmp_path / name).splitlines()
        assert len(lines) == 6001
        assert {line[4:] for line in lines} == {": same", ": last"}


def test_a_log_that_was_emptied_after_a_kill_gets_what_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = make_raw_log(tmp_path)
    say(tmp_path, "before\n")
    read(spool)
    say(tmp_path, "after\n")

    def kill(log: int, text: bytes) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(formatter, "_write_all", kill)
        with pytest.raises(Killed):
            read(spool)
    spool.close()
    os.truncate(tmp_path / "out.log", 0)
    after = make_raw_log(tmp_path)
    read(after)
    after.close()
    assert (tmp_path / "out.log").read_text()[4:] == ": after\n"
    assert len((tmp_path / "both.log").read_text().splitlines()) == 2


def test_a_spool_takes_little_room_however_much_goes_through(tmp_path: Path) -> None:
    spool = make_raw_log(tmp_path)
    for _ in range(8):
        say(tmp_path, f"{'x' * 999}\n" * 1000)
        read(spool)
    spool.close()
    assert (tmp_path / "spool" / "s").stat().st_blocks * 512 < 3 << 20
