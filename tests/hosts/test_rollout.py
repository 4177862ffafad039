"""Rollouts that go wrong in every way: batches, cut links, dead control machines, dead hosts. No host keeps a bad release."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.hosts.conftest import Project, set_variables, wait_for


def currents(project: Project) -> set[str]:
    return {host["release"] for host in project.status()}


@contextlib.contextmanager
def deploy_that_waits(
    project: Project, tmp_path: Path, hook: str = "before_confirm"
) -> Iterator[subprocess.Popen[str]]:
    """A deploy that stands still in a hook until the block ends; its output is in `deploy.log`."""
    gate = tmp_path / "gate"
    set_variables(project, hooks={hook: f"touch {gate}; while [ -e {gate} ]; do sleep 0.1; done"})
    with (tmp_path / "deploy.log").open("w") as log:
        deploy = subprocess.Popen(
            [sys.executable, "-m", "invoke", "deploy", "--env", project.env], cwd=project.folder, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, text=True,
            # Where the tests themselves run in the background, Ctrl-C would be ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        try:
            wait_for(lambda: gate.exists() or deploy.poll() is not None, "the hook", seconds=120)
            assert deploy.poll() is None, (tmp_path / "deploy.log").read_text()
            yield deploy
            gate.unlink(missing_ok=True)
            deploy.wait(120)
        finally:
            deploy.kill()
            deploy.wait()
            set_variables(project, hooks={})


def lost_none(counts: dict[str, Any]) -> bool:
    assert (counts["bad"], counts["lost"]) == (0, 0), counts
    return bool(counts["ok"])


BROKEN = ("let isStopping = false;", "let isStopping = false; if (process.env.PORT) throw new Error('broken');")


def test_a_canary_that_fails_keeps_the_release_from_all_others(serving: Project) -> None:
    before, workers = currents(serving), serving.workers()
    with serving.changed_app(*BROKEN), serving.load() as counts:
        output = serving.deploy(expected=4)
    assert "batch 1 of 2: node1" in output
    assert "batch 2" not in output
    assert currents(serving) == before
    assert serving.workers() == workers
    assert lost_none(counts)


def test_a_host_that_fails_in_the_last_batch_takes_all_earlier_batches_back(serving: Project) -> None:
    """Ansible's `serial` marches on past such a host, and leaves the batches before it on the new version."""
    before = currents(serving)
    set_variables(serving, serial=1, canary=0, health_seconds=2)
    set_variables(serving, "node3", health_path="/no-such-page")
    with serving.touch_app("for the last batch"), serving.load() as counts:
        output = serving.deploy(expected=4)
    assert "batch 3 of 3: node3" in output
    assert "every host is back on its former release" in output
    assert currents(serving) == before
    assert lost_none(counts)


def test_failures_within_the_policy_leave_those_hosts_on_their_former_release(serving: Project) -> None:
    (before,) = currents(serving)
    set_variables(serving, max_fail_percentage=40, canary=0, health_seconds=2)
    set_variables(serving, "node3", health_path="/no-such-page")
    with serving.touch_app("two of three"):
        output = serving.deploy()
    assert "node3 keeps its former release" in output
    found = {host["host"]: host["release"] for host in serving.status()}
    assert found["node3"] == before
    assert found["node1"] == found["node2"] != before


def test_a_host_that_was_away_is_brought_to_the_release_of_the_others(serving: Project) -> None:
    away = serving.lab.hosts[2]
    set_variables(serving, max_fail_percentage=40)
    away.cut()
    try:
        with serving.touch_app("without node3"):
            output = serving.deploy()
            away.join()
            assert "left out -> when it is back: invoke converge" in output
            assert len(currents(serving)) == 2
            done = serving.invoke("converge", "--env", serving.env, "--limit", "node3")
            assert done.returncode == 2, done.stdout
            assert f"invoke deploy --env {serving.env} brings it there" in done.stdout
            serving.deploy()
            assert len(currents(serving)) == 1
    finally:
        away.join()


def test_a_cut_connection_is_taken_up_again_and_the_deploy_goes_on(serving: Project, tmp_path: Path) -> None:
    (before,) = currents(serving)
    with serving.touch_app("cut"), serving.load() as counts, deploy_that_waits(serving, tmp_path):
        cut_ssh(serving, "node2")
    assert "done: 3 hosts" in (tmp_path / "deploy.log").read_text()
    (after,) = currents(serving)
    assert after != before
    assert lost_none(counts)


FIND_SSHD = """
import os
for pid in filter(str.isdigit, os.listdir('/proc')):
    words = open(f'/proc/{pid}/cmdline').read().split(chr(0))
    if words[1:2] == ['-I'] and 'percore agent' in ' '.join(words):
        while 'sshd' not in open(f'/proc/{pid}/comm').read():
            pid = open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1]
        os.kill(int(pid), 9)
        print(pid)
"""


def cut_ssh(project: Project, name: str) -> None:
    """Ends the deploy's connection on the host's side: the session of sshd, not the agent below it."""
    assert project.lab.host(name).run(f"python3 -c {shlex.quote(FIND_SSHD)}").split()


def test_a_host_that_reboots_between_switch_and_confirmation_keeps_the_new_release(
    serving: Project, tmp_path: Path
) -> None:
    # While it boots it answers nothing, which is not the release's fault.
    set_variables(serving, probe_max_failed_percentage=100, probe_max_slowdown=0)
    (before,) = currents(serving)
    with serving.touch_app("reboot"), deploy_that_waits(serving, tmp_path):
        serving.lab.host("node2").reboot()
    assert "done: 3 hosts" in (tmp_path / "deploy.log").read_text()
    (after,) = currents(serving)
    assert after != before


def test_a_host_that_dies_takes_the_others_back_and_is_set_right_when_it_returns(
    serving: Project, tmp_path: Path
) -> None:
    (before,) = currents(serving)
    host = serving.lab.host("node2")
    with serving.touch_app("dies"), deploy_that_waits(serving, tmp_path) as deploy:
        host.power_off()
    host.start()
    text = (tmp_path / "deploy.log").read_text()
    assert deploy.returncode == 5, text
    assert "not certain to be back on the former release: node2" in text
    done = serving.invoke("converge", "--env", serving.env, "--limit", "node2")
    assert done.returncode == 0, done.stdout
    assert currents(serving) == {before}


def test_a_hook_that_fails_before_the_switch_touches_nothing_and_after_it_takes_all_back(serving: Project) -> None:
    before, workers = currents(serving), serving.workers()
    set_variables(serving, hooks={"before_activate": "echo no, not today; exit 3"})
    with serving.touch_app("hooks"):
        output = serving.deploy(expected=3)
        assert "hook before_activate ended with exit code 3" in output
        assert "no, not today" in output
        assert serving.workers() == workers
        set_variables(serving, hooks={"after_activate": "false", "failed": "echo it failed: $PERCORE_ERROR"})
        output = serving.deploy(expected=4)
    assert "it failed: hook after_activate" in output
    assert currents(serving) == before


def test_a_lock_that_a_person_holds_keeps_deploys_away_until_it_is_let_go(serving: Project) -> None:
    assert serving.invoke("lock", "--env", serving.env, "--why", "inspecting node2").returncode == 0
    with serving.touch_app("locked"):
        output = serving.deploy(expected=6)
        assert "inspecting node2" in output
        assert "invoke unlock" in output
        assert serving.invoke("lock", "--env", serving.env).returncode == 6
        done = serving.invoke("unlock", "--env", serving.env)
        assert "inspecting node2" in done.stdout
        serving.deploy()


def test_history_tells_who_switched_what_and_how_it_ended(serving: Project) -> None:
    with serving.touch_app("for the history"):
        serving.deploy()
    with serving.changed_app(*BROKEN):
        serving.deploy(expected=4)
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "history", "--env", serving.env, "--json", "--lines", "2", "--limit", "node1"],
        cwd=serving.folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    good, failed = json.loads(done.stdout)
    assert (good["what"], good["result"]) == ("deploy", "good")
    assert failed["result"].startswith("failed: ")
    assert failed["former"] == good["release"]
    assert "@" in good["who"]


def test_a_command_runs_on_all_hosts_at_once(serving: Project) -> None:
    done = serving.invoke("exec", "--env", serving.env, "--", "hostname; exit 0")
    assert {f"node{number} | node{number}" for number in (1, 2, 3)} <= set(done.stdout.splitlines())
    done = serving.invoke("exec", "--env", serving.env, "--limit", "node2", "--", "sh", "-c", "exit 7")
    assert done.returncode == 1
    assert "node2: 'sh -c 'exit 7'' ended with exit code 7" in done.stdout
    assert "node1" not in done.stdout


LISTING = "find / -xdev -not -path '/tmp/*' -not -path '/var/log/*' -not -path '/run*' -printf '%p %s %m %U %T@ %l\\n'"


def test_a_check_changes_nothing_on_any_host(serving: Project) -> None:
    with serving.touch_app("only to be looked at"):
        set_variables(serving, nginx_body_size="11m")
        before = {host.name: set(host.run(LISTING).splitlines()) for host in serving.lab.hosts}
        done = serving.invoke("deploy", "--env", serving.env, "--check", "--diff")
        assert done.returncode == 8, done.stdout
        assert "client_max_body_size 11m" in done.stdout
        changed = {
            name for host in serving.lab.hosts for name in set(host.run(LISTING).splitlines()) ^ before[host.name]
        }
    logs = ("/var/lib/percore/", "/var/lib/systemd", "/root/.cache", "/var/lib/nginx")
    assert [line for line in changed if not line.startswith(logs)] == []


def test_a_singleton_can_be_pinned_to_one_host_and_moves_without_running_twice(serving: Project) -> None:
    def where() -> list[str]:
        return [host for host, app, _ in serving.workers() if app == "boltlink-aggregator"]

    set_variables(serving, placement={"boltlink-aggregator": "app[0]"})
    serving.deploy()
    assert where() == ["node1"]
    set_variables(serving, placement={"boltlink-aggregator": "app[-1]"})
    output = serving.deploy()
    assert where() == ["node3"]
    assert output.index("node1  switch the apps") < output.index("node3  switch the apps")
    set_variables(serving, placement={"boltlink-aggregatr": "app[0]"})
    assert "did you mean 'boltlink-aggregator'?" in serving.deploy(expected=2)


def test_an_app_that_the_fleet_has_once_stays_where_it_is_and_moves_when_its_host_is_given_up(serving: Project) -> None:
    path = serving.folder / "inventories" / f"{serving.env}.yml"
    before = path.read_text()

    def where() -> list[str]:
        return [host for host, app, _ in serving.workers() if app == "boltlink-aggregator"]

    def change_hosts(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        content = yaml.safe_load(path.read_text())
        group = content["all"]["children"]["app"]
        group["hosts"] = change(group["hosts"])
        path.write_text(yaml.safe_dump(content, width=1000, sort_keys=False))

    with serving.touch_app("a release that has it everywhere"):
        output = serving.deploy()
        assert "boltlink-aggregator: once on each of 3 hosts -> placement: {boltlink-aggregator: one}" in output
        assert where() == ["node1", "node2", "node3"]
    try:
        set_variables(serving, placement={"boltlink-aggregator": "one"})
        serving.deploy()
        assert where() == ["node1"]
        done = serving.invoke("rollback", "--env", serving.env)
        assert done.returncode == 0, done.stdout
        assert where() == ["node1"]
        change_hosts(lambda hosts: {name: hosts[name] for name in ("node3", "node2", "node1")})
        serving.deploy()
        assert where() == ["node1"]
        # Given up: percore ends there, and the host leaves the inventory.
        done = serving.invoke("stop", "--env", serving.env, "--limit", "node1")
        assert done.returncode == 0, done.stdout
        change_hosts(lambda hosts: {name: hosts[name] for name in ("node3", "node2")})
        done = serving.invoke("converge", "--env", serving.env)
        assert done.returncode == 0, done.stdout
        assert "boltlink-aggregator moves to node3: node1 is no longer in the inventory" in done.stdout
        assert where() == ["node3"]
    finally:
        path.write_text(before)
        serving.deploy()
