"""`invoke loadtest` on a project of this machine: the workers' sum is the count of the clients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from percore.deploy.loadtest.clients import LoadWish
from percore.deploy.loadtest.verb import LoadOptions, loadtest
from percore.deploy.report import Report
from tests.deploy.project import Project


def test_the_sum_over_the_workers_is_what_was_sent(
    serving: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    svg = tmp_path / "spread.svg"
    wish = LoadWish(connections=8, seconds=2.0)
    options = LoadOptions(wish, "/", direct=True, tool="own", json=True, svg=str(svg), png="")
    capsys.readouterr()
    loadtest(serving.scope, Report(quiet=True), options)
    found = json.loads(capsys.readouterr().out)
    (host,) = found["hosts"]
    assert host["requests"] > 100
    assert host["failed"] == {}
    checks = host["accepted"] - host["requests"]  # each worker's health is asked every ten seconds
    assert 0 <= checks <= len(found["workers"])
    assert sum(worker["accepted"] for worker in found["workers"]) == host["accepted"]
    assert all(worker["accepted"] > 10 for worker in found["workers"])
    assert svg.read_text().count("<rect") == 1 + len(found["workers"])
