"""Faults that need a systemd of their own: it reloads, is executed anew, loses patience, stops, reboots."""

from __future__ import annotations

import os

import pytest

from tests.hosts.conftest import Project, wait_for


def main_pid(host: object) -> str:
    return host.run("systemctl show -P MainPID percore.service").strip()  # type: ignore[attr-defined,no-any-return]


def test_systemd_reloads_and_is_executed_anew_under_load_and_no_worker_notices(deployed: Project) -> None:
    host = deployed.lab.hosts[0]
    before, supervisor = deployed.workers(), main_pid(host)
    with deployed.load() as counts:
        host.run("systemctl daemon-reload")
        host.run("systemctl daemon-reexec")
        host.run(f"kill -9 {supervisor}")  # the descriptors went through both
        wait_for(lambda: main_pid(host) not in (supervisor, "0"), "another supervisor")
        wait_for(lambda: deployed.workers() == before, "the same workers")
    assert counts["failures"] == []


def test_a_supervisor_that_hangs_is_replaced_by_the_watchdog_and_no_worker_notices(deployed: Project) -> None:
    host = deployed.lab.hosts[0]
    folder = "/run/systemd/system/percore.service.d"
    host.run(
        f"mkdir -p {folder} && printf '[Service]\\nWatchdogSec=2\\n' > {folder}/watchdog.conf && systemctl daemon-reload"
    )
    try:
        supervisor = main_pid(host)
        host.run(f"kill -9 {supervisor}")  # the next one has the shorter limit
        wait_for(lambda: main_pid(host) not in (supervisor, "0"), "another supervisor")
        before = wait_for(deployed.workers, "the workers")
        hanging = main_pid(host)
        with deployed.load() as counts:
            host.run(f"kill -STOP {hanging}")
            wait_for(lambda: main_pid(host) not in (hanging, "0"), "the watchdog")
            wait_for(lambda: deployed.workers() == before, "the same workers")
        assert counts["failures"] == []
        assert "Watchdog timeout" in host.run("journalctl -b -u percore.service")
    finally:
        host.run(f"rm -r {folder} && systemctl daemon-reload")


@pytest.mark.parametrize("kind", ["that is healthy", "that was adopted"])
def test_a_stop_leaves_nothing_in_the_control_group_of_a_supervisor(deployed: Project, kind: str) -> None:
    host = deployed.lab.hosts[0]
    if kind == "that was adopted":
        supervisor = main_pid(host)
        host.run(f"kill -9 {supervisor}")
        wait_for(lambda: main_pid(host) not in (supervisor, "0"), "another supervisor")
    host.run("systemctl stop percore.service")
    left = "cat /sys/fs/cgroup/system.slice/percore.service/cgroup.procs 2>/dev/null"
    assert host.run(left, check=False).split() == []
    host.run("systemctl start percore.service")
    wait_for(lambda: deployed.lab.inside(["curl", "-sf", f"http://{host.address}/health"]).returncode == 0, "the app")


def test_a_host_that_boots_with_a_broken_state_serves_again(deployed: Project) -> None:
    host = deployed.lab.hosts[1]
    host.power_off()
    os.truncate(host.root / "var/lib/percore/state.json", 100)
    host.start()
    wait_for(lambda: deployed.lab.inside(["curl", "-sf", f"http://{host.address}/health"]).returncode == 0, "the app")
    assert "the one before it is used" in host.run("journalctl -b -u percore.service")
