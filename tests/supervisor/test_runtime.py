"""`percore runtime`, also as pid 1 of a pid namespace with a read-only root."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.conftest import SERVER
from tests.waiting import free_port, wait_for

PERCORE = [sys.executable, "-m", "percore.supervisor.cli"]


class Runtime:
    """`percore runtime`, with its output in files."""

    def __init__(
        self, folder: Path, *arguments: str, before: tuple[str, ...] = (), env: dict[str, str] | None = None
    ) -> None:
        self.folder, self.out, self.err = folder, folder / "out", folder / "err"
        self.env = {**os.environ, "PERCORE_HOME": str(folder / "home"), **(env or {})}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [*before, *PERCORE, "runtime", *arguments], stdout=out, stderr=err, cwd=folder, env=self.env,
                start_new_session=True,
            )  # fmt: skip

    def lines(self) -> list[str]:
        return self.out.read_text().splitlines()

    def wait_for_line(self, text: str) -> None:
        try:
            wait_for(lambda: any(text in line for line in self.lines()), f"'{text}'")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.out.read_text()}{self.err.read_text()}") from None

    def end(self) -> int:
        return self.process.wait(timeout=60)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Any]:
    started: list[Runtime] = []

    def start(*arguments: str, **options: Any) -> Runtime:
        started.append(Runtime(tmp_path, *arguments, **options))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.process.wait(timeout=20)
            each.process.kill()
            each.process.wait()


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return name


def apps(folder: Path, *written: dict[str, Any]) -> str:
    return write(folder, "apps.json", json.dumps({"apps": list(written)}))


def sh(name: str, script: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "script": "/bin/sh", "args": ["-c", script], "interpreter": "none", **fields}


def test_output_of_all_apps_is_ours_and_it_ends_with_the_code_of_the_app_that_failed(
    runtime: Any, tmp_path: Path
) -> None:
    one = sh("one", "echo $GREETING; echo bad >&2; exit 7", env={"GREETING": "hello"}, autorestart=False)
    two = sh("two", "echo also; exit 0", autorestart=False, out_file="/never/written")
    started = runtime(apps(tmp_path, one, two))
    assert started.end() == 7
    assert sorted(started.lines()) == ["also", "hello"]
    assert "bad" in started.err.read_text().splitlines()
    assert "nothing runs any more: ends with 7" in started.err.read_text()
    assert not list((tmp_path / "home" / "logs").iterdir())
    assert not (tmp_path / "home" / "state.json").exists()


def test_a_job_runs_at_once_where_something_else_watches_the_clock_and_its_end_is_that_of_the_container(
    runtime: Any, tmp_path: Path
) -> None:
    jobs = [
        {**sh("backup", "echo $LEVEL $OTHER; exit 3", env={"LEVEL": "file", "OTHER": "file"}), "cron": "0 4 * * *"},
        {**sh("other", "echo other"), "cron": "0 4 * * *"},
    ]
    name = write(tmp_path, "apps.json", json.dumps({"jobs": jobs}))
    options = ("--only", "backup", "--run-jobs")
    started = runtime(name, *options, env={"LEVEL": "container", "PERCORE_OVERRIDES": "LEVEL,OTHER"})
    assert started.end() == 3
    assert started.lines() == ["container file"]  # what the container does not set is that of the file
    jobs[0]["stop_exit_codes"] = [3]
    name = write(tmp_path, "apps.json", json.dumps({"jobs": jobs}))
    assert runtime(name, *options).end() == 0


def test_a_probe_learns_when_all_workers_are_ready(runtime: Any, tmp_path: Path) -> None:
    script = 'while ! test -e go; do sleep 0.05; done; python3 -c \'import os, socket; s = socket.socket(1, 2); \
s.connect(os.environ["NOTIFY_SOCKET"]); s.send(b"READY=1")\'; echo told; sleep 60'
    started = runtime(apps(tmp_path, sh("one", script, wait_ready=True), sh("two", "echo up; sleep 60")))
    started.wait_for_line("up")

    def ready(*names: str) -> tuple[int, str]:
        words = [*PERCORE, "ready", *names]
        done = subprocess.run(words, env=started.env, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout

    wait_for(lambda: ready("one") == (1, "one: 0 of 1 workers run\n"), "one that has not said so")
    assert ready("three") == (1, "three: there is no such app\n")
    (tmp_path / "go").touch()
    wait_for(lambda: ready() == (0, "ready\n"), "all of them")


def test_a_script_in_several_workers_serves_reloads_and_stops_within_its_time(runtime: Any, tmp_path: Path) -> None:
    port = free_port()
    write(tmp_path, "server.js", SERVER)
    started = runtime("server.js", "-i", "2", "--name", "api", env={"PORT": str(port)})
    wait_for(lambda: started.lines().count("listening") == 2, "both workers")
    percore = [*PERCORE, "reload", "api"]
    done = subprocess.run(percore, env=started.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=8)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    connection.close()
    update = subprocess.run([*PERCORE, "update"], env=started.env, capture_output=True, text=True, timeout=60)
    assert update.returncode == 2
    assert "start a new container" in update.stderr
    started.process.send_signal(signal.SIGTERM)
    assert started.end() == 0


def test_json_lines_carry_app_stream_and_id_and_a_long_line_stays_whole(runtime: Any, tmp_path: Path) -> None:
    text = "echo out $NODE_APP_INSTANCE; echo err >&2; head -c 20000 /dev/zero | tr '\\0' x; echo; printf unfinished"
    started = runtime(apps(tmp_path, sh("job", text, autorestart=False, instances=2)), "--json")
    assert started.end() == 0
    assert all('"type":"out"' in line for line in started.lines())  # as Node writes it
    records = [json.loads(line) for line in started.lines()]
    assert {record["process_id"] for record in records} == {0, 1}
    assert {record["app_name"] for record in records} == {"job"}
    first = [record["message"] for record in records if record["process_id"] == 0]
    assert first == ["out 0", "x" * 20000, "unfinished"]
    errors = [json.loads(line) for line in started.err.read_text().splitlines()]
    assert [record["type"] for record in errors if record["message"] == "err"] == ["err", "err"]


def test_formats_and_only(runtime: Any, tmp_path: Path) -> None:
    file = apps(tmp_path, sh("one", "echo 1", autorestart=False), sh("two", "echo 2", autorestart=False))
    assert runtime(file, "--formatted", "--only", "two").end() == 0
    assert (tmp_path / "out").read_text() == "0|two | 2\n"
    assert runtime(file, "--format", "--only", "one").end() == 0
    assert (tmp_path / "out").read_text().partition(" ")[2] == "app=one id=0 type=out message=1\n"
    assert runtime(file, "--only", "onee").end() == 2
    assert "did you mean 'one'?" in (tmp_path / "err").read_text()


def test_an_app_that_cannot_live_ends_it_with_2_unless_it_is_told_to_stay(runtime: Any, tmp_path: Path) -> None:
    file = apps(tmp_path, sh("broken", "exit 1", max_restarts=2))
    assert runtime(file).end() == 2
    started = runtime(apps(tmp_path, sh("once", "echo over", autorestart=False)), "--no-auto-exit")
    started.wait_for_line("over")
    listed = lambda: json.loads(  # noqa: E731
        subprocess.run([*PERCORE, "jlist"], env=started.env, capture_output=True, text=True, timeout=30).stdout or "[]"
    )
    wait_for(lambda: [worker["pm2_env"]["status"] for worker in listed()] == ["stopped"], "it to have ended")
    assert started.process.poll() is None
    started.process.send_signal(signal.SIGINT)
    assert started.end() == 0


def test_an_app_that_waits_for_another_one_in_vain_ends_it_with_2(runtime: Any, tmp_path: Path) -> None:
    db = sh("db", "sleep 1000")
    file = apps(tmp_path, db, sh("api", "echo served", depends_on=["db"]))
    started = runtime(file, "--only", "api")
    assert started.end() == 2
    assert "start failed: api: it was not started" in started.err.read_text()
    assert started.lines() == []


def test_sigterm_gives_every_app_its_kill_timeout_and_no_longer(runtime: Any, tmp_path: Path) -> None:
    polite = "trap 'sleep 0.3; echo bye; exit 0' INT; echo up; while :; do sleep 0.02; done"
    deaf = "trap '' INT; echo up; while :; do sleep 0.02; done"
    started = runtime(apps(tmp_path, sh("polite", polite, kill_timeout=20000), sh("deaf", deaf, kill_timeout=300)))
    wait_for(lambda: started.lines().count("up") == 2, "both apps")
    started.process.send_signal(signal.SIGTERM)
    assert started.end() == 0
    assert started.lines()[-1] == "bye"


def test_nobody_reading_the_output_holds_the_apps_up_and_not_the_supervisor(tmp_path: Path) -> None:
    file = apps(tmp_path, sh("chatty", "yes $(head -c 200 /dev/zero | tr '\\0' x)"))
    env = {**os.environ, "PERCORE_HOME": str(tmp_path / "home")}
    process = subprocess.Popen(
        [*PERCORE, "runtime", file, "--formatted"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        env=env,
    )
    try:
        answer = lambda: subprocess.run([*PERCORE, "ping"], env=env, capture_output=True, timeout=30).stdout  # noqa: E731
        assert process.stdout
        assert process.stdout.readline().startswith(b"0|chatty | xxx")
        for _ in range(3):
            assert answer().startswith(b"pong")
        resident = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096
        assert resident < 40 << 20
    finally:
        process.terminate()
        assert process.stdout
        process.stdout.close()
        assert process.wait(timeout=30) == 0


# -- as pid 1 ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")
def test_as_pid_1_with_a_read_only_root_it_serves_reaps_orphans_and_ends_clean(runtime: Any, tmp_path: Path) -> None:
    port = free_port()
    write(tmp_path, "server.js", SERVER)
    # Each round leaves two orphans, one of which ends at once and one later.
    orphans = "while :; do (sh -c 'true &' ; sh -c 'sleep 0.05 &'); echo round; sleep 0.1; done"
    file = apps(
        tmp_path,
        {"name": "api", "script": "server.js", "exec_mode": "cluster", "instances": 2, "env": {"PORT": port}},
        sh("orphans", orphans),
    )
    # The tmpfs is noexec, as Docker's is; nothing else can be written, HOME neither.
    prepare = 'mount -t tmpfs -o noexec tmpfs /run && mount -o remount,bind,ro / && exec "$@"'
    isolate = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", "sh", "-c", prepare, "sh")
    env = {"TMPDIR": "/run", "HOME": "/", "PERCORE_HOME": ""}
    started = runtime(file, before=isolate, env=env)
    for text in ("listening", "round"):
        started.wait_for_line(text)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=8)
    connection.request("GET", "/")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    assert answer["slot"] in ("0", "1")
    children = Path(f"/proc/{started.process.pid}/task/{started.process.pid}/children").read_text().split()
    init = int(children[0])
    assert Path(f"/proc/{init}/status").read_text().partition("NSpid:")[2].split("\n")[0].split()[-1] == "1"

    def zombies() -> list[str]:
        below = Path(f"/proc/{init}/task/{init}/children").read_text().split()
        return [pid for pid in below if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()]

    wait_for(lambda: not zombies(), "no zombie")
    os.kill(init, signal.SIGTERM)
    assert started.end() == 0
