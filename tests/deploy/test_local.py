"""Deploys to this machine, with the real supervisor and a small real app: what changes, and above all what does not."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from percore.deploy import control, operations, status
from percore.deploy.command_line import relative
from percore.deploy.connection import agent, stream
from percore.deploy.fleet import logs as fleet_logs
from percore.deploy.fleet.logs import LogWish
from percore.deploy.fleet_page.serve import write_report
from percore.deploy.fleet_page.source import FleetSource, look, try_to_look
from percore.deploy.report import Report
from percore.deploy.rollout import choose, inspect, stage, wanted
from percore.deploy.rollout import hosts as fleet
from percore.deploy.rollout.diff import ChangesPending
from percore.deploy.rollout.edge.draining import LoadBalancers
from percore.deploy.rollout.switch import switch
from percore.deploy.rollout.verbs import known_release, preview
from percore.errors import LockedError, PreflightError, RolloutError, UnreachableError, UsageError
from percore.web.dashboard.log_lines import LogQuery
from percore.web.dashboard.orders import PageOrder
from tests.deploy.project import SOURCE, Project
from tests.waiting import free_port, wait_for


def test_a_deploy_serves_and_a_second_one_changes_nothing(serving: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert serving.ask()["text"] == "one"
    before, release = serving.pids(), serving.current
    assert len(before) == 3
    assert serving.mark_of(release) == "good"
    started = time.monotonic()
    serving.deploy()
    assert time.monotonic() - started < 1.5
    assert "nothing to change" in capsys.readouterr().out
    assert serving.pids() == before
    assert serving.releases() == [release]


def test_a_new_version_replaces_the_old_one_without_losing_a_request(serving: Project) -> None:
    first = serving.current
    serving.write("two")
    with serving.load() as faults:
        serving.deploy()
    assert faults == []
    assert serving.ask()["text"] == "two"
    assert serving.current != first


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"text": "two", "prefix": "throw new Error('no such table');\n"}, "exited with code 1"),
        ({"text": "two", "health": False}, "/health answered 500"),
        ({"text": "two", "prefix": "process.exit = 1; require('http').Server.prototype.listen = () => {};\n"}, ""),
    ],
    ids=["throws at boot", "unhealthy", "never listens"],
)
def test_a_broken_version_leaves_the_old_one_untouched(serving: Project, broken: dict[str, Any], told: str) -> None:
    before, release = serving.pids(), serving.current
    serving.write(**broken)
    with serving.load() as faults, pytest.raises(RolloutError, match="former release") as caught:
        serving.deploy()
    assert faults == []
    assert told in str(caught.value)
    assert serving.pids() == before
    assert serving.current == release
    (failed,) = set(serving.releases()) - {release}
    assert serving.mark_of(failed) == "bad"


def test_a_failure_ends_with_the_apps_own_last_lines(serving: Project) -> None:
    serving.write("two", prefix="throw new Error('no such table');\n")
    with pytest.raises(RolloutError) as caught:
        serving.deploy()
    assert "no such table" in caught.value.detail


def test_a_failure_tells_of_settings_that_only_the_developers_have(project: Project) -> None:
    project.write("one", prefix="throw new Error('KEY is not set');\n")
    (project.app / ".env.example").write_text("KEY=\n")
    with pytest.raises(RolloutError) as caught:
        project.deploy()
    assert "hosts do not get .env.example: put what the app needs into .env.local" in caught.value.next
    (project.app / ".env.local").write_text("KEY=1\n")
    with pytest.raises(RolloutError) as caught:
        project.deploy()
    assert caught.value.next == "fix it and deploy again"


def test_a_health_path_that_the_app_has_not_is_told_by_name(project: Project) -> None:
    project.write("one", health=False)
    web = project.app / "web.js"
    web.write_text(web.read_text().replace("500", "404"))
    with pytest.raises(RolloutError, match="GET /health answered 404") as caught:
        project.deploy()
    assert caught.value.next.startswith("name a path that the app has (health in the process file, health_path")


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("EACCES: permission denied, mkdir '${__dirname}/uploads/a.txt'", "uploads"),
        ("[Errno 13] Permission denied: '${__dirname}/instance'", "instance"),
        ("sqlite3.OperationalError: unable to open database file", "data"),
    ],
)
def test_an_app_that_may_not_write_beside_its_code_is_told_where_it_may(
    project: Project, words: str, place: str
) -> None:
    project.write("one", prefix=f"throw new Error(`{words}`);\n")
    with pytest.raises(RolloutError) as caught:
        project.deploy()
    assert f"let it write below {place}, with shared: [{place}] in the inventory" in caught.value.next


def test_a_first_deploy_that_fails_leaves_nothing_running(project: Project) -> None:
    project.write("one", prefix="throw new Error('no such table');\n")
    with pytest.raises(RolloutError):
        project.deploy()
    assert project.pids() == set()
    assert not (project.folder / ".percore" / "current").exists()
    assert not (project.folder / ".percore" / "bin" / "percore").exists()
    project.write("one")
    project.deploy()
    assert project.ask()["text"] == "one"


def test_rollback_serves_the_release_before_and_refuses_when_there_is_none(serving: Project) -> None:
    first = serving.current
    with pytest.raises(UsageError, match="no earlier good release"):
        known_release.rollback(serving.scope, Report())
    serving.write("two")
    serving.deploy()
    with serving.load() as faults:
        known_release.rollback(serving.scope, Report())
    assert faults == []
    assert serving.current == first
    assert serving.ask()["text"] == "one"


def test_a_release_that_is_here_already_is_not_sent_again(serving: Project) -> None:
    first = serving.current
    serving.write("two")
    serving.deploy()
    serving.write("one")
    serving.deploy()
    assert serving.current == first
    assert serving.ask()["text"] == "one"


def test_a_check_tells_what_would_change_and_touches_nothing(
    serving: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    preview.preview(serving.scope, Report(), diff=True)
    assert "nothing to change" in capsys.readouterr().out
    inventory = serving.folder / "inventories" / "local.yml"
    inventory.write_text(inventory.read_text() + "    env: {MOOD: very-private}\n")
    serving.write("two")
    launcher = serving.folder / ".percore" / "bin" / "percore"
    launcher.write_text(launcher.read_text() + "# by hand\n")
    before, pids = listing(serving.folder), serving.pids()
    with pytest.raises(ChangesPending) as caught:
        preview.preview(serving.scope, Report(), diff=True)
    assert caught.value.exit_code == 8
    text = capsys.readouterr().out
    assert "because the app's files differ" in text
    assert "because app web: variable MOOD is new" in text
    assert "very-private" not in text
    assert "-# by hand" in text
    assert serving.pids() == pids
    assert listing(serving.folder) == before


def test_a_plan_gives_the_true_reason_and_where_the_value_is_set(
    serving: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory = serving.folder / "inventories" / "local.yml"
    text = inventory.read_text()
    inventory.write_text(text.replace("health_path: /health", "health_path: /other"))
    assert reasons(serving, capsys) == [
        f"app web: health /health -> /other (health_path, {relative(inventory)}:{line_of(inventory, 'health_path')})"
    ]
    inventory.write_text(text + "    health_seconds: 11\n")
    place = f"{relative(inventory)}:{line_of(inventory, 'health_seconds')}"
    assert reasons(serving, capsys) == [f"the health check's seconds 10 -> 11 (health_seconds, {place})"]
    inventory.write_text(text)
    serving.percore("stop", "tick")
    assert reasons(serving, capsys) == ["app tick is stopped"]


def reasons(project: Project, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    with pytest.raises(ChangesPending):
        preview.preview(project.scope, Report(quiet=True), diff=False, as_json=True)
    [host] = json.loads(capsys.readouterr().out)
    found: list[str] = host["reasons"]
    return found


def line_of(path: Path, word: str) -> int:
    return 1 + next(number for number, line in enumerate(path.read_text().splitlines()) if word in line)


def test_what_an_app_writes_into_a_shared_directory_outlives_releases(project: Project) -> None:
    inventory = project.folder / "inventories" / "local.yml"
    inventory.write_text(inventory.read_text() + "    shared: [uploads]\n")
    (project.app / "uploads").mkdir()
    (project.app / "uploads" / "mine.txt").write_text("of the developer")
    save = "require('fs').appendFileSync(__dirname + '/uploads/log.txt', process.env.PERCORE_RELEASE + '\\n');\n"
    project.write("one", prefix=save)
    project.deploy()
    first = project.current
    project.write("two", prefix=save)
    project.deploy()
    written = project.folder / ".percore" / "shared" / "uploads"
    assert [path.name for path in written.iterdir()] == ["log.txt"]
    assert {first, project.current} == set((written / "log.txt").read_text().split())
    known_release.rollback(project.scope, Report())
    assert (written / "log.txt").exists()


def test_a_release_that_listens_on_another_port_never_stops_the_one_before(serving: Project) -> None:
    other = free_port()
    serving.write("two", prefix=f"process.env.PORT = {other};\n")
    with serving.load() as faults, pytest.raises(RolloutError, match=f"does not listen on .*:{serving.port}, where"):
        serving.deploy()
    assert faults == []
    assert serving.ask()["text"] == "one"


def test_a_first_release_that_listens_on_another_port_is_no_success(project: Project) -> None:
    other = free_port()
    project.write("one", prefix=f"process.env.PORT = {other};\n")
    told = f"it listens on .*:{other}, but does not listen on port {project.port}"
    with pytest.raises(RolloutError, match=told):
        project.deploy()


def test_drift_tells_files_that_were_edited_and_workers_that_run_something_else(
    serving: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    operations.drift(serving.scope, Report(), as_json=False)
    assert "web: 2 workers, config " in capsys.readouterr().out
    launcher = serving.folder / ".percore" / "bin" / "percore"
    launcher.write_text(launcher.read_text() + "# by hand\n")
    home = str(serving.folder / ".percore" / "home")
    subprocess.run([launcher, "stop", "tick"], env={**os.environ, "PERCORE_HOME": home}, check=True)
    with pytest.raises(ChangesPending, match="drifted: localhost -> invoke deploy --env local sets them right"):
        operations.drift(serving.scope, Report(), as_json=False)
    text = capsys.readouterr().out
    assert "+# by hand" in text
    assert "app tick is stopped" in text
    serving.deploy()
    operations.drift(serving.scope, Report(), as_json=False)


def test_a_file_edited_in_the_release_is_drift_and_leaves_with_the_next_deploy(
    serving: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    release = serving.current
    edited = serving.folder / ".percore" / "releases" / release / "web.js"
    edited.write_text(edited.read_text() + "// by hand\n")
    capsys.readouterr()
    with pytest.raises(ChangesPending):
        operations.drift(serving.scope, Report(), as_json=False)
    assert f"edited by hand: change {edited}" in capsys.readouterr().out
    assert reasons(serving, capsys) == ["edited by hand in the release: change web.js"]
    serving.deploy()
    assert serving.current != release
    assert "by hand" not in (serving.folder / ".percore" / "current" / "web.js").read_text()
    operations.drift(serving.scope, Report(), as_json=False)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file of the deployed side, with its size and the time of its last change."""
    kept = folder / ".percore"
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in kept.rglob("*")
        if not {"build", "logs"} & set(path.relative_to(kept).parts)
    }


def test_an_artifact_that_is_here_already_is_not_sent_again(serving: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = count_sent(monkeypatch)
    inventory = serving.folder / "inventories" / "local.yml"
    inventory.write_text(inventory.read_text() + "    env: {MOOD: sunny}\n")
    first = serving.current
    serving.deploy()
    assert serving.current != first
    assert sum(sent) < 1000
    (serving.app / "more.bin").write_bytes(os.urandom(1_000_000))
    serving.deploy()
    assert sum(sent) > 1_000_000


def test_the_number_of_messages_does_not_grow_with_the_number_of_files(
    serving: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    ask = agent.Remote.ask

    def counted(self: Any, op: str, **message: Any) -> Any:
        asked.append(op)
        return ask(self, op, **message)

    monkeypatch.setattr(agent.Remote, "ask", counted)
    (serving.folder / "roles").unlink()
    shutil.copytree(SOURCE / "roles", serving.folder / "roles")
    inventory = serving.folder / "inventories" / "local.yml"
    inventory.write_text(inventory.read_text() + "    roles: [app, many]\n")
    many = serving.folder / "roles" / "many"
    many.mkdir()
    runs = []
    for count in (10, 300):
        files = [{"path": str(tmp_path / f"{number}.conf"), "content": f"{number}\n"} for number in range(count)]
        (many / "role.yml").write_text(yaml.safe_dump({"files": files}))
        for _ in ("with changes", "without"):
            asked.clear()
            serving.deploy()
            runs.append(list(asked))
        assert len(list(tmp_path.glob("*.conf"))) == count
    first, unchanged, many_first, many_unchanged = runs
    assert many_first == first
    assert many_unchanged == unchanged == ["inspect"]


def test_a_transfer_that_was_cut_goes_on_where_it_stopped(serving: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (serving.app / "more.bin").write_bytes(os.urandom(3_000_000))
    sent = count_sent(monkeypatch)

    def cut(self: Any) -> Iterator[bytes]:
        for number, piece in enumerate(pieces(self)):
            if number == 8:
                raise OSError("the link is cut")
            yield piece

    pieces = stream.Sending.pieces
    with monkeypatch.context() as patched:
        patched.setattr(stream.Sending, "pieces", cut)
        with pytest.raises(UnreachableError, match="the link is cut"):
            serving.deploy()
    assert serving.ask()["text"] == "one"
    first = sum(sent)
    serving.deploy()
    assert first > 2_000_000
    assert sum(sent) < 3_500_000


def count_sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all pieces of files that are sent from now on."""
    sent: list[int] = []
    pieces = stream.Sending.pieces

    def counted(self: Any) -> Iterator[bytes]:
        for piece in pieces(self):
            sent.append(len(piece))
            yield piece

    monkeypatch.setattr(stream.Sending, "pieces", counted)
    return sent


def test_a_stopped_app_is_started_again_by_a_deploy(serving: Project) -> None:
    release = serving.current
    operations.stop(serving.scope, Report())
    assert serving.pids() == set()
    serving.deploy()
    assert serving.current == release
    assert serving.ask()["text"] == "one"


def test_what_should_run_and_does_not_is_an_error_of_status_and_started_by_converge(
    serving: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    release = serving.current
    for stop, missing in ((("stop", "tick"), "app tick is stopped"), (("delete", "tick"), "app tick does not run"),
                          (("kill",), "app web does not run")):  # fmt: skip
        serving.percore(*stop)
        capsys.readouterr()
        with pytest.raises(status.NotRunning, match="not everything runs on localhost -> invoke converge --env local"):
            status.status(serving.scope, Report(), as_json=False)
        assert missing in capsys.readouterr().out
        known_release.converge(serving.scope, Report())
        status.status(serving.scope, Report(), as_json=False)
        assert (serving.current, serving.ask()["text"]) == (release, "one")
    capsys.readouterr()
    known_release.converge(serving.scope, Report())
    assert "nothing to change: 1 host" in capsys.readouterr().out


def test_a_number_of_workers_that_was_set_by_hand_is_drift_and_set_right(
    serving: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    serving.percore("scale", "web", "3")
    with pytest.raises(ChangesPending):
        operations.drift(serving.scope, Report(), as_json=False)
    assert "web has 3 workers, and 2 in the release" in capsys.readouterr().out
    serving.deploy()
    assert len(serving.pids()) == 3


def test_a_switch_that_nobody_confirms_is_taken_back(serving: Project) -> None:
    release = serving.current
    serving.write("two")
    hosts = fleet.load_hosts(serving.scope)
    report = Report()
    artifacts = wanted.build_apps(hosts, report)
    inspect.connect_hosts(hosts, report)
    seen = [inspect.inspect_host(one, "test") for one in wanted.render_hosts(hosts, artifacts, report)]
    choices = choose.choose(seen, seen)
    stage.stage(choices, report)
    switch.activate(choices, report, LoadBalancers((), (), report))
    assert serving.ask()["text"] == "two"
    fleet.close_all(hosts)  # as if the control machine had died
    wait_for(lambda: serving.current == release, "the former release")
    wait_for(lambda: serving.ask()["text"] == "one", "the former version")


def test_two_deploys_at_once_are_refused_with_the_owner(serving: Project) -> None:
    hosts = fleet.load_hosts(serving.scope)
    fleet.connect_all(hosts)
    hosts[0].ask("inspect", owner="ann@laptop")
    try:
        with pytest.raises(LockedError, match="ann@laptop"):
            serving.deploy()
    finally:
        fleet.close_all(hosts, wait=True)
    serving.deploy()


def test_what_is_locked_is_neither_stopped_nor_removed(serving: Project) -> None:
    before = serving.pids()
    operations.lock(serving.scope, Report(), why="we move")
    with pytest.raises(LockedError, match="we move"):
        operations.stop(serving.scope, Report())
    with pytest.raises(LockedError, match="we move"):
        control.remove(dataclasses.replace(serving.scope, yes=True), Report(), data=False)
    assert serving.pids() == before
    operations.unlock(serving.scope, Report())
    operations.stop(serving.scope, Report())
    assert serving.pids() == set()


def test_a_port_of_somebody_else_is_told_with_the_program(project: Project) -> None:
    with socket.socket() as stranger:
        stranger.bind(("0.0.0.0", project.port))
        stranger.listen()
        with pytest.raises(PreflightError, match=rf"port {project.port} is in use by .*\(pid {os.getpid()}\)"):
            project.deploy()
    project.deploy()


def test_a_fault_in_the_process_file_names_the_apps_own_file_and_touches_nothing(
    serving: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    before, path = serving.pids(), serving.app / "ecosystem.json"
    path.write_text(path.read_text().replace('"instances": 2', '"instances": "maks"'))
    with pytest.raises(UsageError) as caught:
        serving.deploy()
    assert str(caught.value).startswith(f"{path}: key 'instances' of app 'web' must be a whole number")
    assert caught.value.next
    assert serving.pids() == before
    path.write_text(path.read_text().replace('"instances": "maks"', '"instances": 2, "kill_timeot": 1'))
    serving.deploy()
    assert f"{path}: key 'kill_timeot' of app 'web' is not known" in "".join(capsys.readouterr())


def test_old_releases_are_pruned_and_the_newest_good_ones_stay(serving: Project) -> None:
    path = serving.folder / "inventories" / "local.yml"
    path.write_text(path.read_text() + "    keep_releases: 2\n")
    for text in ("two", "three", "four"):
        serving.write(text)
        serving.deploy()
    assert len(serving.releases()) == 2
    assert serving.current in serving.releases()


def test_a_file_changed_by_hand_is_set_right(serving: Project) -> None:
    launcher = serving.folder / ".percore" / "bin" / "percore"
    text = launcher.read_text()
    launcher.write_text(text + "# by hand\n")
    serving.deploy()
    assert launcher.read_text() == text


def test_the_page_of_all_hosts_shows_what_runs_finds_lines_and_carries_out_orders(serving: Project) -> None:
    hosts = fleet.load_hosts(serving.scope)
    source, before = FleetSource(hosts), serving.pids()
    with fleet.closing_hosts(hosts):
        sample = try_to_look(hosts[0])
        web = next(app for app in sample.apps if app.name == "web")
        assert (sample.problem, web.problem, {worker.pid for worker in web.workers} - before) == ("", "", set())
        assert all(worker.open is not None for worker in web.workers)
        found = source.read_log("localhost", web, web.workers[0], LogQuery(search="LISTENING in"))
        assert [line["text"] for line in found.lines] == [f"listening in {web.release}"]
        source.carry_out(PageOrder("localhost", "web", "reload"))
        after = next(app for app in look(hosts[0]).apps if app.name == "web")
        assert (after.reloads - web.reloads, {worker.pid for worker in after.workers} & before) == (1, set())
        operations.lock(serving.scope, Report(), why="it is free")  # the order holds no lock any more
        operations.unlock(serving.scope, Report())
    path = serving.folder / "report.html"
    write_report(serving.scope, Report(), output=str(path), seconds=0)
    assert f'release":"{web.release}' in path.read_text()


def test_status_in_json_has_the_promised_names(serving: Project, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    status.status(serving.scope, Report(), as_json=True)
    (host,) = json.loads(capsys.readouterr().out)
    assert set(host) == {"host", "reachable", "percore", "release", "commit", "apps", "missing", "drained"}
    assert host["missing"] == host["drained"] == []
    assert [app["name"] for app in host["apps"]] == ["web", "tick"]
    worker_names = {"slot", "pid", "state", "release", "port", "memory_bytes", "cpu_percent", "uptime_seconds"}
    assert set(host["apps"][0]["workers"][0]) == worker_names | {"restarts"}
    assert host["apps"][0]["workers"][0]["port"] == serving.port


def test_apps_are_restarted_reloaded_scaled_stopped_and_started(
    serving: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    before = serving.pids()
    with serving.load() as faults:
        control.reload(serving.scope, Report(), app="web")
    assert (faults, len(serving.pids() & before)) == ([], 1)
    control.restart(serving.scope, Report(), app="")
    assert serving.pids().isdisjoint(before)
    control.scale(serving.scope, Report(), app="web", workers="+1")
    assert len(serving.pids()) == 4
    assert "the next deploy sets the number back" in capsys.readouterr().out
    control.stop_app(serving.scope, Report(), app="tick")
    assert "localhost  web 3/3, tick 0/0" in capsys.readouterr().out
    control.start(serving.scope, Report(), app="tick")
    control.describe(serving.scope, Report(), app="web")
    assert "localhost | worker 0 of web, slot 0" in capsys.readouterr().out
    operations.stop(serving.scope, Report())
    control.start(serving.scope, Report(), app="")
    assert (len(serving.pids()), serving.ask()["text"]) == (3, "one")
    with pytest.raises(UsageError, match="no host of local runs an app 'wbe' -> did you mean 'web'"):
        control.restart(serving.scope, Report(), app="wbe")


def test_an_app_is_removed_after_a_list_of_what_would_go(serving: Project, capsys: pytest.CaptureFixture[str]) -> None:
    kept = serving.folder / ".percore"
    (kept / "shared" / "uploads").mkdir(parents=True)
    (kept / "shared" / "uploads" / "a.txt").write_text("kept")
    with pytest.raises(UsageError, match="no terminal to ask at; nothing was removed -> add --yes"):
        control.remove(serving.scope, Report(), data=False)
    assert "end app web" in capsys.readouterr().out
    assert serving.ask()["text"] == "one"
    sure = dataclasses.replace(serving.scope, yes=True)
    control.remove(sure, Report(), data=False)
    with pytest.raises(ConnectionRefusedError):
        serving.ask()
    left = {str(path.relative_to(kept)) for path in kept.rglob("*") if not path.is_dir()}
    of_the_control_side = ("build/", ".gitignore")
    assert {path for path in left if not path.startswith(of_the_control_side)} == {"shared/uploads/a.txt"}
    control.remove(dataclasses.replace(serving.scope, yes=True), Report(), data=True)
    capsys.readouterr()
    control.remove(dataclasses.replace(serving.scope, yes=True), Report(), data=True)
    assert "nothing to remove on 1 host" in capsys.readouterr().out
    serving.deploy()
    assert serving.ask()["text"] == "one"


def test_starting_at_boot_needs_a_service_manager(project: Project) -> None:
    with pytest.raises(PreflightError, match="no service manager"):
        operations.set_boot(project.scope, Report(), enabled=True)


def test_logs_are_shown_behind_the_hosts_name(serving: Project, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    fleet_logs.logs(serving.scope, Report(), LogWish(app="web", lines="5"))
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(re.match(r"localhost \| [01]\|web \| ", line) for line in lines)
    assert any("listening in" in line for line in lines)
    fleet_logs.logs(serving.scope, Report(), LogWish(app="web", grep="listening i.", since="1h"), as_json=True)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["host"] for line in found} == {"localhost"}
    assert all("listening in" in line.get("message", "listening in") for line in found)
    assert any("its lines tell no time" in line.get("notice", "") for line in found)


def test_logs_are_emptied_when_the_operator_agrees(serving: Project, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="no terminal to ask at; nothing was emptied -> add --yes"):
        fleet_logs.flush(serving.scope, Report(), app="web")
    fleet_logs.flush(dataclasses.replace(serving.scope, yes=True), Report(), app="web")
    assert "emptied the logs of web on 1 host of local" in capsys.readouterr().out
    fleet_logs.logs(serving.scope, Report(), LogWish(app="web", lines="5"))
    assert capsys.readouterr().out == ""
    with pytest.raises(UsageError, match="no host of local runs an app 'wep'"):
        fleet_logs.flush(serving.scope, Report(), app="wep")


def test_nothing_of_a_deploy_is_left_in_the_apps_folder(serving: Project) -> None:
    assert sorted(path.name for path in serving.app.iterdir()) == [
        "ecosystem.json",
        "package.json",
        "tick.js",
        "web.js",
    ]
    shutil.rmtree(serving.app)
    with pytest.raises(UsageError, match="set app_path"):
        serving.deploy()
