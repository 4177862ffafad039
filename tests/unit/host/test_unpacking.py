"""The unpacker of root with archives that no artifact of percore ever was, made by hand."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from percore.errors import RolloutError
from percore.host.release.transfer import unpack as unpacking
from percore.host.release.transfer.parts import PartReader, unpack


def member(name: str, kind: bytes = tarfile.REGTYPE, to: str = "", **more: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, to, 0o644
    for key, value in more.items():
        setattr(made, key, value)
    return made


def archive(*members: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for made in members:
            tar.addfile(made, io.BytesIO(b"x" * made.size) if made.size else None)
    return out.getvalue()


def unpacked(content: bytes, folder: Path, *, announced: int = 1000) -> Path:
    reader = PartReader(io.BytesIO(content), len(content))
    unpack(reader, hashlib.sha256(content).hexdigest(), str(folder / "made"), needed_bytes=announced)
    return folder / "made"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Beside what is unpacked lies a victim."""
    (tmp_path / "victim").write_text("root only")
    return tmp_path


REFUSED = {
    "a name above": [member("../victim", size=1)],
    "a name that goes up and down": [member("a/../../victim", size=1)],
    "a name that goes up within": [member("a/../b", size=1)],
    "an absolute name": [member("/tmp/percore-evil", size=1)],
    "a directory above": [member("../evil", tarfile.DIRTYPE)],
    "a link above": [member("way", tarfile.SYMTYPE, "../victim")],
    "an absolute link": [member("way", tarfile.SYMTYPE, "/etc")],
    "a link above by another link": [
        member("a/b/up", tarfile.SYMTYPE, ".."), member("a/b/c", tarfile.SYMTYPE, "up/../../victim")],
    "a file through a link": [member("way", tarfile.SYMTYPE, "inner"), member("way/file", size=1)],
    "a file through a link to nowhere": [member("way", tarfile.SYMTYPE, "gone/deeper"), member("way/x/y", size=1)],
    "a directory through a link": [member("way", tarfile.SYMTYPE, "."), member("way/d", tarfile.DIRTYPE)],
    "a hard link above": [member("way", tarfile.LNKTYPE, "../victim")],
    "an absolute hard link": [member("way", tarfile.LNKTYPE, "/etc/passwd")],
    "a hard link through a link": [
        member("d", tarfile.SYMTYPE, "."), member("way", tarfile.LNKTYPE, "d/file")],
    "a hard link to a link": [member("l", tarfile.SYMTYPE, "x"), member("way", tarfile.LNKTYPE, "l")],
    "a character device": [member("null", tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "a block device": [member("disk", tarfile.BLKTYPE, devmajor=8)],
    "a pipe": [member("pipe", tarfile.FIFOTYPE)],
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_leads_out_of_an_archive_is_refused_and_nothing_of_it_stays(place: Path, kind: str) -> None:
    with pytest.raises(RolloutError, match="refused"):
        unpacked(archive(*REFUSED[kind]), place)
    assert sorted(os.listdir(place)) == ["victim"]
    assert (place / "victim").read_text() == "root only"
    assert not os.path.exists("/tmp/percore-evil")


def test_what_an_artifact_holds_is_unpacked_as_it_was(place: Path) -> None:
    made = unpacked(archive(
        member("bin/run", size=1, mode=0o755), member("node_modules/.bin/x", tarfile.SYMTYPE, "../../bin/run"),
        member("empty", tarfile.DIRTYPE, mode=0o755), member("..name", size=2), member("to-nowhere", tarfile.SYMTYPE, "gone"),
        member("twice", tarfile.LNKTYPE, "bin/run", mode=0o755),
    ), place)  # fmt: skip
    assert os.readlink(made / "node_modules/.bin/x") == "../../bin/run"
    assert stat.S_IMODE((made / "bin/run").stat().st_mode) == 0o755
    assert (made / "twice").read_text() == "x"
    assert (made / "..name").read_text() == "xx"
    assert (made / "empty").is_dir()


def test_owners_and_the_rights_of_others_are_not_taken_from_an_archive(place: Path) -> None:
    made = unpacked(archive(
        member("su", size=1, mode=0o6777, uid=65534, gid=65534, uname="nobody"),
        member("none", size=1, mode=0o000, uid=65534), member("open", tarfile.DIRTYPE, mode=0o7777, uid=65534),
        member("open/link", tarfile.SYMTYPE, "../su", uid=65534),
    ), place)  # fmt: skip
    found = {path.name: (stat.S_IMODE(path.lstat().st_mode), path.lstat().st_uid) for path in made.rglob("*")}
    mine = os.geteuid()
    assert found == {"su": (0o755, mine), "none": (0o600, mine), "open": (0o755, mine), "link": (0o777, mine)}


def test_more_members_than_any_app_has_are_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MOST_MEMBERS", 3)
    unpacked(archive(*(member(str(number), size=1) for number in range(3))), place)
    with pytest.raises(RolloutError, match="more than 3 members"):
        unpacked(archive(*(member(str(number), size=1) for number in range(4))), place)


def test_more_bytes_than_were_announced_are_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "SPARE_BYTES", 4096)
    with pytest.raises(RolloutError, match="unpacks to more than"):
        unpacked(archive(member("big", size=10_000_000)), place, announced=1000)


def test_a_header_of_gigabytes_takes_no_memory(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "SPARE_BYTES", 100_000)
    header = member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=50_000_000)
    content = gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(50_000_000))
    with pytest.raises(RolloutError, match="unpacks to more than"):
        unpacked(content, place)


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", gzip.compress(b"no tar" * 1000), gzip.compress(b"x" * 5000)[:-9]],
    ids=["empty", "text", "no tar", "cut off"],
)
def test_what_is_no_archive_is_an_error_in_words(place: Path, content: bytes) -> None:
    with pytest.raises(RolloutError):
        unpacked(content, place)
    assert not (place / "made").exists()
