"""The placement is the fleet's: what of a release's record this host's supervisor is given, and how that is taken back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from percore.host.release.change.journal import Journal
from percore.host.release.change.record import SwitchRecord
from percore.host.release.placement import names_of, note_holders, read_holders, record_here, record_resource
from percore.host.release.releases import Releases
from percore.host.resources.registry import make
from tests.unit.host.test_messages import RELEASE, Host

API: dict[str, Any] = {"name": "api", "script": "api.js", "depends_on": ["worker"]}
WHOLE = {"version": 1, "apps": [API, {"name": "worker", "script": "worker.js"}]}
ALONE = {"version": 1, "apps": [{"name": "api", "script": "api.js"}]}


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    found = Releases(str(tmp_path / "app"))
    os.makedirs(os.path.join(found.path(RELEASE), ".percore"))
    Path(found.record_path(RELEASE)).write_text(json.dumps(ALONE))
    Path(found.path(RELEASE), ".percore", "record.json").write_text(json.dumps(WHOLE))
    return found


def test_a_host_gets_an_app_that_it_had_not_when_the_release_was_staged(releases: Releases) -> None:
    assert record_here(releases, RELEASE, []) == WHOLE
    assert record_here(releases, RELEASE, ["worker"]) == ALONE
    assert record_here(releases, RELEASE, None) == ALONE
    assert names_of(releases, RELEASE) == ["api", "worker"]
    assert names_of(releases, None) == []


def test_a_release_of_an_older_version_has_what_it_was_staged_with(releases: Releases) -> None:
    Path(releases.path(RELEASE), ".percore", "record.json").unlink()
    assert record_here(releases, RELEASE, []) == ALONE
    assert names_of(releases, RELEASE) == ["api"]


def test_a_placement_that_changed_is_taken_back_with_the_switch(releases: Releases) -> None:
    path = Path(releases.record_path(RELEASE))
    path.chmod(0o600)
    before = path.read_bytes()
    record = SwitchRecord(Journal(releases.journal_path), RELEASE, RELEASE)
    record.begin("ann", "run", {})
    placed = make(record_resource(releases, RELEASE, [], None))
    for former in placed.former():
        record.note_former(former)
    placed.apply()
    assert json.loads(path.read_text()) == WHOLE
    assert make(record_resource(releases, RELEASE, [], None)).difference() is None
    found = SwitchRecord.read(Journal(releases.journal_path))
    assert found
    make(found.restore[-1]).apply()
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o600


def test_who_holds_what_the_fleet_has_once_is_kept_and_told(releases: Releases, tmp_path: Path) -> None:
    assert read_holders(releases) == {}
    note_holders(releases, {"worker": "web2"})
    assert read_holders(releases) == {"worker": "web2"}
    (tmp_path / "app" / "current").symlink_to(f"releases/{RELEASE}")
    (tmp_path / "app" / "releases.json").write_text(json.dumps({RELEASE: {"mark": "good"}}))
    status = Host(tmp_path).ask("status")
    assert (status["apps"], status["placement"]) == (["api", "worker"], {"worker": "web2"})
    Path(releases.placement_path).write_text("{")
    assert read_holders(releases) == {}
