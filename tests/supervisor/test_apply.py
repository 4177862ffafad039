"""`percore apply` of a process file: what it says before, and what it does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.supervisor.conftest import Supervisor


def write(supervisor: Supervisor, *apps: dict[str, Any]) -> str:
    (supervisor.folder / "apps.json").write_text(json.dumps({"apps": list(apps)}))
    return "apps.json"


def sleeper(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "script": "/bin/sleep", "args": "1000", "interpreter": "none", "min_uptime": 100, **fields}


def test_the_difference_is_said_first_checked_without_a_change_and_gone_after_it(supervisor: Supervisor) -> None:
    file = write(supervisor, sleeper("one", env={"TOKEN": "hidden"}), sleeper("two"))
    check = supervisor.run("apply", file, "--check", check=False)
    assert check.returncode == 8
    assert check.stdout.startswith("+ one\n")
    assert not (supervisor.home / "run" / "control.sock").exists(), "a check starts nothing"
    supervisor.run("apply", file)
    assert supervisor.run("apply", file, "--dry-run").stdout == "nothing to change\n"

    file = write(supervisor, sleeper("one", env={"TOKEN": "other"}, instances=2), sleeper("three"))
    before = supervisor.pids("one")
    pending = supervisor.run("apply", file, "--check", check=False)
    assert pending.returncode == 8
    assert "hidden" not in pending.stdout + supervisor.run("apply", file, "--check", "--json", check=False).stdout
    assert pending.stdout.splitlines()[:3] == [
        "~ one (will be restarted)",
        "    instances: 1 -> 2",
        "    env: ~ TOKEN (values are not shown)",
    ]
    assert pending.stdout.splitlines()[-1] == "- two"
    assert supervisor.pids("one") == before
    applied = supervisor.run("apply", file)
    assert applied.stdout.startswith(pending.stdout)
    assert applied.stdout.splitlines()[-3:] == ["one: restarted", "three: added", "two: removed"]
    supervisor.run("scale", "one", "3")
    answer = json.loads(supervisor.run("apply", file, "--check", "--json", check=False).stdout)
    assert answer["pending"] is True
    assert answer["changes"] == [
        {"app": "one", "change": "scaled", "fields": [{"field": "instances", "from": 3, "to": 2}], "env": {}}
    ]


@pytest.mark.parametrize("lives", [0.2, 0.7])
def test_singletons_prove_together_that_they_live_and_one_that_does_not_takes_all_back(
    supervisor: Supervisor, lives: float
) -> None:
    steady = supervisor.singleton(args=["exec sleep 1000"])
    supervisor.apply(steady, release="r1")
    dies = supervisor.singleton(name="dies", args=[f"sleep {lives}; exit 3"])
    others = [supervisor.singleton(name=name, args=["exec sleep 1000"]) for name in ("one", "two", "three")]
    result = supervisor.apply(steady, dies, *others, release="r2", check=False)
    assert result["exit_code"] == 4
    assert "dies worker 0: exited with code 3" in result["error"]
    [tick] = supervisor.workers("tick")
    assert (tick["state"], tick["release"]) == ("running", "r1")
    assert [supervisor.workers(name) for name in ("dies", "one", "two", "three")] == [[], [], [], []]
    supervisor.apply(steady, *others, release="r2")


def test_apply_waits_for_what_a_supervisor_that_has_just_come_starts(supervisor: Supervisor) -> None:
    slow = supervisor.api(interpreter_args=["--require", "./slow.js"])
    (supervisor.folder / "slow.js").write_text("const end = Date.now() + 1500; while (Date.now() < end);")
    supervisor.apply(slow)
    supervisor.stop_daemon()
    result = supervisor.apply(slow)
    assert result["changes"] == [{"app": "api", "change": "unchanged"}]
    assert [worker["state"] for worker in supervisor.workers("api")] == ["running"] * 2
