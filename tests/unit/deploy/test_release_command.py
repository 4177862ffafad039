"""`release_command`: what may be written, on which host it runs, and when it does not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from percore.deploy.plan.host_plan import make_plan
from percore.deploy.plan.settings import ReleaseCommand
from percore.deploy.rollout.inspect import Seen
from percore.deploy.rollout.switch.release_command import find_runner
from percore.deploy.rollout.wanted import WantedApp, WantedHost
from percore.errors import UsageError
from tests.unit.deploy.planned import render_state, settings_of
from tests.unit.deploy.test_choose import ARTIFACT, NEW, OLD, host_named

PROJECT = Path(__file__).resolve().parents[3]
FACTS = {"facts": {"nginx": "/usr/sbin/nginx", "python_path": "/usr/bin/python3"}, "python_path": "", "package_id": "1"}


def plan_with(**variables: Any) -> Any:
    return make_plan("web1", {"app_name": "shop", "app_path": ".", **variables}, env="test", project=PROJECT)


def command_of(written: Any) -> ReleaseCommand | None:
    return settings_of(plan_with(release_command=written)).release_command


def test_a_line_or_a_mapping_is_a_release_command_and_empty_is_none() -> None:
    assert command_of("") is None
    assert command_of(None) is None
    assert command_of("npm run migrate") == ReleaseCommand("npm run migrate")
    given = {"run": "npm run migrate", "app": "api", "irreversible": True}
    assert command_of(given) == ReleaseCommand("npm run migrate", "api", irreversible=True)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"run": "x", "irreversable": True}, "key 'release_command.irreversable' is not known.*'irreversible'"),
        ({"irreversible": True}, "variable 'release_command.run' should be a command"),
        ({"run": "x", "irreversible": "yes"}, "'release_command.irreversible' should be true or false and is 'yes'"),
        (["npm run migrate"], "variable 'release_command' should be a command and is a list"),
        ("   ", "variable 'release_command' should be a command"),
    ],
)
def test_what_cannot_be_a_release_command_is_refused_with_its_key(written: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        command_of(written)


def test_another_release_command_is_another_release_and_none_changes_no_fingerprint() -> None:
    def fingerprint(**variables: Any) -> str:
        return render_state(plan_with(nginx=False, **variables), known=FACTS).fingerprint("a", {})

    assert fingerprint() == fingerprint(release_command="")
    assert len({fingerprint(release_command=line) for line in ("", "npm run a", "npm run b")}) == 3


SETTINGS = settings_of(plan_with(release_command="npm run migrate"))


def seen(
    name: str,
    *apps: str,
    current: str = OLD,
    known: str | None = None,
    mark: str = "good",
    command: str = "npm run migrate",
) -> Seen:
    settings = dataclasses.replace(SETTINGS, release_command=ReleaseCommand(command) if command else None)
    host = host_named(name, settings=settings)
    reply: Any = {"current": current, "marks": {current: {"mark": mark}}, "status": {"apps": []}}
    record = {"apps": [{"name": app} for app in apps or ("api",)]}
    wanted = WantedHost(host, state=host, package=host, app=WantedApp(ARTIFACT, record, fingerprint=""))
    return Seen(host, wanted, reply, known, is_up_to_date=known is not None and known == current and mark == "good")


def runner_of(*hosts: Seen) -> str:
    runner = find_runner(hosts)
    return runner.name if runner else ""


def test_it_runs_on_the_first_host_of_a_deploy_that_brings_a_new_release() -> None:
    assert runner_of(seen("web1"), seen("web2")) == "web1"
    assert runner_of(seen("web1", command=""), seen("web2", command="")) == ""


def test_it_runs_again_when_the_deploy_before_staged_the_release_and_failed() -> None:
    assert runner_of(seen("web1", known=NEW), seen("web2", known=NEW)) == "web1"


def test_it_does_not_run_where_a_host_has_the_release_live_already() -> None:
    away = seen("web1")
    assert runner_of(away, seen("web2", current=NEW, known=NEW)) == ""
    drifted = dataclasses.replace(seen("web1", current=NEW, known=NEW), is_up_to_date=False)
    assert runner_of(drifted) == ""


def test_a_release_whose_switch_failed_does_not_count_as_live() -> None:
    assert runner_of(seen("web1", current=NEW, known=NEW, mark="staged")) == "web1"


def test_it_runs_on_a_host_that_has_the_app_it_names() -> None:
    both = [seen("web1", "api"), seen("web2", "api", "worker")]
    for one in both:
        one.host.app = dataclasses.replace(SETTINGS, release_command=ReleaseCommand("x", "worker"))
    assert runner_of(*both) == "web2"
    with pytest.raises(UsageError, match="names app 'worker', which no host of this run has"):
        find_runner(both[:1])


def test_hosts_with_different_release_commands_are_refused() -> None:
    with pytest.raises(UsageError, match="hosts web1 and web2: release_command must be the same"):
        find_runner([seen("web1"), seen("web2", command="npm run other")])
