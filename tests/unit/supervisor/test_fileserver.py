"""Which file a request can reach."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percore.supervisor.static_server import Settings, find, split_path

PIECES = [
    "..",
    ".",
    "",
    "/",
    "//",
    "%2e%2e",
    "%2f",
    "a",
    "..a",
    ".env",
    ".well-known",
    "sub",
    "out",
    "\0",
    "é",
    "%ff",
    "\\",
    "?",
    "#",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("site")
    (folder / "sub").mkdir()
    (folder / ".env").write_text("")
    (folder / "out").symlink_to("/")
    (folder / "sub" / "in").symlink_to("../a")
    (folder / "a").write_text("")
    return str(folder)


@given(st.lists(st.sampled_from(PIECES)).map("/".join) | st.text())
def test_no_path_leads_out_of_the_folder_or_to_something_hidden(root: str, path: str) -> None:
    for url in (path, "/" + path, urllib.parse.quote(path, errors="replace")):
        found = find(root, split_path(url))
        if found is not None:
            assert found == root or found.startswith(root + os.sep)
            inside = os.path.relpath(found, root).split(os.sep)
            assert not any(part.startswith(".") and part not in (".", ".well-known") for part in inside)


def test_links_inside_the_folder_and_the_public_hidden_folder_are_served(root: str) -> None:
    assert find(root, split_path("/sub/in")) == os.path.join(root, "a")
    assert find(root, split_path("/.well-known/x")) == os.path.join(root, ".well-known/x")
    assert find(root, split_path("/sub/../a?b=/.env#c")) == os.path.join(root, "a")


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"PM2_SERVE_PATH": "/does/not/exist"}, "there is no directory /does/not/exist"),
        ({"PM2_SERVE_PORT": "80a"}, "must be a port"),
        ({"PM2_SERVE_PORT": "99999"}, "must be a port"),
        ({"PM2_SERVE_BASIC_AUTH": "true", "PM2_SERVE_BASIC_AUTH_USERNAME": "x"}, "needs"),
    ],
)
def test_settings_that_cannot_work_are_a_sentence(tmp_path: Path, env: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Settings.from_environment({"PM2_SERVE_PATH": str(tmp_path), **env})
