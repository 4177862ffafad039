"""`watch` with real files: what changes brings new workers, and what the app or the supervisor writes does not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.supervisor.conftest import Load, Supervisor
from tests.waiting import wait_for


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "src").mkdir(parents=True)
    (folder / "node_modules" / "left").mkdir(parents=True)
    (folder / "src" / "a.js").write_text("1")
    return folder


def starts(supervisor: Supervisor, app: str = "tick") -> int:
    path = supervisor.home / "logs" / f"{app}-out.log"
    return path.read_text().count("start") if path.exists() else 0


def changes(supervisor: Supervisor) -> list[str]:
    return [line.split("tick: ", 1)[1] for line in supervisor.log().splitlines() if line.endswith("changed")]


def is_followed(supervisor: Supervisor, text: str) -> bool:
    return text in supervisor.log()


def test_changed_new_renamed_and_deleted_files_restart_the_app(supervisor: Supervisor, source: Path) -> None:
    supervisor.apply(supervisor.singleton(cwd=str(source), watch=[str(source)]))

    def change_brings_a_start(change: str) -> None:
        before = starts(supervisor)
        subprocess.run(["sh", "-c", change], cwd=source, check=True)
        wait_for(lambda: starts(supervisor) == before + 1, f"a start after {change}")

    change_brings_a_start("echo 2 > src/a.js")
    change_brings_a_start("echo 3 > src/.a.swp && mv src/.a.swp src/a.js")
    change_brings_a_start("mkdir -p new/deep && echo 4 > new/deep/b.js")
    change_brings_a_start("echo 5 > new/deep/b.js")
    change_brings_a_start("mv new moved && echo 6 > moved/deep/b.js")
    change_brings_a_start("echo 7 > moved/deep/b.js")
    change_brings_a_start("ln -s src/a.js link.js")
    change_brings_a_start("rm -r moved")
    assert "tick: " + str(source / "src" / "a.js") + " changed" in supervisor.log()


def test_what_is_ignored_and_what_the_supervisor_writes_restarts_nothing(supervisor: Supervisor, source: Path) -> None:
    supervisor.apply(
        supervisor.singleton(
            cwd=str(source), watch=[str(source)], out_file="out.log", error_file="logs/error.log", pid_file="tick.pid",
        )
    )  # fmt: skip
    [pid] = supervisor.pids("tick")
    for place in ("node_modules/left/x.js", "node_modules/new.js", ".hidden", "src/.cache", "out.log.1"):
        (source / place).write_text("1")
    # Whatever is read in order comes after all of these.
    (source / "src" / "a.js").write_text("2")
    wait_for(lambda: supervisor.pids("tick") not in ([pid], [0]), "the one restart")
    assert supervisor.log().count("changed\n") == 1
    assert f"{source}/src/a.js changed" in supervisor.log()


def test_ignore_watch_and_watch_name_globs_and_single_files(supervisor: Supervisor, source: Path) -> None:
    (source / ".env").write_text("A=1")
    supervisor.apply(
        supervisor.singleton(cwd=str(source), watch=["src/**/*.js", ".env"], ignore_watch=["src/gen", "/\\.tmp\\.js$/"])
    )
    for place in ("src/gen/a.js", "src/b.tmp.js", "src/readme.md", "other.js"):
        (source / place).parent.mkdir(exist_ok=True)
        (source / place).write_text("1")
    (source / "src" / "new.js").write_text("1")
    wait_for(lambda: starts(supervisor) == 2, "the restart for new.js")
    (source / ".env").write_text("A=2")
    wait_for(lambda: starts(supervisor) == 3, "the restart for .env")
    assert changes(supervisor) == [f"{source}/src/new.js changed", f"{source}/.env changed"]


def test_a_watched_cluster_is_reloaded_without_a_lost_request(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(watch=["server.js"]))
    before = set(supervisor.pids("api"))
    with Load(supervisor.port) as load:
        (supervisor.folder / "server.js").touch()
        source = (supervisor.folder / "server.js").read_text()
        (supervisor.folder / "server.js").write_text(source)
        wait_for(lambda: not before & set(supervisor.pids("api")), "new workers")
    assert load.failures == []


def test_stop_switches_the_watch_off_until_start_and_it_can_be_toggled(supervisor: Supervisor, source: Path) -> None:
    supervisor.apply(supervisor.singleton(cwd=str(source), watch=[str(source / "src")]))
    supervisor.run("stop", "tick")
    (source / "src" / "a.js").write_text("2")
    supervisor.run("start", "tick")
    assert starts(supervisor) == 2
    (source / "src" / "a.js").write_text("3")
    wait_for(lambda: starts(supervisor) == 3, "the restart after start")
    supervisor.ask("watch", selector="tick", on=None)
    (source / "src" / "a.js").write_text("4")
    supervisor.ask("watch", selector="tick", on=True)
    (source / "src" / "b.js").write_text("5")
    wait_for(lambda: starts(supervisor) == 4, "the restart after the watch was switched on again")
    assert changes(supervisor) == [f"{source}/src/a.js changed", f"{source}/src/b.js changed"]


def test_an_app_that_writes_into_its_own_folder_is_not_restarted_for_ever(supervisor: Supervisor, source: Path) -> None:
    script = "echo start; echo $$ > state.json; trap 'exit 0' INT; while :; do sleep 0.05; done"
    supervisor.apply(supervisor.singleton(cwd=str(source), watch=[str(source)], args=[script]))
    (source / "src" / "a.js").write_text("2")
    wait_for(lambda: is_followed(supervisor, "changes whenever the app starts"), "the loop to be seen")
    count = starts(supervisor)
    (source / "src" / "a.js").write_text("3")
    wait_for(lambda: starts(supervisor) == count + 1, "a change that counts")
    assert supervisor.log().count("state.json changed") <= 4


def test_the_watch_goes_on_after_the_supervisor_was_killed(supervisor: Supervisor, source: Path) -> None:
    supervisor.apply(supervisor.singleton(cwd=str(source), watch=[str(source)]))
    supervisor.kill_daemon()
    supervisor.run("ping")
    (source / "src" / "a.js").write_text("2")
    wait_for(lambda: starts(supervisor) == 2, "the restart")


def test_a_folder_that_is_not_there_yet_is_said_and_watched_when_it_comes(supervisor: Supervisor, source: Path) -> None:
    supervisor.apply(supervisor.singleton(cwd=str(source), watch=["lib"]))
    wait_for(lambda: is_followed(supervisor, "lib cannot be watched: No such file or directory"), "it to be said")
    (source / "lib").mkdir()
    (source / "lib" / "a.js").write_text("1")
    wait_for(lambda: starts(supervisor) == 2, "the restart")
