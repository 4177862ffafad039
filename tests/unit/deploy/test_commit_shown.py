"""The commit of a release goes to the host with it, comes back with every answer about it, and is checked on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from percore import __version__
from percore.common import typed
from percore.deploy import status
from percore.deploy.build.git import Commit
from percore.deploy.connection.messages import CommitFacts
from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from percore.host.messages import SentCommit
from percore.host.release.marks import STAGED, Marks

RELEASE = "20260102030405-1a2b3c4d"
COMMIT = Commit("1f0c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b9c", "main", is_dirty=True)


def test_the_marks_of_a_host_know_the_commit_of_a_release(tmp_path: Path) -> None:
    marks = Marks(str(tmp_path / "releases.json"), lambda _: True)
    marks.set(RELEASE, STAGED, commit=COMMIT._asdict())
    assert marks.commit(RELEASE) == COMMIT._asdict()
    assert marks.commit("20260102030405-00000000") is None
    assert marks.commit(None) is None


def test_what_is_sent_is_what_is_shown() -> None:
    sent = typed.read(SentCommit, COMMIT._asdict())
    assert Commit(*sent) == COMMIT
    assert Commit(*sent).text == "1f0c2d3 main, with uncommitted changes"


@pytest.mark.parametrize(
    ("key", "value"), [("sha", "main; rm -rf /"), ("sha", ""), ("is_dirty", "no"), ("branch", None)]
)
def test_a_host_that_makes_a_commit_up_is_not_believed(key: str, value: Any) -> None:
    with pytest.raises(typed.Wrong):
        typed.read(CommitFacts, {**COMMIT._asdict(), key: value})


def test_status_names_the_commit_of_each_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = {
        "host": "web1",
        "reachable": True,
        "percore": __version__,
        "release": RELEASE,
        "commit": COMMIT._asdict(),
        "apps": [],
        "missing": [],
        "drained": [],
    }
    status._print_status([entry, {**entry, "host": "web2"}], Scope("production", tmp_path), Report())
    shown = capsys.readouterr().out
    assert shown.count(f"release {RELEASE}: commit 1f0c2d3 main, with uncommitted changes") == 1
    assert "version" not in shown
    status._print_status([{**entry, "percore": "0.1.0"}, {**entry, "percore": "99.1"}], Scope("eu", tmp_path), Report())
    ours = f"this is version {__version__} -> "
    told = [line.strip() for line in capsys.readouterr().out.splitlines() if ours in line]
    assert told == [
        f"web1  the supervisor runs version 0.1.0, {ours}{Scope('eu', tmp_path).command('deploy')}",
        f"web1  the supervisor runs version 99.1, {ours}pip install 'percore[deploy]==99.1'",
    ]
