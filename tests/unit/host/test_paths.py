"""Root in a directory of another user: nothing is read, written, removed or given away through a link that the user made."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from percore.errors import PercoreError, PreflightError
from percore.host import paths
from percore.host.files import read_file
from percore.host.lock import Lock
from percore.host.messages import Spec, TargetPaths
from percore.host.release.change.journal import Journal
from percore.host.release.history import History
from percore.host.release.target import Target
from percore.host.resources import nginx
from percore.host.resources.registry import make
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A directory of another user."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
    return folder


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """What only root may read, write, and own."""
    folder = tmp_path / "victim"
    folder.mkdir(mode=0o700)
    (folder / "secret").write_text("root only")
    (folder / "secret").chmod(0o600)
    return folder


def photograph(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_uid, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


def link(path: Path, to: Path) -> None:
    path.symlink_to(to)
    os.lchown(path, NOBODY.pw_uid, NOBODY.pw_gid)


CONTENT = "bmV3"

ACTS: dict[str, Callable[[str], Spec]] = {
    "a file below the link": lambda path: {"kind": "file", "path": f"{path}/secret", "content": CONTENT},
    "a file in new directories below it": lambda path: {"kind": "file", "path": f"{path}/a/b", "content": CONTENT},
    "a file given to the user": lambda path: {
        "kind": "file", "path": f"{path}/secret", "content": CONTENT, "owner": "nobody"},
    "the directory itself": lambda path: {"kind": "directory", "path": path, "mode": "0777", "owner": "nobody"},
    "a directory below it": lambda path: {"kind": "directory", "path": f"{path}/new", "owner": "nobody"},
    "a link below it": lambda path: {"kind": "link", "path": f"{path}/secret", "to": "/tmp"},
    "the absence of a file below it": lambda path: {"kind": "absent", "path": f"{path}/secret"},
}  # fmt: skip


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("question", ["difference", "former", "apply"])
def test_a_link_of_another_user_is_not_followed(theirs: Path, victim: Path, act: str, question: str) -> None:
    link(theirs / "way", victim)
    before = photograph(victim)
    resource = make(ACTS[act](str(theirs / "way")))
    with pytest.raises(PercoreError, match=r"another user may have made"):
        getattr(resource, question)()
    assert photograph(victim) == before


def test_what_replaces_a_link_of_another_user_leaves_alone_where_it_led(theirs: Path, victim: Path) -> None:
    link(theirs / "file", victim / "secret")
    before = photograph(victim)
    spec = {"kind": "file", "path": str(theirs / "file"), "content": CONTENT, "mode": "0644", "owner": "nobody"}
    assert make(spec).difference()
    make(spec).apply()
    assert photograph(victim) == before
    assert not (theirs / "file").is_symlink()
    assert (theirs / "file").stat().st_uid == NOBODY.pw_uid


def test_a_link_of_another_user_is_not_read(theirs: Path, victim: Path) -> None:
    link(theirs / "record", victim / "secret")
    with pytest.raises(PercoreError, match="another user may have made"):
        read_file(str(theirs / "record"))


def test_a_pipe_in_the_place_of_a_file_makes_nobody_wait(theirs: Path) -> None:
    os.mkfifo(theirs / "record")
    with pytest.raises(OSError, match="Not a regular file"):
        read_file(str(theirs / "record"))
    with pytest.raises(OSError, match="Not a regular file"):
        make({"kind": "file", "path": str(theirs / "record"), "content": CONTENT}).former()


def test_a_tree_of_another_user_is_removed_without_what_its_links_lead_to(theirs: Path, victim: Path) -> None:
    (theirs / "release").mkdir()
    link(theirs / "release" / "out", victim)
    before = photograph(victim)
    paths.remove_tree(str(theirs / "release"))
    assert not (theirs / "release").exists()
    link(theirs / "way", victim.parent)
    with pytest.raises(PercoreError, match="another user may have made"):
        paths.remove_tree(str(theirs / "way" / "victim"))
    assert photograph(victim) == before


def test_links_of_root_are_followed_as_ever(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "srv").symlink_to("disk")
    (tmp_path / "abs").symlink_to(tmp_path / "srv")
    spec = {"kind": "file", "path": str(tmp_path / "abs" / "new" / "file"), "content": CONTENT}
    make(spec).apply()
    assert (tmp_path / "disk" / "new" / "file").read_text() == "new"
    assert make(spec).difference() is None
    (tmp_path / "name").symlink_to("disk/new/file")
    assert read_file(str(tmp_path / "name")) == b"new"


def test_a_link_of_another_user_in_a_directory_for_all_is_not_followed(tmp_path: Path, victim: Path) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    place.chmod(0o1777)
    link(place / "way", victim)
    with pytest.raises(PercoreError, match="another user may have made"):
        make({"kind": "directory", "path": str(place / "way"), "mode": "0777"}).apply()


def test_links_in_a_ring_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        read_file(str(tmp_path / "a" / "file"))


def paths_of(deploy_to: Path, package: Path) -> TargetPaths:
    return TargetPaths(str(deploy_to), ["/bin/percore"], "/x", str(package))


@pytest.mark.parametrize("place", ["deploy_to", "releases", "parent", "group", "package"])
def test_root_keeps_its_releases_and_packages_nowhere_where_another_user_may_write(
    tmp_path: Path, theirs: Path, place: str
) -> None:
    app, package = tmp_path / "app", tmp_path / "package"
    (app / "releases").mkdir(parents=True)
    package.mkdir()
    Target(paths_of(app, package))
    if place == "parent":
        app = theirs / "app"
        app.mkdir()
    elif place == "group":
        os.chown(app, 0, NOBODY.pw_gid)
        app.chmod(0o775)
    else:
        os.chown({"deploy_to": app, "releases": app / "releases", "package": package}[place], NOBODY.pw_uid, 0)
    with pytest.raises(PreflightError, match="another user may write in") as caught:
        Target(paths_of(app, package))
    assert "chown root:root" in caught.value.next


def test_the_lock_and_the_history_are_private_also_those_of_an_older_version(tmp_path: Path) -> None:
    for name in ("lock", "lock.held", "history", "journal"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o644)
    lock = Lock(str(tmp_path / "lock"))
    (tmp_path / "lock.held").unlink()
    lock.hold("anna", "")
    History(str(tmp_path / "history")).add(who="anna")
    Journal(str(tmp_path / "journal")).begin(release="r")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir() if path.is_file()}
    assert modes == dict.fromkeys(("lock", "lock.held", "history", "journal", "journal.room"), 0o600)


@pytest.mark.parametrize("kind", ["symbolic", "hard", "theirs"])
def test_a_file_of_another_kind_in_the_place_of_the_history_is_not_written(
    tmp_path: Path, victim: Path, kind: str
) -> None:
    place = tmp_path / "history"
    if kind == "symbolic":
        place.symlink_to(victim / "secret")
    elif kind == "hard":
        os.link(victim / "secret", place)
    else:
        place.write_text("")
        os.chown(place, NOBODY.pw_uid, 0)
    with pytest.raises((PercoreError, OSError)):
        Lock(str(place)).acquire("anna")
    with pytest.raises((PercoreError, OSError)):
        Journal(str(place)).note("x")
    assert (victim / "secret").read_text() == "root only"


HOLDER = (
    "import fcntl, os, sys, time; fd = os.open(sys.argv[1], os.O_RDONLY); os.setuid(int(sys.argv[2]));"
    " fcntl.flock(fd, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    made: list[subprocess.Popen[str]] = []

    def hold(uid: int) -> subprocess.Popen[str]:
        (tmp_path / "lock").write_text(json.dumps({"owner": "anna", "since": 0}))
        (tmp_path / "lock").chmod(0o644)
        words = [sys.executable, "-c", HOLDER, str(tmp_path / "lock"), str(uid)]
        made.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        assert made[-1].stdout
        assert made[-1].stdout.readline() == "held\n"
        return made[-1]

    yield hold
    for child in made:
        child.kill()
        child.communicate()


def test_a_user_who_has_opened_the_lock_of_an_older_version_keeps_nobody_from_deploying(
    tmp_path: Path, holder: Callable[[int], subprocess.Popen[str]]
) -> None:
    child = holder(NOBODY.pw_uid)
    mine = Lock(str(tmp_path / "lock"))
    mine.acquire("bert")
    assert child.poll() is None
    assert json.loads((tmp_path / "lock").read_text())["owner"] == "bert"
    with pytest.raises(BlockingIOError), (tmp_path / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    mine.release()


def test_a_rollout_of_our_own_is_never_pushed_aside(
    tmp_path: Path, holder: Callable[[int], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("percore.host.lock.PATIENCE_SECONDS", 0.3)
    child = holder(0)
    with pytest.raises(PercoreError, match="anna"):
        Lock(str(tmp_path / "lock")).acquire("bert")
    child.send_signal(signal.SIGKILL)
    wait_for(lambda: child.poll() is not None, "its end")
    Lock(str(tmp_path / "lock")).acquire("bert")


def test_the_copy_of_an_nginx_configuration_leads_nowhere_else(tmp_path: Path) -> None:
    """`nginx -t` is asked about a copy with the new site in it; a directory of it may be a link to elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "old").write_text("x")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "sites-enabled").symlink_to(tmp_path / "elsewhere")
    nginx._make_own(str(tmp_path / "copy"), str(tmp_path / "copy" / "sites-enabled"))
    (tmp_path / "copy" / "sites-enabled" / "new").write_text("x")
    assert sorted(os.listdir(tmp_path / "copy" / "sites-enabled")) == ["new", "old"]
    assert os.listdir(tmp_path / "elsewhere") == ["old"]


def test_to_look_for_a_file_of_ours_makes_no_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        paths.open_private(str(tmp_path / "new" / "file"), os.O_RDONLY)
    assert Journal(str(tmp_path / "new" / "journal")).read() == []
    assert Lock(str(tmp_path / "new" / "lock")).holder() == {}
    assert list(tmp_path.iterdir()) == []
