"""Files of variables: what a line means, what is refused and where, and who may read secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percore.errors import UsageError
from percore.supervisor.config import env_file
from percore.supervisor.config.process_file import load_process_file

TEXT = """
# a comment
PLAIN=some words  # and a comment
export EXPORTED = yes
EMPTY=
HASH=a#b
SINGLE='as $it \\n stands' # comment
DOUBLE="a \\"quoted\\" word\\nand a line"
LONG="first
second"
"""


def test_lines_mean_what_they_mean_elsewhere() -> None:
    assert env_file.parse(TEXT, ".env") == {
        "PLAIN": "some words", "EXPORTED": "yes", "EMPTY": "", "HASH": "a#b", "SINGLE": "as $it \\n stands",
        "DOUBLE": 'a "quoted" word\nand a line', "LONG": "first\nsecond",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("A=1\nno variable\n", ".env:2: this line is not NAME=value"),
        ("A=1\n\nB='open\n", ".env:3: the quote of 'B' is not closed"),
        ("A='1' 2\n", ".env:1: unexpected text after the quoted value of 'A'"),
        ("1A=2\n", ".env:1: this line is not"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_without_the_value(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        env_file.parse(text, ".env")
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    "secret", ["DB_PASSWORD=x", "API_KEY=x", "GH_TOKEN=x", "DATABASE_URL=postgres://me:word@db/shop"]
)
def test_secrets_that_others_may_read_are_refused(tmp_path: Path, secret: str) -> None:
    path = tmp_path / ".env"
    path.write_text(f"A=1\n{secret}\n")
    path.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        env_file.load(str(path))
    path.chmod(0o600)
    assert len(env_file.load(str(path))) == 2


def test_what_is_no_secret_may_be_read_by_all(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("PORT=80\nKEYBOARD=de\nURL=https://example.org/a:b\nTOKEN=\n")
    path.chmod(0o644)
    assert env_file.load(str(path))["PORT"] == "80"


def test_env_wins_over_env_file_and_of_several_files_the_last(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text("A=1\nB=1\nC=1\nD=1\n")
    (tmp_path / "b.env").write_text("B=2\n")
    app = {"script": "a.js", "env_file": ["a.env", "b.env"], "env": {"C": 3, "D": 3}, "env_production": {"D": 4}}
    path = tmp_path / "e.json"
    path.write_text(json.dumps([app]))
    loaded = load_process_file(str(path), env_name="production")
    assert loaded.apps[0].env == {"A": "1", "B": "2", "C": "3", "D": "4"}
    assert loaded.warnings == ()


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text(json.dumps([{"script": "a.js", "env_file": "none.env"}]))
    with pytest.raises(UsageError, match=r"none\.env: the env file cannot be read: No such file"):
        load_process_file(str(path))


@given(st.text(alphabet="AB=' \"\\#\n$x`", max_size=30))
def test_any_text_is_variables_or_a_usage_error(text: str) -> None:
    try:
        variables = env_file.parse(text, ".env")
    except UsageError:
        return
    assert all(name and "\0" not in value for name, value in variables.items())


@given(
    st.dictionaries(st.from_regex(r"\A[A-Z_]{1,5}\Z"), st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc"))))
)
def test_a_quoted_value_comes_back_as_it_was(variables: dict[str, str]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = "\n".join(f"{name}={quoted(value)}" for name, value in variables.items())
    assert env_file.parse(text, ".env") == variables
