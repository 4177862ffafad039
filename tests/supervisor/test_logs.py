"""Logs of real programs: written, rotated, filled up, moved away, read."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.conftest import Load, Supervisor
from tests.supervisor.faults.tools import lost_nothing
from tests.waiting import wait_for

WRITER = """
let number = 0;
const write = () => {
  for (let i = 0; i < 5000 && number < 100000; i++) console.log(`${number++} ${'x'.repeat(60)}`);
  if (number < 100000) setTimeout(write, 1);
  else process.kill(process.pid, 'SIGKILL');
};
write();
"""


def node(supervisor: Supervisor, name: str, program: str, **fields: Any) -> dict[str, Any]:
    (supervisor.folder / f"{name}.js").write_text(program)
    return {"name": name, "script": f"{name}.js", "cwd": str(supervisor.folder), "interpreter": "node", **fields}


def older_files(log: Path) -> list[Path]:
    """Oldest first."""
    found = (path for path in log.parent.glob(f"{log.name}.*") if path.suffix[1:].isdigit())
    return sorted(found, key=lambda path: -int(path.suffix[1:]))


def content(log: Path) -> bytes:
    return b"".join(path.read_bytes() for path in [*older_files(log), log]).replace(b"\0", b"")


def test_no_line_is_lost_while_the_log_rotates_and_its_writer_and_the_supervisor_are_killed(
    supervisor: Supervisor,
) -> None:
    log = supervisor.home / "logs" / "writer-out.log"
    supervisor.apply(
        node(supervisor, "writer", WRITER, autorestart=False, log_max_size=256 << 10, log_keep=100, min_uptime=0.1)
    )
    for _ in range(3):
        supervisor.kill_daemon()
        supervisor.run("ping")
    wait_for(lambda: supervisor.workers("writer")[0]["pid"] == 0, "the writer to end", seconds=60)
    # The last step of a rotation makes the log shorter.
    wait_for(
        lambda: log.stat().st_size <= 256 << 10, "the rest to be rotated, although nobody writes any more", seconds=60
    )
    assert len(older_files(log)) > 20
    numbers = [int(line.split()[0]) for line in content(log).decode().splitlines()]
    assert numbers[:100_000] == list(range(100_000))
    assert log.stat().st_mode & 0o777 == older_files(log)[0].stat().st_mode & 0o777 == 0o640


def test_the_supervisors_own_log_is_not_endless_either_and_may_be_moved_away(supervisor: Supervisor) -> None:
    log: Path = supervisor.home / "logs" / "percore.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"an old line\n" * 1_200_000)
    pid = supervisor.daemon_pid()
    wait_for(lambda: log.stat().st_size < 10 << 20, "the log to be rotated")
    assert (log.parent / "percore.log.1").stat().st_size <= 10 << 20
    log.rename(log.parent / "away")
    os.kill(pid, signal.SIGUSR2)
    wait_for(log.exists, "the log to be opened again")
    supervisor.apply(supervisor.singleton())
    assert "tick" in log.read_text()
    assert supervisor.daemon_pid() == pid


def test_a_log_behind_a_symbolic_link_rotates_beside_the_file(supervisor: Supervisor) -> None:
    disk = supervisor.folder / "disk"
    disk.mkdir()
    link = supervisor.folder / "link.log"
    link.symlink_to(disk / "real.log")
    program = "console.log('x'.repeat(200000)); setInterval(() => {}, 1000)"
    supervisor.apply(node(supervisor, "linked", program, out_file=str(link), log_max_size=64 << 10, log_max_age=0.0))
    wait_for((disk / "real.log.1").exists, "the rotation")
    assert link.is_symlink()
    assert not list(supervisor.folder.glob("link.log.*"))


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_costs_older_lines_which_are_counted_and_neither_the_app_nor_the_supervisor(
    supervisor: Supervisor,
) -> None:
    program = """
      let written = 0;
      setInterval(() => console.log(`${written++} ${'x'.repeat(1000)}`), 2);
    """
    with small_disk(supervisor.folder / "small", 24) as disk:
        log = disk / "flood.log"
        (disk / "ballast").write_bytes(b"x" * (21 << 20))
        supervisor.apply(node(supervisor, "flood", program, out_file=str(log), log_max_size=1 << 20, log_keep=100))
        (pid,) = supervisor.pids("flood")
        wait_for(lambda: "the disk is nearly full" in supervisor.log(), "the supervisor to say so", seconds=60)
        assert re.search(r"log bytes dropped\D+[1-9]", supervisor.run("describe", "flood").stdout)
        first = log.read_bytes()[-1500:]
        wait_for(lambda: log.read_bytes()[-1500:] != first, "the app to go on writing")
        assert supervisor.pids("flood") == [pid]
        # Somebody else takes the rest.
        with contextlib.suppress(OSError), open(disk / "other", "wb", buffering=0) as other:
            while other.write(b"x" * 65536):
                pass
        wait_for(lambda: os.statvfs(disk).f_bavail > 0, "the logs to give way", seconds=60)
        assert supervisor.pids("flood") == [pid]
        supervisor.run("stop", "flood")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_clustered_node_program_outlives_a_disk_that_fills_at_once_and_its_log_says_what_was_lost(
    supervisor: Supervisor,
) -> None:
    program = (
        (supervisor.folder / "server.js").read_text()
        + """
      const lines = () => { for (let n = 0; n < 20000; n++) process.stdout.write('x'.repeat(999) + '\\n'); };
      process.on('SIGUSR2', () => { lines(); console.error('through'); });
    """
    )
    (supervisor.folder / "loud.js").write_text(program)
    with small_disk(supervisor.folder / "small", 8) as disk:
        app = supervisor.api(
            script="loud.js", instances=1, out_file=str(disk / "out.log"), log_max_size=0, error_file="error.log"
        )
        supervisor.apply(app)
        [pid] = supervisor.pids("api")
        os.kill(pid, signal.SIGUSR2)
        error_log = disk.parent / "error-0.log"
        wait_for(lambda: "through" in error_log.read_text(), "the program to be through")
        assert supervisor.get()["pid"] == pid
        supervisor.run("flush", "api")
        os.kill(pid, signal.SIGUSR2)
        said = re.compile(rb"percore: the disk was full, \d{7,} bytes of this log were lost\n")
        wait_for(lambda: said.search((disk / "out-0.log").read_bytes()), "the log to say what was lost")
        assert supervisor.pids("api") == [pid]


def test_a_flood_and_an_endless_line_cost_the_supervisor_neither_memory_nor_time(supervisor: Supervisor) -> None:
    program = "import os, time\nblock = b'x' * (1 << 20)\nfor _ in range(300): os.write(1, block)\n"
    program += "time.sleep(0.5)\nraise SystemExit(3)"  # longer than min_uptime, however quick the disk is
    (supervisor.folder / "endless.py").write_text(program)
    app = {"name": "endless", "script": "endless.py", "cwd": str(supervisor.folder), "interpreter": sys.executable,
           "autorestart": False, "min_uptime": 0.1, "log_keep": 2}  # fmt: skip
    supervisor.apply(app, check=False)
    wait_for(lambda: supervisor.workers("endless")[0]["pid"] == 0, "the program to end", seconds=60)
    pid = supervisor.daemon_pid()
    status = Path(f"/proc/{pid}/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])  # type: ignore[index]
    assert peak < 40_000
    log = supervisor.home / "logs" / "endless-out.log"
    wait_for(lambda: log.stat().st_size <= 10 << 20, "the flood to be rotated away")
    assert len(older_files(log)) <= 2


# -- reading ---------------------------------------------------------------------------------------------------------


class Reader:
    """`percore logs` while it runs, and what it printed so far."""

    def __init__(self, supervisor: Supervisor, *arguments: str) -> None:
        self._place = supervisor.folder / f"reader-{time.monotonic_ns()}"
        with open(self._place, "wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "percore.supervisor.cli", "logs", *arguments], stdout=output, stderr=output,
                env={**os.environ, "PERCORE_HOME": str(supervisor.home)}, cwd=supervisor.folder,
            )  # fmt: skip

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def text(self) -> str:
        return self._place.read_text()

    def wait_for(self, text: str) -> None:
        wait_for(lambda: text in self.text, f"{text!r} to be shown")


TALKER = """
console.log('hello out'); console.error('hello err');
process.on('SIGUSR2', () => console.log(`more of ${process.pid}`));
setInterval(() => {}, 1000);
"""


def test_logs_follow_new_apps_restarts_emptied_and_replaced_files(supervisor: Supervisor) -> None:
    supervisor.apply(node(supervisor, "one", TALKER))
    with Reader(supervisor, "--lines", "5") as reader:
        reader.wait_for("0|one | hello err")
        supervisor.run("restart", "one")
        wait_for(lambda: reader.text.count("hello out") == 2, "the line of the restarted worker")
        (supervisor.folder / "two.config.js").write_text("module.exports = {apps: [{name: 'two', script: 'two.js'}]}")
        (supervisor.folder / "two.js").write_text(TALKER)
        supervisor.run("start", "two.config.js")
        reader.wait_for("1|two | hello out")
        supervisor.run("flush")
        os.kill(supervisor.pids("one")[0], signal.SIGUSR2)
        reader.wait_for(f"more of {supervisor.pids('one')[0]}")
        (supervisor.home / "logs" / "one-out.log").unlink()
        before = reader.text.count("hello out")
        supervisor.run("restart", "one")
        wait_for(lambda: reader.text.count("hello out") == before + 1, "the line in the new file")
        assert "percore:" not in reader.text


def test_logs_are_selected_and_shown_as_wished(supervisor: Supervisor) -> None:
    supervisor.apply(node(supervisor, "one", TALKER), node(supervisor, "two", TALKER, namespace="other"))

    def shown(*options: str) -> str:
        return supervisor.run("logs", "--nostream", *options).stdout

    wait_for(lambda: shown().count("hello") == 4, "all lines")
    assert sorted(shown("one", "--out").splitlines()) == ["0|one | hello out"]
    assert sorted(shown("other").splitlines()) == ["1|two | hello err", "1|two | hello out"]
    assert shown("/^t/", "--err", "--raw") == "hello err\n"
    assert shown("0", "1", "--raw").count("hello") == 4
    line = json.loads(shown("one", "--out", "--json"))
    assert (line["message"], line["type"], line["process_id"], line["app_name"]) == ("hello out", "out", 0, "one")
    assert re.fullmatch(r"timestamp=\S+ app=one id=0 type=out message=hello out\n", shown("one", "--out", "--format"))
    assert re.fullmatch(r"\d{4}-\d\d: 0\|one \| hello out\n", shown("one", "--out", "--timestamp", "YYYY-MM"))
    assert shown("--lines", "0") == ""
    assert supervisor.run("logs", "nobody", "--nostream", check=False).returncode == 2


def test_lines_that_tell_their_time_are_shown_in_its_order(supervisor: Supervisor) -> None:
    program = "setInterval(() => {}, 1000); for (const l of process.argv.slice(2)) console.log(l)"
    supervisor.apply(
        node(supervisor, "one", program, args=["2024-01-01T00:00:01Z a", "  at a", "2024-01-01T00:00:03Z c"]),
        node(supervisor, "two", program, args=['{"time":1704067202000,"msg":"b"}', "2024-01-01 00:00:04.5Z d"]),
    )

    def shown() -> list[str]:
        return supervisor.run("logs", "--nostream", "--raw", "--out").stdout.splitlines()

    wait_for(lambda: len(shown()) == 5, "all lines")
    assert [line.split()[-1][-1] for line in shown()] == ["a", "a", "}", "c", "d"]


def test_a_slow_reader_is_told_what_it_missed_and_stays_small(supervisor: Supervisor) -> None:
    program = "const b = ('y'.repeat(99) + '\\n').repeat(5000); setInterval(() => process.stdout.write(b), 20)"
    supervisor.apply(node(supervisor, "flood", program, log_max_size=1 << 20, log_keep=1))
    with Reader(supervisor, "--lines", "1") as reader:
        reader.wait_for("yyy")
        reader.process.send_signal(signal.SIGSTOP)
        older, seen = supervisor.home / "logs" / "flood-out.log.1", set()

        def has_rotated_thrice() -> bool:
            with contextlib.suppress(FileNotFoundError):
                seen.add(older.stat().st_mtime_ns)
            return len(seen) > 3

        wait_for(has_rotated_thrice, "three rotations")
        reader.process.send_signal(signal.SIGCONT)
        reader.wait_for("some lines were rotated before they could be shown")
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{reader.process.pid}/status").read_text())
        assert peak
        assert int(peak[1]) < 60_000
    supervisor.run("delete", "flood")


def test_a_moved_log_is_said_and_opened_again_without_a_lost_request(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api())
    log = supervisor.home / "logs" / "api-out-0.log"
    with Load(supervisor.port) as load:
        log.rename(log.parent / "moved")
        assert "every log is written" in supervisor.run("reloadLogs").stdout
        assert "listening" in log.read_text()
    lost_nothing(load)
    supervisor.apply(supervisor.api(), supervisor.singleton())
    (supervisor.home / "logs" / "tick-out.log").unlink()
    wait_for(lambda: "tick-out.log was moved or deleted" in supervisor.log(), "the supervisor to say so")
    refused = supervisor.run("reloadLogs", check=False)
    assert refused.returncode == 1
    assert "percore restart tick" in refused.stderr


# -- what a scribe writes --------------------------------------------------------------------------------------------

COUNTER = """
let n = 0;
const timer = setInterval(() => {
  for (let i = 0; i < 50; i++) console.log(`line ${n++}`);
  console.error(`error ${n}`);
  if (n >= 20000) clearInterval(timer), setInterval(() => {}, 1000);
}, 2);
"""


def test_lines_are_stamped_and_both_streams_stand_in_one_file_as_well(supervisor: Supervisor) -> None:
    script = "echo first; echo oops >&2; echo second; exec sleep 1000"
    app = supervisor.singleton(args=[script], log_date_format="YYYY-MM-DD HH:mm:ss", log_file="all.log")
    supervisor.apply(app)
    folder = supervisor.home / "logs"
    wait_for(
        lambda: (folder / "tick-out.log").exists() and "second" in (folder / "tick-out.log").read_text(), "its lines"
    )
    wait_for(lambda: "oops" in (folder / "tick-error.log").read_text(), "its error")
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d: "
    assert re.fullmatch(f"{stamp}first\n{stamp}second\n", (folder / "tick-out.log").read_text())
    everything = (supervisor.folder / "all.log").read_text()
    assert sorted(line.split(": ")[1] for line in everything.splitlines()) == ["first", "oops", "second"]
    described = supervisor.ask("describe", selector="tick")["workers"][0]
    assert described["log_file"] == str(supervisor.folder / "all.log")
    assert "first" in supervisor.run("logs", "tick", "--nostream").stdout


def test_a_line_without_an_end_is_shown_and_spools_go_with_their_app(supervisor: Supervisor) -> None:
    script = "printf 'Name? '; exec sleep 1000"
    supervisor.apply(supervisor.singleton(args=[script], log_date_format="HH:mm"))
    log = supervisor.home / "logs" / "tick-out.log"
    wait_for(lambda: log.exists() and log.read_text().endswith(": Name? "), "the prompt")
    spool = supervisor.home / "logs" / "spool" / "tick-0-out"
    assert spool.exists()
    supervisor.run("delete", "tick")
    wait_for(lambda: not spool.exists(), "the end of the spool")


def test_each_line_becomes_an_object_where_json_is_wished(supervisor: Supervisor) -> None:
    script = "echo '{\"a\": 1}'; printf 'no end'; exec sleep 1000"
    supervisor.apply(supervisor.singleton(args=[script], log_type="json"))
    log = supervisor.home / "logs" / "tick-out.log"
    wait_for(lambda: log.exists() and log.read_text().count("\n") == 1, "the whole line")
    supervisor.run("delete", "tick")
    wait_for(lambda: log.read_text().count("\n") == 2, "the line without an end")
    first, second = map(json.loads, log.read_text().splitlines())
    assert (first["message"], first["type"], first["app_name"], first["process_id"]) == ('{"a": 1}', "out", "tick", 0)
    assert second["message"] == "no end"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["timestamp"])


def test_no_line_is_lost_or_doubled_when_scribe_and_supervisor_are_killed_again_and_again(
    supervisor: Supervisor,
) -> None:
    (supervisor.folder / "counter.js").write_text(COUNTER)
    app = supervisor.singleton(
        script="counter.js", args=[], interpreter="node", log_date_format="HH:mm:ss", log_max_size=0
    )
    supervisor.apply(app)
    log = supervisor.home / "logs" / "tick-out.log"
    lock = supervisor.home / "run" / "scribe" / "lock"
    for number in range(8):
        wait_for(lambda size=number * 30_000: log.exists() and log.stat().st_size > size, "lines")
        if number == 4:
            supervisor.kill_daemon()
            supervisor.run("ping")
        pid = int(wait_for(lambda: lock.exists() and lock.read_text(), "the scribe"))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: lock.read_text() not in ("", f"{pid}\n"), "another scribe", seconds=30)
    wait_for(lambda: "line 19999" in log.read_text(), "the last line", seconds=60)
    assert [line.partition(": ")[2] for line in log.read_text().splitlines()] == [f"line {n}" for n in range(20000)]
    spool = supervisor.home / "logs" / "spool" / "tick-0-out"
    assert spool.stat().st_blocks * 512 <= 2 << 20


BURST = """
let number = 0;
const write = () => {
  for (let i = 0; i < 20 && number < 20000; i++) console.log(`${number++} ${'x'.repeat(60)}`);
  if (number < 20000) setTimeout(write, 4);
  else process.kill(process.pid, 'SIGKILL');
};
write();
"""


def test_each_line_stands_once_in_rotated_logs_and_the_third_file_though_worker_scribe_and_supervisor_are_killed(
    supervisor: Supervisor,
) -> None:
    app = node(supervisor, "burst", BURST, autorestart=False, min_uptime=0.1, log_max_size=128 << 10, log_keep=200,
               log_date_format="YYYY", log_file="both.log")  # fmt: skip
    supervisor.apply(app, check=False)
    lock = supervisor.home / "run" / "scribe" / "lock"
    for _ in range(3):
        pid = int(wait_for(lambda: lock.exists() and lock.read_text(), "the scribe"))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        supervisor.kill_daemon()
        supervisor.run("ping")
        wait_for(lambda pid=pid: lock.read_text() not in ("", f"{pid}\n"), "another scribe")
    wait_for(lambda: supervisor.workers("burst")[0]["pid"] == 0, "the writer to end", seconds=60)
    for log in (supervisor.home / "logs" / "burst-out.log", supervisor.folder / "both.log"):
        wait_for(lambda log=log: b" 19999 " in content(log), "the last line")
        wait_for(lambda log=log: log.stat().st_size <= 128 << 10, "the rotation to be done")
        assert [int(line.split()[1]) for line in content(log).decode().splitlines()] == list(range(20_000))
        assert older_files(log)
    (listed,) = json.loads(supervisor.run("jlist").stdout)
    assert listed["pm2_env"]["pm_log_path"] == str(supervisor.folder / "both.log")
    supervisor.run("flush", "burst")
    assert content(supervisor.folder / "both.log") == b""
