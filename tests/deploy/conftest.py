"""A project of this machine, and one that serves; ended when the test is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from percore.deploy import operations
from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from tests.deploy.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    if (tmp_path / ".percore" / "bin").exists():
        operations.stop(Scope("local", tmp_path), Report(quiet=True))


@pytest.fixture
def serving(project: Project) -> Project:
    project.deploy()
    return project
