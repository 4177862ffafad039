"""One ansible-core for all oracle tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.oracle.asking import Ansible, running_ansible


@pytest.fixture(scope="session")
def ansible(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ansible]:
    with running_ansible(tmp_path_factory.mktemp("ansible")) as ansible:
        yield ansible
