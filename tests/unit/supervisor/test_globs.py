"""What `watch` and `ignore_watch` name, in the forms that PM2's users write."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percore.supervisor.config import globs

BASE = "/srv/app"


def is_ignored(pattern: str, path: str, root: str = BASE) -> bool:
    return globs.make_filter([pattern], BASE)(f"{BASE}/{path}" if not path.startswith("/") else path, root)


@pytest.mark.parametrize(
    ("pattern", "named", "not_named"),
    [
        (
            "node_modules",
            ["node_modules", "node_modules/a/b.js", "packages/a/node_modules/x"],
            ["node_modules2", "src/a"],
        ),
        ("*.log", ["a.log", "logs/deep/b.log"], ["a.log.js", "alog"]),
        (".*", [".git/HEAD", "src/.cache/x", ".env"], ["a.js", "src/b.c"]),
        ("logs/", ["logs", "logs/a"], ["src/catalogs"]),
        ("./tmp", ["tmp/a"], ["src/tmp/a"]),
        ("src/generated", ["src/generated/a.js"], ["generated/a.js", "lib/src/generated/a.js"]),
        ("public/uploads/**", ["public/uploads", "public/uploads/x/y.png"], ["public/x.png"]),
        ("**/*.{png,jpg}", ["a.png", "x/y/b.jpg"], ["a.gif"]),
        ("src/**/*.test.js", ["src/a.test.js", "src/x/y/b.test.js"], ["a.test.js", "src/a.js"]),
        ("file[0-9].js", ["file1.js"], ["filex.js", "file12.js"]),
        ("file[!0-9].js", ["filex.js"], ["file1.js"]),
        ("/srv/app/data", ["data/x"], ["src/data/x"]),
        ("/\\.log$/", ["a.log", "x/b.log"], ["a.log.js"]),
        ("/TMP/i", ["tmp/a", "src/tmp/b"], ["src/a"]),
        ("[\\/\\\\]\\./", ["x/./a"], ["src/a"]),  # PM2's own documentation
        ("^src/gen", ["src/gen/a"], ["lib/src/gen"]),
    ],
)
def test_patterns_name_what_pm2s_users_mean(pattern: str, named: list[str], not_named: list[str]) -> None:
    assert [path for path in named if not is_ignored(pattern, path)] == []
    assert [path for path in not_named if is_ignored(pattern, path)] == []


def test_names_count_from_the_watched_folder_on_and_not_above_it() -> None:
    assert not is_ignored(".*", "/home/me/.apps/shop/src/a.js", root="/home/me/.apps/shop")
    assert is_ignored(".*", "/home/me/.apps/shop/src/.a.js", root="/home/me/.apps/shop")


def test_a_regular_expression_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("can be read")):
        globs.check("/(/")


@given(st.lists(st.text(alphabet="ab/.*?[]{}!,\\^$(", max_size=12), max_size=4), st.text(alphabet="ab/.", max_size=12))
def test_any_pattern_is_refused_at_the_door_or_works(patterns: list[str], path: str) -> None:
    for pattern in patterns:
        try:
            globs.check(pattern)
        except ValueError:
            return
    globs.make_filter(patterns, BASE)(f"{BASE}/{path}", BASE)
