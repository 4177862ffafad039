"""Directories that outlive releases."""

from __future__ import annotations

from pathlib import Path

import pytest

from percore.host.release.transfer.shared import link_shared


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A release that is staged, beside a shared directory with a file in it."""
    (tmp_path / "shared/uploads").mkdir(parents=True)
    (tmp_path / "shared/uploads/a.txt").write_text("kept")
    made = tmp_path / "releases" / "1"
    made.mkdir(parents=True)
    return made


def link(tree: Path, **shared: str) -> list[str]:
    return list(link_shared(str(tree), str(tree.parents[1] / "shared"), shared))


def test_a_release_has_links_to_what_is_shared(tree: Path) -> None:
    places = {"uploads": "uploads", "packages/web/uploads": "uploads"}
    assert list(link_shared(str(tree), str(tree.parents[1] / "shared"), places)) == []
    for place in places:
        assert (tree / place / "a.txt").read_text() == "kept"
        assert (tree / place).readlink().is_relative_to("..")
    tree.rename(tree.parent / "2")
    assert (tree.parent / "2/uploads/a.txt").read_text() == "kept"


def test_what_a_release_has_in_that_place_goes_and_a_line_says_so(tree: Path) -> None:
    (tree / "uploads").mkdir()
    assert link(tree, uploads="uploads") == []
    (tree / "uploads").unlink()
    (tree / "uploads").mkdir()
    (tree / "uploads/b.txt").write_text("of the release")
    assert link(tree, uploads="uploads") == [
        "'uploads' of the release is left out: a link to shared/uploads takes its place"
    ]
    assert [path.name for path in (tree / "uploads").iterdir()] == ["a.txt"]
    (tree / "uploads").unlink()
    (tree / "uploads").write_text("a file")
    assert len(link(tree, uploads="uploads")) == 1


def test_a_place_behind_a_link_leads_to_what_is_shared(tree: Path) -> None:
    (tree / "dist/deep").mkdir(parents=True)
    (tree / "public").symlink_to("dist/deep")
    list(link_shared(str(tree), str(tree.parents[1] / "shared"), {"public/uploads": "uploads"}))
    assert (tree / "dist/deep/uploads/a.txt").read_text() == "kept"
