"""Whatever lies in an app's directory, a build ends: with an archive, or with a line that names what is wrong."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from percore.deploy.build import source_tree
from percore.deploy.build.source_tree import BuildError, hash_tree, read_tree, write_tar
from tests.unit.deploy.test_build import make, project, settings  # noqa: F401 - a fixture

NOT_UTF_8 = os.fsdecode(b"caf\xe9.txt")


@pytest.fixture
def app(project: Path) -> Path:  # noqa: F811
    return project / "web"


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


LEFT_OUT: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "a named pipe"),
    "sock": (listen, "a socket"),
    **({"zero": (lambda path: os.mknod(path, 0o20666, os.makedev(1, 5)), "a device")} if os.geteuid() == 0 else {}),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_neither_a_file_nor_a_link_is_left_out_and_named(app: Path, name: str) -> None:
    before = make(app.parent)
    make_it, title = LEFT_OUT[name]
    (app / "deep").mkdir()
    make_it(app / "deep" / name)
    said: list[str] = []
    artifact = tree_build(app, said)
    assert artifact == before.sha256
    assert f"left out: deep/{name}, which is {title}" in said


def tree_build(app: Path, said: list[str]) -> str:
    from percore.deploy.build.app import build

    return build(settings(app.parent), app.parent, said.append).sha256


def test_what_a_build_leaves_is_looked_at_as_well(app: Path) -> None:
    (app / "build.sh").write_text("mkdir -p dist && cp web.js dist/web.js && mkfifo dist/pipe")
    said: list[str] = []
    tree_build(app, said)
    assert "left out: dist/pipe, which is a named pipe" in said


def test_links_are_taken_as_they_are_also_in_circles(app: Path) -> None:
    for name, to in (("nowhere", "gone"), ("loop", "loop"), ("top", "."), ("odd", NOT_UTF_8)):
        (app / name).symlink_to(to)
    artifact = make(app.parent)
    with tarfile.open(artifact.path) as tar:
        found = {member.name: member.linkname for member in tar.getmembers() if member.issym()}
    assert found == {"nowhere": "gone", "loop": "loop", "top": ".", "odd": NOT_UTF_8}


@pytest.mark.parametrize("to", ["/dev/zero", "..", "../elsewhere", "deep/../../other"])
def test_a_link_that_leads_out_of_the_app_is_refused_by_name(app: Path, to: str) -> None:
    (app / "out").symlink_to(to)
    with pytest.raises(BuildError, match=f"the link 'out' leads out of the app's directory, to {to}"):
        make(app.parent)


@pytest.mark.parametrize("name", [NOT_UTF_8, "new\nline", "-x", "esc\x1b[2J", "é" * 120])
def test_a_file_of_any_name_arrives_under_that_name(app: Path, name: str) -> None:
    (app / name).write_text("content")
    with tarfile.open(make(app.parent).path) as tar:
        source = tar.extractfile(name)
        assert source
        assert source.read() == b"content"
    (app / name).write_text("another")
    assert make(app.parent).was_built


def test_a_name_that_cannot_be_printed_is_shown_in_ascii() -> None:
    assert source_tree.shown(NOT_UTF_8) == "caf\\udce9.txt"
    assert source_tree.shown("esc\x1b[2J") == "esc\\x1b[2J"


AS_NOBODY = """
import os, sys
from pathlib import Path
from percore.deploy.build.source_tree import read_tree, hash_tree
os.setgroups([]); os.setgid(65534); os.setuid(65534)
folder = Path(sys.argv[1])
try:
    hash_tree(folder, read_tree(folder))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="root makes what another user may not read")
@pytest.mark.parametrize("name", ["closed/file", "closed"])
def test_what_may_not_be_read_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "file").write_text("x")
    (tmp_path / name).chmod(0)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("pytest-", "popen-")) or folder == tmp_path:
            folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    title = name if "/" in name else f"{name}/"
    assert f"BuildError '{title}' cannot be read: Permission denied; nothing was deployed" in done.stdout, done.stderr


def test_a_file_that_changes_or_vanishes_meanwhile_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"

    def grow() -> None:
        path.write_text("longer than before")

    def shrink() -> None:
        path.write_text("")

    def become_a_pipe() -> None:
        path.unlink()
        os.mkfifo(path)

    def become_a_link() -> None:
        path.unlink()
        path.symlink_to("/dev/zero")

    for change in (grow, shrink, path.unlink, become_a_pipe, become_a_link):
        path.unlink(missing_ok=True)
        path.write_text("before")
        found = read_tree(tmp_path)
        change()
        opened = [(tmp_path / "nothing").open("wb")]
        if change in (grow, shrink):
            assert hash_tree(tmp_path, found)  # whole, as it is now
        else:
            with pytest.raises(BuildError, match="'file'"):
                hash_tree(tmp_path, found)
            if change is not become_a_link:  # which is packed as such
                with pytest.raises(BuildError, match="'file'"):
                    write_tar(opened[0], [("file", path)])
        opened[0].close()


@pytest.mark.parametrize("mode", ["ab", "wb"])
def test_a_file_that_is_written_while_it_is_read_is_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3_000_000)

    def read() -> None:
        with source_tree.open_whole(path, "file") as (source, _):
            assert source.read(10)
            with path.open(mode) as file:
                file.write(b"more")
            while source.read(1 << 20):
                pass

    with pytest.raises(BuildError, match="'file' changed while it was read"):
        read()


def test_an_app_that_changes_between_the_hash_and_the_build_is_not_taken_for_the_old_one(
    app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from percore.deploy.build import app as module

    def copy(*words: object) -> None:
        (app / "web.js").write_text("// another")
        former(*words)  # type: ignore[arg-type]

    former = module.copy_entries
    monkeypatch.setattr(module, "copy_entries", copy)
    with pytest.raises(BuildError, match="changed while they were copied"):
        make(app.parent)


def test_more_than_can_be_meant_is_refused_before_it_is_read(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (app / "disk.img").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BuildError, match=r"more than 8 GB, with 'disk.img'"):
        make(app.parent)
    (app / "disk.img").unlink()
    monkeypatch.setattr(source_tree, "MOST_FILES", 3)
    with pytest.raises(BuildError, match="more than 3 files"):
        make(app.parent)


def test_a_deep_tree_is_read_and_one_past_all_limits_is_named(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=folder)
        deeper = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)
    with pytest.raises(BuildError, match="cannot be read: File name too long"):
        read_tree(tmp_path)
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


def test_a_large_file_is_packed_in_little_memory(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(400 << 20)
    code = (
        "import sys; from pathlib import Path\n"
        "from percore.deploy.build.source_tree import *; folder = Path(sys.argv[1])\n"
        "hash_tree(folder, read_tree(folder)); write_tar(open('/dev/null', 'wb'), [('large', folder / 'large')])\n"
        # not ru_maxrss, which begins with the memory of the parent
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(done.stdout) < 150_000


def test_a_pipe_that_nobody_writes_to_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    ended = threading.Event()

    def read() -> None:
        with pytest.raises(BuildError), source_tree.open_whole(tmp_path / "pipe", "pipe"):
            pass
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    assert ended.wait(20)
