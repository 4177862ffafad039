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
from percore.host.release import marks
from percore.host.release.marks import BAD, GOOD, STAGED
from percore.host.release.releases import Releases
from percore.host.release.transfer.parts import PartReader, check_room, unpack

FIRST, SECOND = "20260101120000-aaaaaaaa", "20260102120000-bbbbbbbb"


ODD_IDS = [
    "", ".", "..", "../../../../etc/evil", "/etc/evil", f"{FIRST}/..", f"../{FIRST}", f"{FIRST}\n", f" {FIRST}", f"{FIRST}\0",
    "20260101120000-AAAAAAAA", "2026010112000-aaaaaaaa", "20260101120000-aaaaaaaaa", "\u0662" + FIRST[1:], "r1",
]  # fmt: skip


def release(number: int) -> str:
    return f"2026010{number}120000-0a1b2c3d"


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
    releases.marks.set(name, mark)


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(str(tmp_path / "app"))


def stage(releases: Releases, name: str, content: bytes, sha256: str) -> None:
    os.makedirs(releases.directory, exist_ok=True)
    releases.archives.receive(sha256, iter([content]))
    releases.staging.fill(name, sha256, unpacked_bytes=100)


def test_a_staged_release_appears_only_when_it_is_published(releases: Releases) -> None:
    content = archive(hello="world")
    stage(releases, release(1), content, hashlib.sha256(content).hexdigest())
    assert not os.path.exists(releases.path(release(1)))
    releases.publish(releases.staging.path(release(1)), release(1))
    assert Path(releases.path(release(1)), "hello").read_text() == "world"


def test_an_archive_that_arrived_damaged_leaves_nothing(releases: Releases) -> None:
    with pytest.raises(RolloutError, match="checksum differs"):
        stage(releases, release(1), archive(hello="world"), "0" * 64)
    assert os.listdir(releases.directory) == []
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
    stage(releases, release(1), content[30:], sha256)
    assert os.path.exists(releases.staging.path(release(1)))
    releases.archives.keep_only(set())
    assert os.listdir(releases.archives.directory) == []


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
    add_release(releases, release(1))
    assert releases.current() is None
    releases.switch(release(1))
    assert releases.current() == release(1)
    assert os.readlink(releases.link) == f"releases/{release(1)}"
    releases.switch(None)
    assert releases.current() is None


def test_a_current_link_to_a_directory_that_is_gone_counts_as_none(releases: Releases) -> None:
    os.makedirs(releases.deploy_to)
    os.symlink("releases/gone", releases.link)
    assert releases.current() is None


def test_a_mark_keeps_what_was_noted_before(releases: Releases) -> None:
    add_release(releases, release(1), STAGED)
    releases.marks.set(release(1), STAGED, fingerprint="abc")
    releases.marks.set(release(1), GOOD)
    assert releases.marks.read()[release(1)]["fingerprint"] == "abc"
    assert releases.marks.read()[release(1)]["mark"] == GOOD


def test_rollback_goes_to_the_newest_good_release_before_the_current_one(releases: Releases) -> None:
    for name, mark in (
        (release(1), GOOD),
        (release(2), GOOD),
        (release(3), BAD),
        (release(4), GOOD),
        (release(5), GOOD),
    ):
        add_release(releases, name, mark)
    releases.switch(release(4))
    assert releases.previous_good() == release(2)


def test_without_an_earlier_good_release_rollback_says_so(releases: Releases) -> None:
    add_release(releases, release(1))
    releases.switch(release(1))
    with pytest.raises(UsageError, match="no earlier good release"):
        releases.previous_good()


def test_a_release_is_found_by_its_beginning_or_its_hash(releases: Releases) -> None:
    add_release(releases, FIRST)
    add_release(releases, SECOND)
    assert releases.find("20260101") == FIRST
    assert releases.find("bbbbbbbb") == SECOND
    with pytest.raises(UsageError, match="could be"):
        releases.find("2026")
    with pytest.raises(UsageError, match="is not here"):
        releases.find("nope")


def test_pruning_keeps_the_newest_good_ones_and_the_current_one(releases: Releases) -> None:
    for number in range(1, 8):
        add_release(releases, release(number), BAD if number == 6 else GOOD)
    releases.switch(release(1))
    assert releases.prune(3) == [release(2), release(3), release(6)]
    assert sorted(os.listdir(releases.directory)) == [release(1), release(4), release(5), release(7)]
    assert set(releases.marks.read()) == {release(1), release(4), release(5), release(7)}


def test_the_one_before_stays_even_when_only_one_is_to_be_kept(releases: Releases) -> None:
    for number in range(1, 4):
        add_release(releases, release(number))
    releases.switch(release(3))
    releases.prune(1)
    assert releases.previous_good() == release(2)


def test_remains_of_an_interrupted_staging_are_cleaned(releases: Releases) -> None:
    os.makedirs(releases.staging.path(release(1)))
    add_release(releases, release(2))
    releases.staging.clean()
    assert os.listdir(releases.directory) == [release(2)]


def test_damaged_marks_are_named(releases: Releases) -> None:
    os.makedirs(releases.deploy_to)
    Path(releases.marks.path).write_text("{")
    with pytest.raises(UsageError, match=r"releases\.json: is not valid JSON"):
        releases.marks.read()


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


def test_a_lock_that_a_person_holds_outlives_the_process_and_keeps_rollouts_away(tmp_path: Path) -> None:
    path = str(tmp_path / "app" / ".lock")
    mine = Lock(path)
    mine.hold("ann@laptop", "a new disk")
    mine.release()
    with pytest.raises(LockedError, match=r"locked by ann@laptop, for \d+ s: a new disk -> invoke unlock"):
        Lock(path).acquire("bob@desk")
    with pytest.raises(LockedError, match="locked by ann@laptop"):
        Lock(path).hold("bob@desk", "")
    assert Lock(path).let_go()
    assert not Lock(path).let_go()
    Lock(path).acquire("bob@desk")


def test_what_is_deployed_later_is_newer_whatever_the_clock_says(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks.time, "time", lambda: 2_000_000_000.0)
    add_release(releases, release(1))
    releases.marks.set(release(1), GOOD, deployed=True)
    monkeypatch.setattr(marks.time, "time", lambda: 1_000_000_000.0)  # it was set back
    add_release(releases, release(2))
    releases.marks.set(release(2), GOOD, deployed=True)
    assert releases.marks.good_before(None) == [release(1), release(2)]
    assert releases.marks.good_before(release(2)) == [release(1)]


@pytest.mark.parametrize("name", ODD_IDS)
def test_what_is_no_release_id_never_becomes_a_path(releases: Releases, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    os.makedirs(releases.directory)
    for use in (
        releases.path, releases.record_path, releases.plan_path, releases.staging.path, releases.switch,
        releases.remove, lambda name: releases.publish(str(victim), name), lambda name: releases.marks.set(name, GOOD),
        releases.find,
    ):  # fmt: skip
        with pytest.raises(UsageError):
            use(name)
    assert not releases.exists(name)
    assert victim.is_dir()
    assert os.listdir(releases.directory) == []


def test_what_is_called_otherwise_among_the_releases_is_left_alone(releases: Releases) -> None:
    add_release(releases, release(1))
    foreign = Path(releases.directory) / "backup"
    foreign.mkdir()
    (foreign / ".percore.json").write_text("{}")
    os.symlink("releases/backup", releases.link)
    Path(releases.marks.path).write_text(json.dumps({"../../etc": {"mark": BAD}, "backup": {"mark": GOOD}}))
    assert releases.current() is None
    assert releases.marks.read() == {}
    releases.prune(1)
    assert foreign.is_dir()
