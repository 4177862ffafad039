"""What stands in the state file may be anything: it is believed whole or not at all, and no alien process is touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.supervisor.conftest import Load, Supervisor
from tests.supervisor.faults.tools import becomes_sound, is_running, lost_nothing, plain, processes_of

Change = Callable[[dict[str, Any]], None]


def rewrite(supervisor: Supervisor, change: Change) -> None:
    """The state file with a change in it, and a checksum that fits."""
    path = supervisor.home / "state.json"
    content = json.loads(path.read_text())
    del content["checksum"]
    change(content)
    text = json.dumps(content, sort_keys=True)
    path.write_text(f'{text[:-1]}, "checksum": {zlib.crc32(text.encode())}}}')


@pytest.fixture
def two_apps(supervisor: Supervisor) -> Supervisor:
    supervisor.apply(plain(supervisor), tick(supervisor))
    return supervisor


def tick(supervisor: Supervisor) -> dict[str, Any]:
    return supervisor.singleton(args=["exec sleep 1000"])


@pytest.fixture
def alien() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        yield process
        process.kill()


def broken_files(path: Path) -> dict[str, bytes]:
    whole = path.read_bytes()
    return {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "without its last byte": whole[:-1],
        "not JSON": b"\0\xff\xfe garbage",
        "a list": b"[]",
        "another checksum": whole.replace(b'"checksum": ', b'"checksum": 1'),
        "another version": whole.replace(b'"version": 1', b'"version": 2'),
    }


def test_a_broken_state_file_is_set_aside_and_the_one_before_it_serves(two_apps: Supervisor) -> None:
    for name in broken_files(two_apps.home / "state.json"):
        two_apps.run("ping")
        before = two_apps.pids("api") + two_apps.pids("tick")
        path = two_apps.home / "state.json"
        two_apps.kill_daemon()
        path.write_bytes(broken_files(path)[name])
        for aside in two_apps.home.glob("state.json.unreadable-*"):
            aside.unlink()
        two_apps.run("ping")
        assert two_apps.pids("api") + two_apps.pids("tick") == before, name
        assert list(two_apps.home.glob("state.json.unreadable-*")), name
    assert two_apps.log().count("and the one before it is used") == len(broken_files(two_apps.home / "state.json"))


def test_when_all_is_lost_what_runs_goes_on_serving_until_an_app_is_started(two_apps: Supervisor) -> None:
    before = processes_of(two_apps)
    with Load(two_apps.port, keeping=0) as load:
        two_apps.kill_daemon()
        for path in two_apps.home.glob("state*"):
            path.unlink()
        two_apps.run("ping")
        assert "left runs, and no state tells of it: api, tick; it ends when an app is started" in two_apps.log()
        assert processes_of(two_apps) == before
    lost_nothing(load)
    two_apps.apply(plain(two_apps), tick(two_apps), release="r2")
    becomes_sound(two_apps, plain(two_apps), tick(two_apps))
    assert not set(processes_of(two_apps)) & set(before)


def test_a_state_that_makes_no_sense_is_set_aside_although_its_checksum_fits(two_apps: Supervisor) -> None:
    changes: list[Change] = [
        lambda state: state["apps"].append(state["apps"][0]),
        lambda state: state["apps"][0]["slots"][0]["workers"][0].update(pid="one"),
        lambda state: state["apps"][0]["slots"][0].pop("wanted"),
        lambda state: state["apps"][0]["config"].update(unheard_of=1),
        lambda state: state.update(apps=[7]),
    ]
    for number, change in enumerate(changes):
        before = two_apps.pids("api") + two_apps.pids("tick")
        two_apps.kill_daemon()
        rewrite(two_apps, change)
        two_apps.run("ping")
        assert two_apps.log().count("was set aside") == number + 1, two_apps.log()
        assert two_apps.pids("api") + two_apps.pids("tick") == before


def test_fields_that_nobody_knows_are_passed_over(two_apps: Supervisor) -> None:
    before = two_apps.pids("api")
    two_apps.kill_daemon()
    rewrite(two_apps, lambda state: state.update(added_later={"by": "a newer version"}))
    two_apps.run("ping")
    assert two_apps.pids("api") == before
    assert "set aside" not in two_apps.log()


def test_ids_are_kept_and_those_that_are_there_twice_are_given_anew(two_apps: Supervisor) -> None:
    two_apps.run("scale", "api", "1")
    two_apps.run("scale", "api", "3")
    ids = [worker["id"] for worker in two_apps.workers("api") + two_apps.workers("tick")]
    two_apps.kill_daemon()
    two_apps.run("ping")
    assert [worker["id"] for worker in two_apps.workers("api") + two_apps.workers("tick")] == ids

    def same_ids(state: dict[str, Any]) -> None:
        for app in state["apps"]:
            for slot in app["slots"]:
                slot["id"] = 0

    two_apps.kill_daemon()
    rewrite(two_apps, same_ids)
    two_apps.run("ping")
    now = [worker["id"] for worker in two_apps.workers("api") + two_apps.workers("tick")]
    assert len(set(now)) == 4


def test_a_pid_that_is_somebody_elses_now_is_neither_adopted_nor_touched(
    two_apps: Supervisor, alien: subprocess.Popen[bytes]
) -> None:
    [dead] = two_apps.pids("tick")
    two_apps.kill_daemon()
    os.kill(dead, signal.SIGKILL)

    def take_over(state: dict[str, Any]) -> None:
        app = next(app for app in state["apps"] if app["config"]["name"] == "tick")
        app["slots"][0]["workers"][0]["pid"] = alien.pid

    rewrite(two_apps, take_over)
    two_apps.run("ping")
    becomes_sound(two_apps, plain(two_apps), tick(two_apps))
    two_apps.run("delete", "all")
    assert alien.poll() is None


def of_another_boot(state: dict[str, Any]) -> None:
    """Somebody else has the pids now, even at the same tick after the boot."""
    state["boot"] = "another"
    for app in state["apps"]:
        for worker in (worker for slot in app["slots"] for worker in slot["workers"]):
            worker["token"] = "of that boot"


def test_pids_of_another_boot_mean_nothing(two_apps: Supervisor) -> None:
    before = processes_of(two_apps)
    two_apps.kill_daemon()
    rewrite(two_apps, of_another_boot)
    two_apps.run("ping")
    becomes_sound(two_apps, plain(two_apps), tick(two_apps))
    assert not any(map(is_running, before)), "two of a singleton would run"


def test_in_a_container_where_units_see_different_boot_ids_a_living_worker_is_known_by_its_token(
    two_apps: Supervisor,
) -> None:
    before = processes_of(two_apps)
    two_apps.kill_daemon()
    rewrite(two_apps, lambda state: state.update(boot="another"))
    two_apps.run("ping")
    assert processes_of(two_apps) == before


def test_a_worker_that_died_without_a_supervisor_is_seen_though_its_pid_was_given_to_another(tmp_path: Path) -> None:
    """In a pid namespace of its own, where the next pid can be chosen: the alien gets the dead worker's very number."""
    if os.geteuid() != 0:
        pytest.skip("only root makes pid namespaces")
    script = Path(__file__).with_name("pid_reuse.py")
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "python3", str(script), str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["same-pid", "alien-lives", "worker-runs-once"]
