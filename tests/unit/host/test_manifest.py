"""Edits by hand in the files of a release."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from percore.host.release.manifest import find_edits, write_manifest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "1"
    (made / "out").mkdir(parents=True)
    (made / ".percore").mkdir()
    (made / "out/api.js").write_text("one")
    (made / "run.sh").write_text("#!/bin/sh")
    (made / "link").symlink_to("out")
    (made / ".percore.json").write_text("{}")
    write_manifest(str(made))
    return made


def edits(tree: Path, *, counts_new: bool = True) -> list[str]:
    return find_edits(str(tree), counts_new=counts_new)


def test_a_release_as_it_was_staged_has_no_edits_also_after_it_was_renamed(tree: Path) -> None:
    assert edits(tree) == []
    (tree / ".percore.json").write_text("other")
    (tree / "out/__pycache__").mkdir()
    (tree / "out/__pycache__/a.pyc").write_text("")
    assert edits(tree) == []
    renamed = tree.rename(tree.parent / "2")
    os.utime(renamed / "out/api.js", (0, 0))
    assert edits(renamed) == [], "its content is the same"


def test_what_was_edited_is_told(tree: Path) -> None:
    before = (tree / "out/api.js").stat()
    (tree / "out/api.js").write_text("two")
    os.utime(tree / "out/api.js", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tree / "run.sh").chmod(0o700)
    (tree / "link").unlink()
    (tree / "link").symlink_to("run.sh")
    (tree / "more/deep").mkdir(parents=True)
    (tree / "more/deep/new.js").write_text("")
    assert edits(tree) == ["change link", "change out/api.js", "change run.sh", "remove more/deep/new.js"]
    (tree / "out/api.js").unlink()
    (tree / "out").rmdir()
    (tree / "out").write_text("now a file")
    assert edits(tree, counts_new=False) == ["change link", "change run.sh", "create out/api.js"]


def test_of_a_release_that_an_older_percore_staged_nothing_is_known(tree: Path) -> None:
    (tree / "run.sh").write_text("other")
    for content in (None, "{", "[]", "{}"):
        (tree / ".percore/manifest.json").unlink(missing_ok=True)
        if content is not None:
            (tree / ".percore/manifest.json").write_text(content)
        assert edits(tree) == []
