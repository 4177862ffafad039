"""Debian 11, 12 and 13 as hosts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.conftest import Project, lab_project


@pytest.fixture(scope="module", params=["bullseye", "trixie"])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    yield from lab_project(tmp_path_factory, request.param, 1, request.param)


def test_the_app_is_deployed_reloaded_under_load_and_rolled_back(other: Project) -> None:
    other.deploy()
    first = other.releases()
    with other.touch_app("another release"), other.load() as counts:
        other.deploy()
    assert counts["failures"] == []
    assert other.releases() != first
    assert other.invoke("rollback", "--env", other.env).returncode == 0
    assert other.releases() == first
