"""`percore apply` of a process file: what it says before, and what it does."""

from __future__ import annotations

import json
from typing import Any

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
