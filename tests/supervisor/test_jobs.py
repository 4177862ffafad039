"""`jobs` with a real clock and real programs: their times, their end, and that no reload, deploy or supervisor cuts one."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.supervisor.conftest import Supervisor
from tests.supervisor.test_hooks import WRITE, events, first
from tests.waiting import wait_for

EVERY_SECOND, NEVER_SOON = "* * * * * *", "0 0 1 1 *"


def job(supervisor: Supervisor, script: str, **fields: Any) -> dict[str, Any]:
    """A job as a release record has it."""
    made = {"job_cron": NEVER_SOON, "autorestart": False, "instances": 1, **fields}
    return supervisor.singleton(**{"name": "backup", "args": [script], **made})


def report(supervisor: Supervisor, name: str = "backup") -> dict[str, Any]:
    jobs = json.loads(supervisor.run("jobs", "--json").stdout)
    return next(entry for entry in jobs if entry["name"] == name)


def last(supervisor: Supervisor) -> dict[str, Any]:
    """The last run, once there is one."""
    found: dict[str, Any] = wait_for(lambda: report(supervisor)["last"], "a run that ended")
    return found


def start(supervisor: Supervisor) -> int:
    """Runs the job now; its pid."""
    supervisor.run("jobs", "backup", "--run")
    found: int = wait_for(lambda: report(supervisor)["pid"], "a run")
    return found


WAITS = "echo $PERCORE_RELEASE begins; while ! test -e go; do sleep 0.05; done; echo $PERCORE_RELEASE ends"


def let_it_end(supervisor: Supervisor) -> None:
    (supervisor.folder / "go").touch()


def lines(supervisor: Supervisor) -> list[str]:
    path = supervisor.home / "logs" / "backup-out.log"
    return path.read_text().splitlines() if path.exists() else []


def test_a_job_runs_at_its_times_and_not_when_it_comes(supervisor: Supervisor) -> None:
    supervisor.apply(job(supervisor, "echo run"))
    assert report(supervisor)["last"] is None
    assert report(supervisor)["next"]
    supervisor.apply(job(supervisor, "echo run", job_cron=EVERY_SECOND))
    wait_for(lambda: len(lines(supervisor)) >= 2, "two runs")
    run = last(supervisor)
    assert (run["exit_code"], run["failed"], run["lines"][-1], run["release"]) == (0, False, "run", "r1")
    assert 0 <= run["seconds"] < 5
    shown = supervisor.run("jobs", "backup").stdout
    assert "exited with code 0" in shown
    assert "backup | run" in shown
    supervisor.run("stop", "backup")
    count = len(lines(supervisor))
    supervisor.apply(job(supervisor, "x"), supervisor.singleton(cron_restart=EVERY_SECOND))
    wait_for(lambda: supervisor.log().count("time for its cron_restart") >= 2, "time to pass")
    assert len(lines(supervisor)) == count


def test_a_job_that_fails_is_told_with_its_last_lines(supervisor: Supervisor) -> None:
    hooks = {"job_failed": [WRITE], "crash": [WRITE]}
    supervisor.apply(job(supervisor, "echo no such table >&2; exit 3", hooks=hooks))
    supervisor.run("jobs", "backup", "--run")
    told = first(supervisor, "job_failed")
    assert (told["app"], told["reason"]) == ("backup", "exited with code 3")
    assert told["log_tail"][-1] == "no such table"
    run = last(supervisor)
    assert (run["exit_code"], run["failed"]) == (3, True)
    assert "failed: exited with code 3" in supervisor.run("jobs").stdout
    assert "backup | no such table" in supervisor.run("jobs").stdout
    assert [entry["event"] for entry in events(supervisor)] == ["job_failed"]


def test_a_job_that_takes_too_long_is_stopped_and_has_failed(supervisor: Supervisor) -> None:
    hooks = {"job_failed": [WRITE]}
    script = "trap '' INT; echo stuck; while :; do sleep 0.1; done"
    supervisor.apply(job(supervisor, script, job_timeout=0.3, kill_timeout=0.3, hooks=hooks))
    supervisor.run("jobs", "backup", "--run")
    assert first(supervisor, "job_failed")["reason"] == "stopped after its timeout of 0.3 s"
    run = last(supervisor)
    assert (run["failed"], run["lines"][-1]) == (True, "stuck")
    assert report(supervisor)["pid"] is None


@pytest.mark.parametrize("overlap", ["forbid", "queue"])
def test_a_time_that_comes_while_it_runs_is_left_out_or_waits(supervisor: Supervisor, overlap: str) -> None:
    supervisor.apply(job(supervisor, WAITS, job_cron=EVERY_SECOND, job_overlap=overlap))
    word = "left out" if overlap == "forbid" else "once more"
    wait_for(lambda: word in supervisor.log(), "a time while it runs")
    assert lines(supervisor) == ["r1 begins"]
    if overlap == "forbid":
        assert report(supervisor)["skipped"] >= 1
    supervisor.apply(job(supervisor, WAITS, job_overlap=overlap))  # no more times
    let_it_end(supervisor)
    wait_for(lambda: report(supervisor)["last"] and not report(supervisor)["pid"], "the end")
    runs = {"forbid": 1, "queue": 2}[overlap]
    wait_for(lambda: lines(supervisor).count("r1 ends") == runs, f"{runs} runs")


def test_no_reload_restart_or_release_cuts_a_run_and_the_next_one_is_of_the_new_release(
    supervisor: Supervisor,
) -> None:
    supervisor.apply(job(supervisor, WAITS))
    pid = start(supervisor)
    result = supervisor.apply(job(supervisor, WAITS, release="r2", env={"NEW": "1"}), release="r2")
    assert result["ok"]
    for command in ("reload", "restart"):
        supervisor.run(command, "all")
    assert report(supervisor)["pid"] == pid
    let_it_end(supervisor)
    assert last(supervisor)["exit_code"] == 0
    started = last(supervisor)["started"]
    supervisor.run("jobs", "backup", "--run")
    wait_for(lambda: last(supervisor)["started"] != started, "the next run")
    assert lines(supervisor)[:2] == ["r1 begins", "r1 ends"] or lines(supervisor)[0].endswith("begins")
    assert lines(supervisor)[-1] == "r2 ends"


def test_a_job_that_a_release_no_longer_has_ends_first_and_is_forgotten_then(supervisor: Supervisor) -> None:
    other = supervisor.singleton(name="other")
    supervisor.apply(job(supervisor, WAITS), other)
    pid = start(supervisor)
    supervisor.apply(other, release="r2")
    assert report(supervisor)["pid"] == pid
    let_it_end(supervisor)
    wait_for(lambda: json.loads(supervisor.run("jobs", "--json").stdout) == [], "the job to be forgotten")
    assert lines(supervisor)[-1].endswith("ends")


def test_a_run_goes_on_under_the_next_supervisor_with_its_timeout(supervisor: Supervisor) -> None:
    supervisor.apply(job(supervisor, WAITS, job_timeout=600.0))
    pid = start(supervisor)
    supervisor.kill_daemon()
    supervisor.run("ping")
    assert report(supervisor)["pid"] == pid
    assert report(supervisor)["running_since"]
    let_it_end(supervisor)
    assert last(supervisor)["started"]
    assert report(supervisor)["pid"] is None
    run = last(supervisor)
    supervisor.kill_daemon()
    supervisor.run("ping")
    assert last(supervisor) == run


def test_a_run_that_ended_while_no_supervisor_ran_is_noted_as_such(supervisor: Supervisor) -> None:
    supervisor.apply(job(supervisor, WAITS))
    pid = start(supervisor)
    supervisor.kill_daemon()
    with open(os.pidfd_open(pid)):
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "its end")
    supervisor.run("ping")
    run = last(supervisor)
    assert (run["exit_code"], run["failed"], run["end"]) == (None, False, "ended while no supervisor ran")


def test_a_supervisor_that_starts_at_boot_runs_no_job_before_its_time(supervisor: Supervisor) -> None:
    supervisor.apply(job(supervisor, WAITS))
    start(supervisor)
    supervisor.stop_daemon()
    state = supervisor.home / "state.json"
    state.write_text(state.read_text().replace('"boot_id": "', '"boot_id": "another '))
    before = lines(supervisor)
    supervisor.run("ping")
    assert report(supervisor)["pid"] is None
    assert lines(supervisor) == before


def test_what_is_no_job_or_runs_already_is_refused(supervisor: Supervisor) -> None:
    done = supervisor.run("jobs", "backup", check=False)
    assert (done.returncode, done.stdout) in [(2, ""), (0, "there are no jobs\n")]
    supervisor.apply(supervisor.singleton(name="other"), job(supervisor, WAITS))
    done = supervisor.run("jobs", "other", "--run", check=False)
    assert done.returncode == 2
    assert "no job is called 'other' -> see 'percore jobs'" in done.stderr
    start(supervisor)
    done = supervisor.run("jobs", "backup", "--run", check=False)
    assert (done.returncode, "job 'backup' runs already" in done.stderr) == (2, True)
    let_it_end(supervisor)
