"""Who a worker runs as, and which of the given variables it gets."""

from __future__ import annotations

import os
import pwd

import pytest

from percore.errors import PercoreError
from percore.supervisor.base.environment import filter_environment
from percore.supervisor.base.user import find_group, identity_of
from percore.supervisor.config.app import AppConfig

CONFIG = AppConfig("app", "app.js", "/srv")
GIVEN = {"PATH": "/bin", "LC_ALL": "C", "AWS_KEY": "1", "DEBUG": "2"}


def test_parts_of_names_filter_the_callers_variables_and_true_leaves_the_clean_ones() -> None:
    assert filter_environment(GIVEN, ()) == GIVEN
    assert set(filter_environment(GIVEN, ("KEY", "BUG"))) == {"PATH", "LC_ALL"}
    assert set(filter_environment(GIVEN, ("",))) == {"PATH", "LC_ALL"}


def test_an_app_that_names_nobody_runs_as_the_supervisor() -> None:
    assert identity_of(CONFIG.user, CONFIG.group) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose")
def test_a_user_comes_with_its_home_and_all_its_groups() -> None:
    nobody = pwd.getpwnam("nobody")
    found = identity_of("nobody", "daemon")
    assert found
    assert (found.uid, found.gid) == (nobody.pw_uid, find_group("daemon"))
    assert set(found.groups) == set(os.getgrouplist("nobody", found.gid))
    assert found.variables["HOME"] == nobody.pw_dir


def test_an_unknown_group_is_said_in_one_line() -> None:
    with pytest.raises(PercoreError, match="there is no group 'no-such-group' here"):
        find_group("no-such-group")
