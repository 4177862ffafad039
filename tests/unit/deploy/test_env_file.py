"""Env files are read as dotenv reads them, and a line that is none is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from percore.deploy.plan.host_plan import make_plan
from percore.errors import UsageError
from percore.supervisor.config import env_file
from tests.unit.deploy.planned import settings_of

PROJECT = Path(__file__).resolve().parents[3]
TEXT = r"""# production
NODE_ENV=production
DATABASE_URL=postgres://u:p@db:5432/shop # with a comment
export LOG_LEVEL = info

EMPTY=
SINGLE='a "b" # $c \n'
DOUBLE="two\nlines"
MULTI="-----BEGIN
KEY-----"
SPACES=  a b
EQUALS=a=b
"""
VALUES = {
    "NODE_ENV": "production",
    "DATABASE_URL": "postgres://u:p@db:5432/shop",
    "LOG_LEVEL": "info",
    "EMPTY": "",
    "SINGLE": 'a "b" # $c \\n',
    "DOUBLE": "two\nlines",
    "MULTI": "-----BEGIN\nKEY-----",
    "SPACES": "a b",
    "EQUALS": "a=b",
}  # fmt: skip


def test_values_comments_and_quotes() -> None:
    assert env_file.parse(TEXT, ".env", strict=True) == VALUES


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("A=1\nnonsense\n", ".env:2: this line is not NAME=value"),
        ("A='1\nB=2\n", ".env:1: the quote of 'A' is not closed"),
        ('A="1" 2\n', ".env:1: unexpected text after the quoted value of 'A'"),
        ("A=1\nB=p#w\n", ".env:2: dotenv cuts the value of B off at its # -> put it in quotes"),
        ("A=1\n\nA=2\n", ".env:3: A is written twice"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        env_file.parse(text, ".env", strict=True)
    assert told in str(caught.value)


def settings_env(folder: Path, variables: dict[str, object]) -> dict[str, str]:
    for name in ("roles", "templates"):
        if not (folder / name).exists():
            (folder / name).symlink_to(PROJECT / name)
    (folder / "app").mkdir(exist_ok=True)
    plan = make_plan("web1", {"app_name": "shop", "app_path": "app", **variables}, env="production", project=folder)
    return dict(settings_of(plan).env)


def test_the_env_file_of_the_environment_is_merged_with_the_inventory(tmp_path: Path) -> None:
    assert settings_env(tmp_path, {}) == {}
    (tmp_path / "app" / ".env.production").write_text("A=file\nB=file\nPORT=5000\n")
    env = {"B": "inventory", "C": True, "D": 3}
    assert settings_env(tmp_path, {"env": env}) == {
        "A": "file",
        "B": "inventory",
        "C": "true",
        "D": "3",
        "PORT": "5000",
    }
    (tmp_path / "app" / "other.env").write_text("A=other\n")
    assert settings_env(tmp_path, {"env_file": "other.env"}) == {"A": "other"}


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"secrets": ["TOKEN"]}, "secret 'TOKEN' is not set -> set it under 'env' in the inventory"),
        ({"secrets": ["TOKEN"], "env": {"TOKEN": ""}}, "secret 'TOKEN' is not set"),
        ({"env": {"TOKEN": None}}, "variable 'env.TOKEN' should be a text"),
        ({"env": {"TOKEN": "{{ unset }}"}}, "variable 'unset' is not defined"),
        ({"env": {"PORT": 3000}}, "PORT is 3000 in the app's environment, and port is 5000 -> set port: 3000"),
        ({"env_file": "missing.env"}, "missing.env: the env file cannot be read"),
    ],
)
def test_a_secret_that_is_not_set_is_an_error(variables: dict[str, object], told: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        settings_env(tmp_path, variables)
    assert told in str(caught.value)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_node_reads_the_same_values(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(TEXT)
    script = "const u = require('util'); const text = require('fs').readFileSync(0, 'utf8');"
    script += "console.log(JSON.stringify(u.parseEnv ? u.parseEnv(text) : null))"
    said = subprocess.run(["node", "-e", script], input=TEXT, capture_output=True, text=True, check=True).stdout
    theirs = json.loads(said)
    if theirs is None:
        pytest.skip("this node has no util.parseEnv")
    assert theirs == env_file.read(str(path), strict=True)
