"""What is written whole: it is there with all of its content, or as it was before."""

from __future__ import annotations

from pathlib import Path

import pytest

from percore.deploy.whole import written_whole


def test_a_file_takes_the_place_of_the_one_before_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "a.tar"
    for content in ("first", "second"):
        with written_whole(path) as unfinished:
            unfinished.write_text(content)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == content
    assert list(path.parent.iterdir()) == [path]


def write_half(path: Path, kind: str) -> None:
    with written_whole(path) as unfinished:
        if kind == "file":
            unfinished.write_text("half")
        elif kind == "directory":
            (unfinished / "inner").mkdir(parents=True)
        raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["file", "directory", "nothing"])
def test_what_fails_leaves_the_one_before_and_nothing_beside_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tar"
    path.write_text("first")
    with pytest.raises(KeyboardInterrupt):
        write_half(path, kind)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "first"


def test_a_directory_appears_with_all_that_is_in_it(tmp_path: Path) -> None:
    with written_whole(tmp_path / "layout") as unfinished:
        unfinished.mkdir()
        (unfinished / "index.json").write_text("{}")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["layout", "layout/index.json"]
