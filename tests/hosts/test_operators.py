"""What operators do beside deploying, on three real hosts: restart, scale, remove."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from percore.deploy.fleet import watch
from percore.deploy.rollout.hosts import load_hosts
from percore.deploy.rollout.scope import Scope
from percore.lab.host import LabHost
from tests.hosts.conftest import Project, set_variables, wait_for


def run(project: Project, *words: str) -> str:
    done = project.invoke(words[0], "--env", project.env, *words[1:])
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_workers_are_replaced_on_every_host_without_losing_a_request(deployed: Project) -> None:
    before = deployed.workers()
    with deployed.load() as counts:
        said = run(deployed, "reload", "--app", "boltlink-api")
    assert counts["failures"] == []
    assert "reloaded on 3 hosts" in said
    after = deployed.workers()
    assert after.keys() == before.keys()
    changed = {app for (host, app, slot), pid in after.items() if before[host, app, slot] != pid}
    assert changed == {"boltlink-api"}
    run(deployed, "restart", "--app", "boltlink-worker", "--limit", deployed.lab.hosts[0].name)
    assert sum(after[place] != pid for place, pid in deployed.workers().items()) == 1


def test_doctor_finds_nothing_on_a_fresh_deploy_and_names_what_is_broken_since(deployed: Project) -> None:
    host = deployed.lab.hosts[1]
    said = run(deployed, "doctor")
    assert "no problems found on 3 hosts" in said, said
    host.run("echo 'nonsense;' >/etc/nginx/conf.d/broken.conf")
    try:
        done = deployed.invoke("doctor", "--env", deployed.env)
    finally:
        host.run("rm /etc/nginx/conf.d/broken.conf")
    assert done.returncode == 1
    assert (
        f'error    {host.name}: NGINX refuses its configuration, and would not start again: unknown directive "nonsense"'
        in done.stdout
    )
    assert f"problems found: {host.name}" in done.stdout


def test_load_spreads_over_all_hosts_and_workers_and_their_sum_is_what_was_sent(deployed: Project) -> None:
    """Through NGINX, which makes a connection to the app for each request."""
    assert "there is no terminal to ask at" in deployed.invoke("loadtest", "--env", deployed.env).stdout
    words = ("--env", deployed.env, "--yes", "--json", "--connections", "12", "--duration", "3")
    command = [
        "nsenter",
        f"--net=/run/netns/{deployed.lab.namespace}",
        sys.executable,
        "-m",
        "invoke",
        "loadtest",
        *words,
    ]
    done = subprocess.run(command, cwd=deployed.folder, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert {worker["app"] for worker in found["workers"]} == {"boltlink-api"}
    assert len(found["hosts"]) == 3
    for host in found["hosts"]:
        own = [worker["accepted"] for worker in found["workers"] if worker["host"] == host["host"]]
        assert host["failed"] == {}
        assert min(own) > 0.3 * max(own)
        assert 0 <= sum(own) - host["requests"] <= 2 * len(own), "more than two health checks for each worker"


def test_an_app_is_scaled_stopped_and_started_on_every_host(deployed: Project) -> None:
    before = deployed.workers().keys()
    run(deployed, "scale", "--app", "boltlink-worker", "--workers", "2")
    assert len(deployed.workers()) == len(before) + 3
    run(deployed, "stop", "--app", "boltlink-worker")
    assert deployed.invoke("status", "--env", deployed.env).returncode == 9
    assert "worker 0 of boltlink-api" in run(deployed, "describe", "--app", "boltlink-api")
    run(deployed, "stop")
    run(deployed, "start")
    assert deployed.workers().keys() == before
    assert deployed.releases()


def test_an_app_is_taken_off_its_hosts_and_deployed_again(deployed: Project) -> None:
    host = deployed.lab.hosts[2]
    set_variables(deployed, shared=["uploads"])
    try:
        deployed.deploy()
        host.run("install -o percore /dev/null /srv/boltlink/shared/uploads/a.txt")
        assert (
            host.run("cat /srv/boltlink/current/uploads/a.txt; stat -c %U /srv/boltlink/shared/uploads") == "percore\n"
        )
        refused = deployed.invoke("remove", "--env", deployed.env, "--limit", host.name)
        assert refused.returncode == 2
        assert "remove /etc/nginx/sites-enabled/boltlink" in refused.stdout
        assert deployed.releases()
        run(deployed, "remove", "--limit", host.name, "--yes")
        assert left_on(host) == ["/srv/boltlink/shared/uploads/a.txt"]
        assert host.run("systemctl is-active nginx").strip() == "active"
        assert host.run("ps -u percore -o comm=", check=False).split() == []
        deployed.deploy()
        wait_for(lambda: len(deployed.releases()) == 1, "all hosts on one release")
        assert host.run("ls /srv/boltlink/current/uploads").strip() == "a.txt"
    finally:
        set_variables(deployed, shared=[])
    deployed.deploy()


def left_on(host: LabHost) -> list[str]:
    """Files of percore and of the app."""
    places = "/srv/boltlink /opt/percore /var/lib/percore /usr/local/bin/percore /etc/systemd/system/percore.service"
    sites = "/etc/nginx/sites-available/boltlink /etc/nginx/sites-enabled/boltlink"
    return host.run(f"find {places} {sites} ! -type d 2>/dev/null", check=False).split()


def test_a_host_that_is_cut_off_is_shown_as_away_and_comes_back_by_itself(
    deployed: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(deployed.folder)
    monkeypatch.setattr(watch, "STALE_SECONDS", 1.0)
    monkeypatch.setattr(watch, "GIVEN_UP_SECONDS", 2.0)
    looks = watch.LiveHosts(load_hosts(Scope(deployed.env, deployed.folder)), 0.5, lambda _: None)

    def states() -> dict[str, str]:
        return {view.name: view.state for view in looks.views()}

    host = deployed.lab.hosts[1]
    everyone = {each.name: "up" for each in deployed.lab.hosts}
    looks.start()
    try:
        wait_for(lambda: states() == everyone, "all hosts to be seen")
        host.cut()
        try:
            wait_for(lambda: states() == {**everyone, host.name: "away"}, "one to be away")
            wait_for(lambda: looks.hosts[host.name].remote is None, "its connection to be given up")
        finally:
            host.join()
        wait_for(lambda: states() == everyone, "it to be back", seconds=60)
    finally:
        looks.close()
