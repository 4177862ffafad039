"""Clustered apps: one port, many workers, nothing lost."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest

from percore.common.procfs import start_time_of
from tests.supervisor.conftest import Load, Supervisor
from tests.waiting import wait_for


def test_workers_share_a_port_that_is_declared_nowhere(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    assert {supervisor.get()["pid"] for _ in range(60)} == set(supervisor.pids("api"))
    assert [worker["port"] for worker in supervisor.workers("api")] == [supervisor.port] * 2


def test_one_worker_is_reached_through_the_shared_port_by_its_source_address(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    for slot in (0, 1):
        assert {supervisor.get(source=f"127.77.0.{slot + 1}")["slot"] for _ in range(10)} == {str(slot)}


def test_instances_max_means_one_worker_per_usable_core(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(instances="max"))
    assert len(supervisor.workers("api")) == len(os.sched_getaffinity(0))


def test_an_unmodified_python_server_is_clustered_too(supervisor: Supervisor) -> None:
    server = ["-m", "http.server", str(supervisor.port)]
    supervisor.apply(supervisor.api(interpreter="python3", script=server[0], args=server[1:]))
    for slot in (0, 1):
        with socket.create_connection(
            ("127.0.0.1", supervisor.port), timeout=5, source_address=(f"127.77.0.{slot + 1}", 0)
        ):
            pass
    assert len(set(supervisor.pids("api"))) == 2


def test_a_reload_under_load_loses_no_request(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    before = supervisor.pids("api")
    with Load(supervisor.port) as load:
        for _ in range(3):
            supervisor.run("reload", "api")
    assert load.failures == []
    assert load.counts["bad"] == 0
    assert not set(before) & set(supervisor.pids("api"))


def test_a_new_release_replaces_the_old_one_without_losing_a_request(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(), release="r1")
    with Load(supervisor.port) as load:
        result = supervisor.apply(supervisor.api(), release="r2")
    assert result["changes"] == [{"app": "api", "change": "reloaded"}]
    assert load.failures == []
    assert {supervisor.get()["release"] for _ in range(20)} == {"r2"}


def test_several_workers_switch_at_once_without_losing_a_request(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(instances=4), release="r1")
    before = supervisor.pids("api")
    with Load(supervisor.port) as load:
        result = supervisor.apply(supervisor.api(instances=4, reload_workers=3), release="r2")
    assert result["changes"] == [{"app": "api", "change": "reloaded"}]
    assert load.failures == []
    assert not set(before) & set(supervisor.pids("api"))
    assert {supervisor.get()["release"] for _ in range(40)} == {"r2"}


def test_applying_the_same_release_again_changes_nothing(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(), supervisor.singleton())
    before = supervisor.pids("api") + supervisor.pids("tick")
    result = supervisor.apply(supervisor.api(), supervisor.singleton())
    assert {change["change"] for change in result["changes"]} == {"unchanged"}
    assert supervisor.pids("api") + supervisor.pids("tick") == before


@pytest.mark.parametrize(
    ("fault", "told"),
    [("throw", "the release is broken"), ("silent", "not ready within"), ("unhealthy", "GET / answered 500")],
)
def test_a_broken_release_leaves_the_old_one_serving(supervisor: Supervisor, fault: str, told: str) -> None:
    supervisor.apply(supervisor.api(health="/"), supervisor.singleton(), release="good")
    before = supervisor.pids("api") + supervisor.pids("tick")
    with Load(supervisor.port) as load:
        broken = supervisor.api(env={"FAIL": fault}, listen_timeout=1.5, health="/")
        result = supervisor.apply(broken, supervisor.singleton(), release="broken", check=False)
    assert result["exit_code"] == 4
    assert told in result["error"] + "\n".join(result.get("log_tail", ()))
    assert load.failures == []
    assert load.counts["bad"] == 0
    assert supervisor.pids("api") + supervisor.pids("tick") == before
    assert {supervisor.get()["release"] for _ in range(20)} == {"good"}
    assert "clients wait" not in supervisor.log()


def test_a_reload_that_cannot_go_back_either_does_not_call_itself_taken_back(supervisor: Supervisor) -> None:
    script = supervisor.folder / "first.js"
    script.write_text((supervisor.folder / "server.js").read_text())
    supervisor.apply(supervisor.api(script="first.js"), release="r1")
    (supervisor.folder / "second.js").write_text(
        "if (process.env.NODE_APP_INSTANCE === '1') { require('fs').unlinkSync('first.js'); throw new Error('broken'); }\n"
        + script.read_text()
    )
    result = supervisor.apply(supervisor.api(script="second.js"), release="r2", check=False)
    assert result["exit_code"] == 5
    assert "api worker 1: exited with code 1" in result["error"]
    assert "going back failed: api worker 0: " in result["error"]
    # Neither slot was left without its last good worker.
    assert [worker["release"] for worker in supervisor.workers("api")] == ["r2", "r1"]


def test_a_broken_singleton_takes_the_clustered_app_back_too(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(), supervisor.singleton(), release="good")
    with Load(supervisor.port) as load:
        broken = supervisor.singleton(args=["echo no such table >&2; exit 1"])
        result = supervisor.apply(supervisor.api(), broken, release="broken", check=False)
    assert result["exit_code"] == 4
    assert result["app"] == "tick"
    assert result["log_tail"] == ["no such table"]
    assert load.failures == []
    assert {supervisor.get()["release"] for _ in range(20)} == {"good"}
    assert [worker["state"] for worker in supervisor.workers("tick")] == ["running"]


def test_a_killed_worker_is_back_at_once_and_no_client_hangs(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    with Load(supervisor.port, keeping=0, closing=4) as load:
        for _ in range(4):
            assert seconds_until_another_begins(supervisor) < 1.5, "however long its own start takes"
    assert load.counts["hung"] == 0
    # Only a request that the killed worker had already begun can be lost.
    assert load.counts["lost"] <= 4 * 4
    # Where nobody waits in its queue, nothing else shortens a delay.
    assert seconds_until_another_begins(supervisor) < 1.5
    assert supervisor.workers("api")[0]["restarts"] == 5


def seconds_until_another_begins(supervisor: Supervisor) -> float:
    killed = supervisor.pids("api")[0]
    os.kill(killed, signal.SIGKILL)
    died = time.clock_gettime(time.CLOCK_BOOTTIME)
    wait_for(lambda: self_is_back(supervisor, killed), "the worker to be back")
    return start_time_of(supervisor.pids("api")[0]) / os.sysconf("SC_CLK_TCK") - died


def self_is_back(supervisor: Supervisor, killed: int) -> bool:
    workers = supervisor.workers("api")
    return all(worker["state"] == "running" for worker in workers) and killed not in [
        worker["pid"] for worker in workers
    ]


def test_clients_wait_while_every_worker_is_down(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    for pid in supervisor.pids("api"):
        os.kill(pid, signal.SIGKILL)
    assert supervisor.get()["slot"] in ("0", "1")


def test_a_worker_over_its_memory_limit_is_replaced_without_losing_a_request(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(max_memory_restart=150 << 20))
    leaking = supervisor.get("/leak", source="127.77.0.1")["pid"]
    with Load(supervisor.port) as load:
        wait_for(lambda: leaking not in supervisor.pids("api"), "the leaking worker to be replaced")
    assert load.failures == []


def test_scaling_up_and_down_loses_no_request(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    with Load(supervisor.port) as load:
        supervisor.run("scale", "api", "4")
        assert len({supervisor.get()["pid"] for _ in range(200)}) == 4
        supervisor.run("scale", "api", "1")
    assert len(supervisor.workers("api")) == 1
    assert load.failures == []


def test_a_port_held_by_a_stranger_is_named_with_its_process(supervisor: Supervisor) -> None:
    with socket.socket() as stranger:
        stranger.bind(("0.0.0.0", supervisor.port))
        stranger.listen()
        result = supervisor.apply(supervisor.api(listen_timeout=5.0), check=False)
    assert result["exit_code"] == 4
    assert f"port {supervisor.port} is already in use by " in result["error"]
    assert f"(pid {os.getpid()})" in result["error"]
    assert supervisor.workers("api") == []


def test_two_apps_that_want_one_port_are_both_named(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    result = supervisor.apply(supervisor.api(), supervisor.api(name="other"), release="r2", check=False)
    assert result["exit_code"] == 4
    assert "already shared by the app 'api'" in result["error"]
    assert "other" in result["error"]
    assert supervisor.get()["release"] == "r1"
