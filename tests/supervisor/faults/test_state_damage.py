"""What stands in the state file may be anything: each app is believed whole or not at all, and no alien process is touched."""

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

from percore.supervisor.state.state_file import StateFile
from tests.supervisor.conftest import Load, Supervisor
from tests.supervisor.faults.tools import (
    becomes_sound,
    is_running,
    lost_nothing,
    plain,
    processes_of,
    start_daemon,
)
from tests.waiting import wait_for

Change = Callable[[dict[str, Any]], None]


def rewrite(supervisor: Supervisor, change: Change, name: str = "state.json") -> None:
    """The state file with a change in it, and a checksum that fits."""
    path = supervisor.home / name
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
        assert "no state file lists them: api, tick; they end when an app is started" in two_apps.log()
        assert processes_of(two_apps) == before
    lost_nothing(load)
    two_apps.apply(plain(two_apps), tick(two_apps), release="r2")
    becomes_sound(two_apps, plain(two_apps), tick(two_apps))
    assert not set(processes_of(two_apps)) & set(before)


def of(name: str, change: Change) -> Change:
    """A change of this app's record."""
    return lambda state: change(next(app for app in state["apps"] if app["config"]["name"] == name))


def workers_of(app: dict[str, Any]) -> list[dict[str, Any]]:
    workers: list[dict[str, Any]] = app["slots"][0]["workers"]
    return workers


def of_worker(**fields: Any) -> Change:
    return of("tick", lambda app: workers_of(app)[0].update(fields))


def of_config(**fields: Any) -> Change:
    return of("tick", lambda app: app["config"].update(fields))


SENSELESS: dict[str, tuple[Change, str]] = {
    "a name that is none": (of_config(name={}), "config.name is an object, not a text"),
    "a time that is none": (of_config(cron_restart="nonsense"), "config.cron_restart is 'nonsense'"),
    "a number of instances that is none": (of_config(instances="many"), "config.instances is 'many'"),
    "far too many instances": (of_config(instances=-(10**30)), "config.instances is -1000"),
    "not a number": (of_config(kill_timeout=float("nan")), "config.kill_timeout is nan"),
    "a number past all limits": (of_config(min_uptime=10**400), "config.min_uptime is 1000"),
    "a signal that is none": (of_config(kill_signal="SIG_DFL"), "config.kill_signal is 'SIG_DFL'"),
    "a port that is none": (of_config(port=99999), "config.port is 99999"),
    "an address that is none": (of_config(listen=["nowhere"]), "config.listen.0 is 'nowhere'"),
    "a list of wrong things": (of_config(args=[["x"]]), "config.args.0 is a list"),
    "a text for a list": (of_config(watch="/srv"), "config.watch is '/srv'"),
    "variables that no program can be given": (of_config(env={"A=B": "x"}), "config.env.'A=B' is not the name"),
    "an app that waits for itself": (of_config(depends_on=["tick"]), "cycle: tick -> tick"),
    "a pid that is none": (of_worker(pid="one"), "slots.0.workers.0.pid is 'one'"),
    "a pid past all limits": (of_worker(pid=10**30), "slots.0.workers.0.pid is 1000"),
    "the pid of init": (of_worker(pid=1), "slots.0.workers.0.pid is 1"),
    "a state in which nothing runs": (of_worker(state="backoff"), "in which nothing runs"),
    "a state that nobody knows": (of_worker(state="frozen"), "slots.0.workers.0.state is 'frozen'"),
    "a socket that is none": (of_worker(addresses=[[2, 1, "nowhere", 1, False]]), "addresses.0 is a list, not an address"),
    "another app's worker": (of("tick", lambda app: workers_of(app)[0]["config"].update(name="api")), "another app's"),
    "a field missing": (of("tick", lambda app: app["slots"][0].pop("wanted")), "slots.0.wanted is missing"),
    "two workers in one place": (of("tick", lambda app: workers_of(app).append(workers_of(app)[0])), "two of the same role"),
    "no place for a worker": (of("tick", lambda app: app["slots"].clear()), "slots is empty"),
    "variables of another kind": (of("tick", lambda app: app.update(base_env=[1])), "base_env is a list"),
    "variables that are nowhere": (of("tick", lambda app: app.update(base_env="0" * 16)), "base_env is '0000"),
}  # fmt: skip


def test_an_app_that_makes_no_sense_is_set_aside_by_name_and_costs_no_other(two_apps: Supervisor) -> None:
    [tick_pid] = two_apps.pids("tick")
    api = two_apps.pids("api")
    for title, (change, reason) in SENSELESS.items():
        two_apps.kill_daemon()
        before = (two_apps.home / "state.json").read_bytes()
        rewrite(two_apps, change)
        seen = len(two_apps.log())
        two_apps.run("ping")
        assert two_apps.pids("api") == api, title
        said = two_apps.log()[seen:]
        assert "is set aside: " in said, title
        assert reason in said, (title, said)
        assert two_apps.pids("tick") == [], title
        assert is_running(tick_pid), title
        two_apps.kill_daemon()
        (two_apps.home / "state.json").write_bytes(before)
        two_apps.run("ping")
        assert two_apps.pids("tick") == [tick_pid], title
    assert "Traceback" not in two_apps.log()


def test_what_runs_of_an_app_that_was_set_aside_serves_until_an_app_of_its_name_is_started(
    supervisor: Supervisor,
) -> None:
    other = supervisor.singleton(name="other", args=["exec sleep 1000"])
    supervisor.apply(plain(supervisor), tick(supervisor))
    before = processes_of(supervisor, "api")
    supervisor.kill_daemon()
    rewrite(supervisor, of("api", lambda app: app["config"].update(mode="swarm")))
    with Load(supervisor.port, keeping=0) as load:
        supervisor.run("ping")
        supervisor.apply(tick(supervisor), other, release="r2")
        supervisor.kill_daemon()
        supervisor.run("ping")
        assert processes_of(supervisor, "api") == before
    lost_nothing(load)
    assert "'api' is set aside: config.mode is 'swarm'" in supervisor.log()
    supervisor.apply(tick(supervisor), other, plain(supervisor), release="r3")
    becomes_sound(supervisor, plain(supervisor), tick(supervisor), other)
    assert not set(processes_of(supervisor, "api")) & set(before)
    path = supervisor.home / "state.json"
    wait_for(lambda: '"set_aside"' not in path.read_text(), "the state to forget what was set aside")


def test_a_singleton_that_was_set_aside_never_runs_twice(two_apps: Supervisor) -> None:
    for again in ("apply", "resurrect"):
        two_apps.run("save")
        two_apps.kill_daemon()
        rewrite(two_apps, of_config(mode="swarm"))
        two_apps.run("ping")
        assert len(processes_of(two_apps, "tick")) == 1
        if again == "apply":
            two_apps.apply(plain(two_apps), tick(two_apps), release="r2")
        else:
            two_apps.run("resurrect")
        becomes_sound(two_apps, plain(two_apps), tick(two_apps))


def test_an_app_that_was_set_aside_is_adopted_by_a_version_that_understands_it(two_apps: Supervisor) -> None:
    before = two_apps.pids("tick")
    two_apps.kill_daemon()
    rewrite(two_apps, of_config(mode="swarm"))
    two_apps.run("ping")
    two_apps.run("restart", "api")  # the state is written anew
    two_apps.kill_daemon()
    patch = "from percore.supervisor.config import kinds\nkinds.KINDS['Mode'] = str"
    seen = len(two_apps.log())
    start_daemon(two_apps, patch)
    assert two_apps.pids("tick") == before
    assert f"tick 0: adopted (pid {before[0]})" in two_apps.log()[seen:]


def test_an_app_that_was_set_aside_can_be_deleted(two_apps: Supervisor) -> None:
    two_apps.kill_daemon()
    rewrite(two_apps, of_config(mode="swarm"))
    two_apps.run("ping")
    two_apps.run("delete", "tick")
    assert processes_of(two_apps, "tick") == []
    path = two_apps.home / "state.json"
    wait_for(lambda: '"set_aside"' not in path.read_text(), "the state to forget it")


def test_a_state_without_any_sense_is_set_aside_and_the_one_before_it_serves(two_apps: Supervisor) -> None:
    changes: list[Change] = [
        lambda state: state.update(apps=7),
        lambda state: state.update(version="one"),
        lambda state: state.update(version=True),
        lambda state: state.pop("version"),
    ]
    for number, change in enumerate(changes):
        before = two_apps.pids("api") + two_apps.pids("tick")
        two_apps.kill_daemon()
        rewrite(two_apps, change)
        two_apps.run("ping")
        assert two_apps.log().count("was set aside as") == number + 1, two_apps.log()
        assert two_apps.pids("api") + two_apps.pids("tick") == before


def test_what_nobody_knows_is_passed_over_and_kept_at_every_depth(two_apps: Supervisor) -> None:
    before = two_apps.pids("api") + two_apps.pids("tick")
    two_apps.kill_daemon()

    def add(state: dict[str, Any]) -> None:
        app = next(app for app in state["apps"] if app["config"]["name"] == "tick")
        slot = app["slots"][0]
        for place in (state, app, app["config"], slot, slot["workers"][0], slot["workers"][0]["config"]):
            place["later"] = {"env": {"BY": "a newer version"}, "list": [1, {"a": None}]}

    rewrite(two_apps, add)
    two_apps.run("ping")
    two_apps.run("scale", "api", "3")
    assert set(before) <= set(two_apps.pids("api") + two_apps.pids("tick"))
    assert "set aside" not in two_apps.log()
    state = StateFile(str(two_apps.home / "state.json")).read()
    app = next(app for app in state["apps"] if app["config"]["name"] == "tick")
    slot = app["slots"][0]
    for place in (state, app, app["config"], slot, slot["workers"][0], slot["workers"][0]["config"]):
        assert place["later"] == {"env": {"BY": "a newer version"}, "list": [1, {"a": None}]}
    # Nor does it keep anybody from working with the app.
    two_apps.run("restart", "tick", "--kill-timeout", "900")
    assert two_apps.apply(plain(two_apps, instances=3), tick(two_apps))["exit_code"] == 0


def test_what_was_saved_is_started_but_for_what_makes_no_sense_of_it(two_apps: Supervisor) -> None:
    two_apps.run("save")
    rewrite(two_apps, of_config(later=True, mode="swarm"), "dump.json")
    two_apps.run("delete", "all")
    done = two_apps.run("resurrect", check=False)
    assert done.returncode == 2
    assert "'tick' cannot be started: config.mode is 'swarm', not cluster or fork; the others were" in done.stderr
    becomes_sound(two_apps, plain(two_apps))
    assert two_apps.pids("tick") == []
    rewrite(two_apps, of_config(mode="fork"), "dump.json")
    two_apps.run("resurrect")
    becomes_sound(two_apps, plain(two_apps), tick(two_apps))
    state = StateFile(str(two_apps.home / "state.json")).read()
    assert [app["config"].get("later") for app in state["apps"]] == [None, True]


def shaped(value: Any, like: Any) -> Any:
    """What `like` says of it, and no more."""
    if isinstance(like, dict):
        return {key: shaped(value[key], item) for key, item in like.items()}
    if isinstance(like, list) and like and isinstance(like[0], dict):
        return [shaped(one, other) for one, other in zip(value, like)]
    return value


@pytest.mark.parametrize("commit", ["4cec26b", "bb318ba", "d3c627e"])
def test_a_state_as_a_former_commit_wrote_it_is_taken_up_with_its_workers(commit: str, supervisor: Supervisor) -> None:
    recorded = json.loads((Path(__file__).parents[1] / "states" / f"{commit}.json").read_text())
    job = supervisor.singleton(name="job", args=["exit 0"], autorestart=False)
    former_tick = {"cron_restart": "0 4 * * *", "stop_exit_codes": [3], "depends_on": ["api"], "max_memory": 100 << 20}
    supervisor.apply(plain(supervisor), {**tick(supervisor), **former_tick}, job)
    wait_for(lambda: supervisor.workers("job")[0]["state"] == "exited", "the job to be done")
    before = processes_of(supervisor)
    supervisor.kill_daemon()
    rewrite(supervisor, lambda state: state.update(shaped(dict(state), recorded["state"])))
    with Load(supervisor.port, keeping=0) as load:
        supervisor.run("ping")
        assert supervisor.pids("api") + supervisor.pids("tick") == before
        assert supervisor.workers("job")[0]["state"] == "exited"
    lost_nothing(load)
    assert "set aside" not in supervisor.log()


def test_a_state_of_a_newer_version_is_read_as_far_as_it_is_understood_and_kept_beside(two_apps: Supervisor) -> None:
    before = two_apps.pids("api") + two_apps.pids("tick")
    two_apps.kill_daemon()
    rewrite(two_apps, lambda state: state.update(version=2))
    newer = (two_apps.home / "state.json").read_bytes()
    two_apps.run("ping")
    assert two_apps.pids("api") + two_apps.pids("tick") == before
    assert "state.json is of version 2, and this percore writes 1" in two_apps.log()
    two_apps.run("scale", "api", "1")
    assert (two_apps.home / "state.json.version-2").read_bytes() == newer
    assert (two_apps.home / "state.env.json.version-2").exists()


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


def test_a_container_that_booted_again_is_known_by_its_init_and_what_was_saved_runs_again(two_apps: Supervisor) -> None:
    """The boot id that a unit sees there may be the machine's, which did not boot."""
    two_apps.run("save")
    two_apps.run("delete", "all")
    two_apps.kill_daemon()
    two_apps.run("ping")
    assert json.loads(two_apps.run("jlist").stdout) == [], "the same boot: what was ended stays so"
    two_apps.kill_daemon()
    rewrite(two_apps, lambda state: state.update(init=state["init"] + 1))
    two_apps.run("ping")
    becomes_sound(two_apps, plain(two_apps), tick(two_apps))


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
