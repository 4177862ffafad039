"""Roles that change files services read: a handler stays pending until some run has run it, and is rolled back with the change.

And runs that are about a part of it only: `--tags`, `--skip-tags`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from percore.lab.host import LabHost
from tests.hosts.conftest import set_variables, wait_for
from tests.hosts.rehearsal import Rehearsal

ROLE = """
tags: [greeter]
defaults: {greeting: hello, step: "true", unit_note: one}
files:
  - {path: /etc/greeting, content: "{{ greeting }}\\n", notify: restart greeter}
units:
  - {name: greeter.service, template: greeter.service.j2, active: true}
commands:
  - {run: "{{ step }}"}
  - {run: touch /var/lib/greeter-ready, creates: /var/lib/greeter-ready, notify: count}
handlers:
  - {name: restart greeter, restart: greeter.service}
  - {name: count, run: sh -c 'echo run >> /var/lib/greeter-count'}
"""
UNIT = """# {{ unit_note }}
[Service]
ExecStart=/bin/sh -c 'cp /etc/greeting /run/greeted; exec sleep infinity'
"""


@pytest.fixture
def project(rehearsal: Rehearsal) -> Iterator[Rehearsal]:
    """A host that says at its start what it read; each test begins with a file of another text."""
    inventory = rehearsal.folder / "inventories" / f"{rehearsal.env}.yml"
    text = inventory.read_text()
    role = rehearsal.folder / "roles" / "greeter"
    (role / "templates").mkdir(parents=True, exist_ok=True)
    (role / "role.yml").write_text(ROLE)
    (role / "templates" / "greeter.service.j2").write_text(UNIT)
    set_variables(rehearsal, roles=["rehearsal", "greeter"])
    rehearsal.free()
    yield rehearsal
    inventory.write_text(text)
    rehearsal.deploy()


def change(project: Rehearsal, old: str, new: str) -> None:
    role = project.folder / "roles" / "greeter" / "role.yml"
    assert old in role.read_text()
    role.write_text(role.read_text().replace(old, new))


def deploy(project: Rehearsal, expected: int = 0, *words: str) -> str:
    done = project.invoke("deploy", "--env", project.env, "--limit", "node1", *words)
    assert done.returncode == expected, done.stdout
    return done.stdout


def host(project: Rehearsal) -> LabHost:
    return project.lab.host("node1")


def greeted(project: Rehearsal) -> str:
    """What the service read at its start, which is a moment after systemd called it started."""
    return host(project).run("cat /run/greeted").strip()


def starts(project: Rehearsal) -> str:
    return host(project).run("systemctl show --property=InvocationID --value greeter.service").strip()


def test_handlers_are_pending_until_they_have_run(project: Rehearsal) -> None:
    """Ansible's trap: a file changed, a later step failed; the next run finds the file right and restarts nothing."""
    output = deploy(project)
    assert "start greeter.service" in output
    assert "restart greeter.service" not in output  # it was started after the change
    wait_for(lambda: greeted(project) == "hello", "the greeting")
    assert "nothing to change" in deploy(project)
    assert host(project).run("cat /var/lib/greeter-count").split() == ["run"]

    first = starts(project)
    change(project, "greeting: hello", "greeting: good morning")
    change(project, 'step: "true"', 'step: "false"')
    output = deploy(project, 4)
    assert "'false' failed" in output
    assert host(project).run("cat /etc/greeting") == "hello\n"
    assert starts(project) == first  # it never read the other text

    change(project, 'step: "false"', 'step: "true"')
    plan = project.invoke("plan", "--env", project.env, "--limit", "node1").stdout
    assert "change /etc/greeting" in plan
    assert "then restart greeter.service" in plan
    output = deploy(project)
    assert "restart greeter.service, because: change /etc/greeting" in output
    wait_for(lambda: greeted(project) == "good morning", "the greeting")


def test_a_host_that_loses_power_before_the_handler_ran_runs_it_later(project: Rehearsal) -> None:
    deploy(project)
    first = starts(project)
    pending = {
        "restart greeter": {
            "handler": {"kind": "restart", "name": "restart greeter", "unit": "greeter.service"},
            "because": "change /etc/greeting", "invocation": first,
        }
    }  # fmt: skip
    host(project).run(f"echo '{json.dumps(pending)}' > /srv/web/owed.json")
    drift = project.invoke("drift", "--env", project.env, "--limit", "node1")
    assert drift.returncode == 8, drift.stdout
    assert "restart greeter.service" in drift.stdout
    assert "restart greeter.service, because: change /etc/greeting" in deploy(project)
    assert starts(project) != first
    assert "nothing to change" in deploy(project)


def test_a_handler_whose_unit_was_restarted_by_hand_is_no_longer_pending(project: Rehearsal) -> None:
    deploy(project)
    pending = {
        "handler": {"kind": "restart", "name": "r", "unit": "greeter.service"},
        "because": "x",
        "invocation": "0",
    }
    host(project).run(f"echo '{json.dumps({'r': pending})}' > /srv/web/owed.json")
    assert "nothing to change" in deploy(project)


def test_a_unit_that_does_not_come_up_again_brings_back_what_it_read_before(project: Rehearsal) -> None:
    deploy(project)
    before = greeted(project)
    change(project, "greeting: ", "greeting: wrong ")
    unit = project.folder / "roles" / "greeter" / "templates" / "greeter.service.j2"
    unit.write_text(UNIT.replace("exec sleep infinity", "grep -q wrong /etc/greeting && exit 1; exec sleep infinity"))
    output = deploy(project, 4)
    assert "greeter.service does not stay up" in output
    assert host(project).run("cat /etc/greeting").strip() == before
    wait_for(lambda: host(project).run("systemctl is-active greeter.service || true").strip() == "active", "it again")
    assert greeted(project) == before


def test_a_changed_unit_file_restarts_its_unit_and_the_supervisors_own_hands_over(project: Rehearsal) -> None:
    deploy(project)
    first, workers = starts(project), project.workers()
    main_pid = "systemctl show --property=MainPID --value percore.service"
    supervisor = host(project).run(main_pid)
    set_variables(project, unit_note="two", unit_options="NoNewPrivileges=yes")
    with project.load() as counts:
        output = deploy(project)
    assert "restart greeter.service, because: change /etc/systemd/system/greeter.service" in output
    assert starts(project) != first
    assert host(project).run(main_pid) != supervisor
    assert (counts["bad"], counts["lost"]) == (0, 0), counts
    after = project.workers()
    assert {key: pid for key, pid in after.items() if key[0] != "node1"} == {
        key: pid for key, pid in workers.items() if key[0] != "node1"
    }


def test_what_a_role_no_longer_brings_ends_and_goes(project: Rehearsal) -> None:
    deploy(project)
    role = project.folder / "roles" / "greeter" / "role.yml"
    role.write_text("description: nothing any more\n")
    output = deploy(project)
    assert "stop and disable greeter.service" in output, output
    files = "/etc/greeting /etc/systemd/system/greeter.service"
    left = host(project).run(f"ls {files} 2>/dev/null; systemctl is-active greeter || true")
    assert left.split() == ["inactive"]


def test_a_run_with_tags_changes_what_has_them_and_touches_no_worker(project: Rehearsal) -> None:
    deploy(project)
    before, workers = greeted(project), project.workers()
    set_variables(project, greeting="tagged")
    project.version("an app that is not to be deployed")
    assert project.invoke("plan", "--env", project.env, "--limit", "node1", "--tags", "greeter").returncode == 8
    output = deploy(project, 0, "--tags", "greeter")
    assert "build" not in output
    assert "restart greeter.service, because: change /etc/greeting" in output
    wait_for(lambda: greeted(project) == "tagged", "the greeting")
    assert project.workers() == workers
    assert "nothing to change" in deploy(project, 0, "--tags", "greeter")
    drift = project.invoke("drift", "--env", project.env, "--limit", "node1")
    assert drift.returncode == 0, drift.stdout  # the release has it now

    set_variables(project, step="false")
    set_variables(project, greeting="fails")
    assert "every host is back" in deploy(project, 4, "--tags", "greeter")
    assert host(project).run("cat /etc/greeting").strip() == "tagged"
    assert project.invoke("drift", "--env", project.env, "--limit", "node1").returncode == 0

    set_variables(project, step="true")
    output = deploy(project, 0, "--skip-tags", "greeter")
    assert project.workers() != workers
    assert host(project).run("cat /etc/greeting").strip() == "tagged"
    assert "nothing to change" in deploy(project, 0, "--skip-tags", "greeter")
    assert "did you mean 'greeter'?" in deploy(project, 2, "--tags", "greetr")
    assert before != "tagged"


def test_where_somebody_must_say_yes_nothing_is_switched_without(project: Rehearsal) -> None:
    deploy(project)
    set_variables(project, ask_before_switch=True)
    set_variables(project, greeting="asked")
    output = deploy(project, 2)
    assert "there is no terminal to ask at -> add --yes" in output
    master, terminal = os.openpty()
    for answer, code in (("n\n", 3), ("y\n", 0)):
        os.write(master, answer.encode())
        done = subprocess.run(
            [sys.executable, "-m", "invoke", "deploy", "--env", project.env, "--limit", "node1"], cwd=project.folder,
            stdin=terminal, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert "change /etc/greeting" in done.stdout
    os.close(master)
    os.close(terminal)
    wait_for(lambda: greeted(project) == "asked", "the greeting")


def test_a_rollback_says_first_what_it_changes(project: Rehearsal) -> None:
    deploy(project)
    set_variables(project, greeting="too new")
    deploy(project)
    done = project.invoke("rollback", "--env", project.env, "--limit", "node1")
    assert done.returncode == 0, done.stdout
    assert "-too new" in done.stdout
    assert done.stdout.index("-too new") < done.stdout.index("\nactivate")
    assert "then restart greeter.service" in done.stdout
    wait_for(lambda: greeted(project) != "too new", "the former greeting")
