"""Deploys to three real hosts: all of them change, or none."""

from __future__ import annotations

import json
import os

import pytest

from percore.lab.host import LabHost
from tests.hosts.conftest import Project, set_variables, wait_for


def test_every_host_serves_one_worker_per_core_and_the_singletons(deployed: Project) -> None:
    hosts = deployed.status()
    assert [host["host"] for host in hosts] == ["node1", "node2", "node3"]
    cores = len(os.sched_getaffinity(0))
    for host in hosts:
        assert host["reachable"]
        assert {(app["name"], app["mode"], app["wanted"]) for app in host["apps"]} == {
            ("boltlink-api", "cluster", cores),
            ("boltlink-aggregator", "fork", 1),
            ("boltlink-worker", "fork", 1),
        }
        for app in host["apps"]:
            assert len(app["workers"]) == app["wanted"]
            for worker in app["workers"]:
                assert worker["state"] == "running"
                assert worker["release"] == host["release"]
                assert {"slot", "pid", "port", "memory_bytes", "cpu_percent", "uptime_seconds", "restarts"} <= set(
                    worker
                )
    assert deployed.releases() == {hosts[0]["release"]}


def test_a_second_deploy_changes_nothing(deployed: Project) -> None:
    before = deployed.workers()
    assert "nothing to change" in deployed.deploy()
    assert deployed.workers() == before


def test_a_new_release_reaches_every_host_without_losing_a_request(deployed: Project) -> None:
    before = deployed.releases()
    with deployed.touch_app("a new release"), deployed.load() as counts:
        deployed.deploy()
    assert counts["failures"] == []
    assert counts["ok"] > 100
    assert len(deployed.releases()) == 1
    assert not deployed.releases() & before


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("const leaked", "throw new Error('the release is broken'); const leaked", "the release is broken"),
        ("server.listen(port,", "setInterval(() => {}, 1000); if (false) server.listen(port,", "not ready within"),
        ("case '/health':", "case '/health': return answer(response, 503, {}); case '/old':", "/health answered 503"),
    ],
    ids=["throws at boot", "never ready", "unhealthy"],
)
def test_a_broken_release_leaves_the_old_one_serving_on_every_host(
    deployed: Project, old: str, new: str, told: str
) -> None:
    before, releases = deployed.workers(), deployed.releases()
    with deployed.changed_app(old, new), deployed.load() as counts:
        output = deployed.deploy(expected=4)
    assert told in output
    assert deployed.releases() == releases
    assert deployed.workers() == before
    assert counts["failures"] == []


def test_rollback_goes_back_to_the_release_before(deployed: Project) -> None:
    first = deployed.releases()
    with deployed.touch_app("to be rolled back"):
        deployed.deploy()
        assert deployed.releases() != first
        with deployed.load() as counts:
            done = deployed.invoke("rollback", "--env", deployed.env)
    assert done.returncode == 0, done.stdout
    assert deployed.releases() == first
    assert counts["failures"] == []


def test_a_worker_killed_under_load_is_not_noticed_behind_nginx(deployed: Project) -> None:
    host = deployed.lab.hosts[0]
    with deployed.load(nginx_only=True) as counts:
        for _ in range(3):
            pid = deployed.workers()[host.name, "boltlink-api", 0]
            host.run(f"kill -9 {pid}")
            wait_for(lambda pid=pid: deployed.workers()[host.name, "boltlink-api", 0] not in (pid, 0), "a new worker")
    assert counts["failures"] == []


def test_the_supervisor_killed_under_load_is_not_noticed(deployed: Project) -> None:
    host = deployed.lab.hosts[0]
    before = deployed.workers()
    with deployed.load() as counts:
        pid = host.run("systemctl show -P MainPID percore.service").strip()
        host.run(f"kill -9 {pid}")
        wait_for(
            lambda: host.run("systemctl show -P MainPID percore.service").strip() not in (pid, "0"),
            "another supervisor",
        )
        wait_for(lambda: deployed.workers() == before, "the same workers")
    assert counts["failures"] == []


def test_a_rebooted_host_serves_again_after_a_deploy(deployed: Project) -> None:
    host = deployed.lab.hosts[1]
    releases = deployed.releases()
    host.reboot()
    wait_for(lambda: deployed.lab.inside(["curl", "-sf", f"http://{host.address}/health"]).returncode == 0, "the app")
    assert deployed.releases() == releases


def test_nothing_starts_at_boot_where_the_inventory_says_so(deployed: Project) -> None:
    host = deployed.lab.hosts[2]
    done = deployed.invoke("unstartup", "--env", deployed.env)
    assert done.returncode == 0
    assert "set startup: false in the inventory" in done.stdout
    assert is_enabled(host, "percore") == "disabled"
    assert is_enabled(host, "nginx") == "enabled"
    deployed.deploy()
    assert is_enabled(host, "percore") == "enabled"
    set_variables(deployed, startup=False)
    try:
        assert "disable percore.service" in deployed.deploy()
        assert is_enabled(host, "percore") == "disabled"
        assert deployed.releases()
    finally:
        set_variables(deployed, startup=True)
    deployed.deploy()


def test_a_file_edited_in_a_release_is_seen_and_all_hosts_leave_that_release(deployed: Project) -> None:
    host = deployed.lab.hosts[1]
    host.run("echo '// by hand' >> /srv/boltlink/current/dist/index.js; touch /srv/boltlink/current/extra.js")
    drift = deployed.invoke("drift", "--env", deployed.env)
    assert drift.returncode == 8
    assert "/dist/index.js" in drift.stdout
    assert "edited by hand: remove /srv/boltlink/releases/" in drift.stdout
    with deployed.load() as counts:
        deployed.deploy()
    assert counts["failures"] == []
    assert len(deployed.releases()) == 1
    assert deployed.invoke("drift", "--env", deployed.env).returncode == 0


def test_status_tells_by_its_exit_code_what_does_not_run_and_converge_starts_it(deployed: Project) -> None:
    host = deployed.lab.hosts[2]
    host.run("systemctl stop percore.service")
    done = deployed.invoke("status", "--env", deployed.env)
    assert done.returncode == 9, done.stdout
    assert f"{host.name}  app boltlink-api does not run" in done.stdout
    assert f"not everything runs on {host.name} -> " in done.stdout
    assert deployed.invoke("converge", "--env", deployed.env, "--limit", host.name).returncode == 0
    assert deployed.invoke("status", "--env", deployed.env).returncode == 0
    assert deployed.releases()


def is_enabled(host: LabHost, unit: str) -> str:
    return host.run(f"systemctl is-enabled {unit}.service", check=False).strip()


def test_logs_of_all_hosts_are_merged_and_named(deployed: Project) -> None:
    done = deployed.invoke("logs", "--env", deployed.env, "--app", "boltlink-aggregator", "--lines", "3")
    assert done.returncode == 0, done.stdout
    for host in deployed.lab.hosts:
        assert any(host.name in line and "tick" in line for line in done.stdout.splitlines())
    words = ("--app", "boltlink-aggregator", "--since", "10m", "--grep", "ti.k", "--json")
    found = [json.loads(line) for line in deployed.invoke("logs", "--env", deployed.env, *words).stdout.splitlines()]
    assert {line["host"] for line in found} == {host.name for host in deployed.lab.hosts}
    assert all("tick" in line.get("message", "tick") for line in found)


def test_ops_get_an_edge_configuration_that_names_every_host(deployed: Project) -> None:
    files = list((deployed.folder / "build" / "nginx" / deployed.env).iterdir())
    text = "".join(path.read_text() for path in files)
    assert "least_conn" in text
    for host in deployed.lab.hosts:
        assert host.address in text


def page_of(project: Project) -> set[tuple[str, str]]:
    """What a visitor of each host gets: the status, and whether it is the page of maintenance."""
    words = ["curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code} %header{retry-after}"]
    answers = [project.lab.inside([*words, f"http://{host.address}/"]).stdout for host in project.lab.hosts]
    return {(status, after) for status, _, after in (answer.partition(" ") for answer in answers)}


def test_during_maintenance_a_release_is_deployed_and_only_then_visitors_see_it(deployed: Project) -> None:
    def turn(state: str, *words: str) -> str:
        done = deployed.invoke(f"maintenance.{state}", "--env", deployed.env, *words)
        assert done.returncode == 0, done.stdout
        return done.stdout

    page = deployed.folder / "page.html"
    page.write_text("<h1>soon</h1>")
    try:
        assert turn("on", "--page", str(page)).count("visitors see the page") == 3
        assert page_of(deployed) == {("503", "60")}
        with deployed.touch_app("maintained"):
            assert "NGINX too" in deployed.deploy()
            assert page_of(deployed) == {("503", "60")}
    finally:
        assert turn("off").count("visitors reach the app") == 3
    assert page_of(deployed) == {("200", "")}
    assert len(deployed.releases()) == 1


def test_a_site_that_leads_nowhere_is_found_at_once_and_rolled_back(serving: Project) -> None:
    """The workers of the former configuration answer for some milliseconds after the reload."""
    template = serving.folder / "templates" / "nginx-site.conf.j2"
    text = template.read_text()
    set_variables(serving, health_seconds=3)
    template.write_text("server { listen 80 default_server; location / { proxy_pass http://127.0.0.1:5999; } }\n")
    try:
        assert "through NGINX on port 80: GET /health answered 502" in serving.deploy(expected=4)
    finally:
        template.write_text(text)
    assert page_of(serving) == {("200", "")}
