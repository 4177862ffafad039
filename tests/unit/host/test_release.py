"""Releases: staged whole or not at all, switched in one step, pruned without losing a good one that is needed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from percore.errors import LockedError, PreflightError, RolloutError, UsageError
from percore.host.lock import Lock
from percore.host.release import BAD, GOOD, STAGED, PartReader, Releases, check_room, unpack


def archive(**files: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


def add_release(releases: Releases, name: str, mark: str = GOOD) -> None:
    os.makedirs(releases.path(name))
    Path(releases.record_path(name)).write_text("{}")
    releases.mark(name, mark)


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(str(tmp_path / "app"))


def stage(releases: Releases, name: str, content: bytes, sha256: str) -> None:
    os.makedirs(releases.folder, exist_ok=True)
    releases.archives.receive(sha256, iter([content]))
    releases.stage(name, sha256, unpacked_bytes=100)


def test_a_staged_release_appears_only_when_it_is_published(releases: Releases) -> None:
    content = archive(hello="world")
    stage(releases, "r1", content, hashlib.sha256(content).hexdigest())
    assert not os.path.exists(releases.path("r1"))
    releases.publish(releases.staging_path("r1"), "r1")
    assert Path(releases.path("r1"), "hello").read_text() == "world"


def test_an_archive_that_arrived_damaged_leaves_nothing(releases: Releases) -> None:
    with pytest.raises(RolloutError, match="checksum differs"):
        stage(releases, "r1", archive(hello="world"), "0" * 64)
    assert os.listdir(releases.folder) == []
    assert not releases.archives.has("0" * 64)  # so it is sent again


def test_an_archive_goes_on_where_the_last_connection_left_off(releases: Releases) -> None:
    content = archive(hello="world" * 1000)
    sha256 = hashlib.sha256(content).hexdigest()

    def cut() -> Iterator[bytes]:
        yield content[:30]
        raise RolloutError("the connection ended in the middle of a file")

    with pytest.raises(RolloutError):
        releases.archives.receive(sha256, cut())
    assert (releases.archives.has(sha256), releases.archives.bytes_here(sha256)) == (False, 30)
    stage(releases, "r1", content[30:], sha256)
    assert os.path.exists(releases.staging_path("r1"))
    releases.archives.keep_only(set())
    assert os.listdir(releases.archives.folder) == []


def test_an_archive_that_is_cut_short_leaves_nothing(tmp_path: Path) -> None:
    content = archive(hello="world" * 1000)[:-20]
    with pytest.raises(RolloutError, match="could not unpack"):
        unpack(PartReader(io.BytesIO(content), len(content)), "0" * 64, str(tmp_path / "new"), needed_bytes=5)
    assert os.listdir(tmp_path) == []


def test_a_connection_that_ends_within_a_file_is_an_error() -> None:
    reader = PartReader(io.BytesIO(b"abc"), 10)
    with pytest.raises(RolloutError, match="connection ended"):
        reader.drain()


def test_too_little_room_is_refused_with_the_arithmetic(tmp_path: Path) -> None:
    with pytest.raises(
        PreflightError, match=r"disk space below .*: 1000000000\.0 MB needed, 67\.1 MB to spare, \d+\.\d MB free"
    ):
        check_room(str(tmp_path), 10**15)


def test_current_is_switched_and_taken_away(releases: Releases) -> None:
    add_release(releases, "r1")
    assert releases.current() is None
    releases.switch("r1")
    assert releases.current() == "r1"
    assert os.readlink(releases.link) == "releases/r1"
    releases.switch(None)
    assert releases.current() is None


def test_a_current_link_to_a_directory_that_is_gone_counts_as_none(releases: Releases) -> None:
    os.makedirs(releases.deploy_to)
    os.symlink("releases/gone", releases.link)
    assert releases.current() is None


def test_a_mark_keeps_what_was_noted_before(releases: Releases) -> None:
    add_release(releases, "r1", STAGED)
    releases.mark("r1", STAGED, fingerprint="abc")
    releases.mark("r1", GOOD)
    assert releases.marks()["r1"]["fingerprint"] == "abc"
    assert releases.marks()["r1"]["mark"] == GOOD


def test_rollback_goes_to_the_newest_good_release_before_the_current_one(releases: Releases) -> None:
    for name, mark in (("r1", GOOD), ("r2", GOOD), ("r3", BAD), ("r4", GOOD), ("r5", GOOD)):
        add_release(releases, name, mark)
    releases.switch("r4")
    assert releases.previous_good() == "r2"


def test_without_an_earlier_good_release_rollback_says_so(releases: Releases) -> None:
    add_release(releases, "r1")
    releases.switch("r1")
    with pytest.raises(UsageError, match="no earlier good release"):
        releases.previous_good()


def test_a_release_is_found_by_its_beginning_or_its_hash(releases: Releases) -> None:
    add_release(releases, "20260101-aaaa")
    add_release(releases, "20260102-bbbb")
    assert releases.find("20260101") == "20260101-aaaa"
    assert releases.find("bbbb") == "20260102-bbbb"
    with pytest.raises(UsageError, match="could be"):
        releases.find("2026")
    with pytest.raises(UsageError, match="is not here"):
        releases.find("nope")


def test_pruning_keeps_the_newest_good_ones_and_the_current_one(releases: Releases) -> None:
    for number in range(1, 8):
        add_release(releases, f"r{number}", BAD if number == 6 else GOOD)
    releases.switch("r1")
    assert releases.prune(3) == ["r2", "r3", "r6"]
    assert sorted(os.listdir(releases.folder)) == ["r1", "r4", "r5", "r7"]
    assert set(releases.marks()) == {"r1", "r4", "r5", "r7"}


def test_the_one_before_stays_even_when_only_one_is_to_be_kept(releases: Releases) -> None:
    for number in range(1, 4):
        add_release(releases, f"r{number}")
    releases.switch("r3")
    releases.prune(1)
    assert releases.previous_good() == "r2"


def test_remains_of_an_interrupted_staging_are_cleaned(releases: Releases) -> None:
    os.makedirs(releases.staging_path("r1"))
    add_release(releases, "r2")
    releases.clean()
    assert os.listdir(releases.folder) == ["r2"]


def test_damaged_marks_are_named(releases: Releases) -> None:
    os.makedirs(releases.deploy_to)
    Path(releases.marks_path).write_text("{")
    with pytest.raises(UsageError, match=r"releases\.json: is not valid JSON"):
        releases.marks()


def test_the_lock_is_held_by_one_and_says_by_whom(tmp_path: Path) -> None:
    path = str(tmp_path / "app" / ".lock")
    mine, theirs = Lock(path), Lock(path)
    mine.acquire("ann@laptop")
    mine.acquire("ann@laptop")
    with pytest.raises(LockedError, match=r"ann@laptop, for \d+ s"):
        theirs.acquire("bob@desk")
    mine.release()
    theirs.acquire("bob@desk")
    assert json.loads(Path(path).read_text())["owner"] == "bob@desk"
    theirs.release()
