"""Every resource: compare, change, and back again; and a second time changes nothing."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from percore.common.procfs import boot_time
from percore.errors import RolloutError
from percore.host.files import replace_link, write_file
from percore.host.messages import Spec
from percore.host.resources import nginx
from percore.host.resources.command import run
from percore.host.resources.registry import make, no_contents
from percore.host.resources.systemd import Unit


def file_spec(path: Path, content: bytes, **keys: Any) -> Spec:
    return {"kind": "file", "path": str(path), "content": base64.b64encode(content).decode(), **keys}


def wanted_states(folder: Path) -> list[Spec]:
    """One of each kind that needs neither root nor systemd, each on a path of its own."""
    return [
        file_spec(folder / "new.txt", b"new"),
        file_spec(folder / "old.txt", b"changed", mode="0600"),
        file_spec(folder / "link-to-file", b"now a file"),
        {"kind": "directory", "path": str(folder / "folder"), "mode": "0750"},
        {"kind": "directory", "path": str(folder / "open"), "mode": "0700"},
        {"kind": "link", "path": str(folder / "link"), "to": "old.txt"},
        {"kind": "absent", "path": str(folder / "unwanted")},
        {"kind": "absent", "path": str(folder / "dangling")},
        {"kind": "command", "run": ["touch", str(folder / "made")], "creates": str(folder / "made")},
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "old.txt").write_text("before")
    (tmp_path / "old.txt").chmod(0o640)
    (tmp_path / "unwanted").write_text("keep me in mind")
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "link-to-file").symlink_to("old.txt")
    return tmp_path


def photograph(folder: Path) -> dict[str, Any]:
    """Names, kinds, rights and contents of everything below a folder."""
    picture: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            picture[path.name] = ("link", os.readlink(path))
        else:
            content = path.read_bytes() if path.is_file() else b""
            picture[path.name] = (stat.S_IFMT(path.stat().st_mode), stat.S_IMODE(path.stat().st_mode), content)
    return picture


@pytest.mark.parametrize("number", range(9))
def test_a_resource_is_different_before_it_is_applied_and_never_after(folder: Path, number: int) -> None:
    spec = wanted_states(folder)[number]
    assert make(spec).difference()
    make(spec).apply()
    assert make(spec).difference() is None


@pytest.mark.parametrize("number", range(8))
def test_what_was_there_before_comes_back_exactly(folder: Path, number: int) -> None:
    before = photograph(folder)
    resource = make(wanted_states(folder)[number])
    former = resource.former()
    resource.apply()
    assert photograph(folder) != before
    for spec in reversed(former):
        make(spec).apply()
    assert photograph(folder) == before


def test_comparing_changes_nothing(folder: Path) -> None:
    before = photograph(folder)
    for spec in wanted_states(folder):
        make(spec).difference()
    assert photograph(folder) == before


def test_a_file_is_compared_by_its_hash_without_its_content_being_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    sha256 = hashlib.sha256(b"here").hexdigest()
    assert make({"kind": "file", "path": str(tmp_path / "file"), "sha256": sha256, "mode": "0644"}).difference() is None


def test_an_invalid_file_is_refused_on_a_copy_and_named_by_its_real_path(tmp_path: Path) -> None:
    spec = file_spec(tmp_path / "settings", b"bad", validate=["sh", "-c", "echo %s is wrong; exit 3"])
    with pytest.raises(RolloutError, match="settings is not valid") as caught:
        make(spec).verify()
    assert str(tmp_path / "settings") in caught.value.detail
    assert not (tmp_path / "settings").exists()


def test_an_empty_owner_means_that_nobody_asked_for_one(tmp_path: Path) -> None:
    spec = {"kind": "directory", "path": str(tmp_path / "new"), "owner": "", "group": ""}
    make(spec).apply()
    assert make(spec).difference() is None


def test_a_failed_write_leaves_the_old_file_and_no_remains(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(RolloutError, match="user 'no-such-user' does not exist"):
        write_file(str(tmp_path / "file"), b"new", owner="no-such-user")
    assert photograph(tmp_path).keys() == {"file"}
    assert (tmp_path / "file").read_text() == "old"


def test_a_link_is_replaced_even_when_an_earlier_try_left_its_temporary_one(tmp_path: Path) -> None:
    (tmp_path / f"current.{os.getpid()}.new").symlink_to("remains")
    replace_link(str(tmp_path / "current"), "releases/2")
    assert os.readlink(tmp_path / "current") == "releases/2"


def test_a_directory_in_the_place_of_a_file_is_not_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    with pytest.raises(RolloutError, match="is a directory"):
        make({"kind": "link", "path": str(tmp_path / "place"), "to": "x"}).apply()


def test_a_failed_command_says_its_last_words() -> None:
    with pytest.raises(RolloutError, match="exit code 3: the reason") as caught:
        run(["sh", "-c", "echo first; echo the reason; exit 3"])
    assert caught.value.detail == "first\nthe reason"


def test_a_command_that_hangs_is_ended() -> None:
    with pytest.raises(RolloutError, match=r"did not end within 0\.1 s"):
        run(["sleep", "30"], seconds=0.1)


def test_a_missing_command_is_named() -> None:
    with pytest.raises(RolloutError, match="command 'no-such-command' does not exist"):
        run(["no-such-command"])


@pytest.mark.parametrize(
    ("spec", "active", "enabled", "told"),
    [
        ({"active": True, "enabled": True}, True, True, None),
        ({"active": True, "enabled": True}, False, False, "x.service does not run and does not start at boot"),
        ({"active": True}, False, False, "x.service does not run"),
        ({"active": False, "enabled": False}, True, True, "x.service runs and starts at boot"),
    ],
)
def test_a_unit_that_is_not_as_it_should_be_is_told_as_it_is(
    monkeypatch: pytest.MonkeyPatch, spec: Spec, active: bool, enabled: bool, told: str | None
) -> None:
    monkeypatch.setattr(Unit, "is_active", lambda self: active)
    monkeypatch.setattr(Unit, "is_enabled", lambda self: enabled)
    assert Unit({"kind": "unit", "name": "x.service", **spec}, no_contents).deviation() == told


def test_a_site_that_was_put_back_without_a_reload_is_reloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = int((time.time() - boot_time()) * os.sysconf("SC_CLK_TCK"))
    text = b"server {}"
    spec = {
        "kind": "site",
        "path": f"{tmp_path}/shop",
        "link": f"{tmp_path}/on",
        "sha256": hashlib.sha256(text).hexdigest(),
    }
    write_file(spec["path"], text)
    replace_link(spec["link"], spec["path"])
    os.utime(spec["path"], (0, 0))
    site = make(spec, lambda _: text)
    monkeypatch.setattr(nginx, "serving_workers", lambda: {(1, began)})
    assert site.difference() is None
    monkeypatch.setattr(nginx, "serving_workers", lambda: {(1, began - 60 * os.sysconf("SC_CLK_TCK"))})
    assert (site.difference() or "").startswith("reload NGINX, which runs with what it read before ")
    monkeypatch.setattr(nginx, "serving_workers", set)
    assert site.difference() is None, "the unit starts it"
