"""Users and groups that were there before, with groups of other names."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from percore.errors import RolloutError
from percore.host.files import gid_of
from percore.host.resources import users_packages
from percore.host.resources.registry import make
from percore.host.supervisor.supervisor import Supervisor

NOBODY = pwd.getpwnam("nobody")  # whose group is `nogroup`
FREE = "no-such-user"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    found: list[list[str]] = []
    monkeypatch.setattr(users_packages, "run", found.append)
    monkeypatch.setattr(users_packages, "find_program", lambda name: name)
    return found


def test_a_user_gets_a_group_of_its_own_or_the_one_that_is_called_so_already(
    ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    user = make({"kind": "user", "name": FREE, "home": "/var/lib/x"})
    assert user.difference() == f"create user {FREE}"
    user.apply()
    assert ran[-1][:2] == ["useradd", "--user-group"]
    known = grp.getgrnam
    monkeypatch.setattr(grp, "getgrnam", lambda name: known("nogroup") if name == FREE else known(name))
    user.apply()
    assert ran[-1][:3] == ["useradd", "--gid", FREE]
    assert "--user-group" not in ran[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_belongs_to_a_user_and_its_group_is_right_where_the_group_has_another_name(tmp_path: Path) -> None:
    assert gid_of("nobody") == NOBODY.pw_gid
    assert gid_of("root") == 0
    with pytest.raises(RolloutError, match="group 'no-such-user' does not exist here"):
        gid_of(FREE)
    directory = make({"kind": "directory", "path": str(tmp_path / "home"), "owner": "nobody", "group": "nobody"})
    directory.apply()
    assert (tmp_path / "home").stat().st_gid == NOBODY.pw_gid
    assert directory.difference() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_command_of_the_supervisors_user_has_the_groups_of_its_login() -> None:
    with Supervisor(["/usr/bin/id"], "/", "nobody", "/").start("-gnr") as child:
        assert child.stdout is not None
        assert child.stdout.read().decode().strip() == grp.getgrgid(NOBODY.pw_gid).gr_name
