"""`cron_restart` with a real clock: an expression for every second is soon due."""

from __future__ import annotations

from tests.supervisor.conftest import Load, Supervisor
from tests.waiting import wait_for

EVERY_SECOND = "* * * * * *"


def restarts(supervisor: Supervisor, app: str = "tick") -> int:
    return supervisor.log().count(f"{app}: time for its cron_restart")


def test_a_singleton_is_restarted_and_a_stopped_one_stays_stopped(supervisor: Supervisor) -> None:
    other = supervisor.singleton(name="other", cron_restart="0 0 1 1 *")
    supervisor.apply(supervisor.singleton(cron_restart=EVERY_SECOND), other)
    [before] = supervisor.pids("other")
    wait_for(lambda: restarts(supervisor) >= 2, "two restarts")
    lines = (supervisor.home / "logs" / "tick-out.log").read_text().split()
    assert lines.count("start") - lines.count("end") <= 1
    supervisor.run("stop", "tick")
    stopped_at = restarts(supervisor)
    supervisor.run("restart", "other")
    wait_for(lambda: supervisor.pids("other") not in ([before], [0]), "time to pass")
    assert restarts(supervisor) == stopped_at
    assert [worker["state"] for worker in supervisor.workers("tick")] == ["stopped"]


def test_a_job_that_ended_runs_again_at_its_time(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.singleton(args=["echo run"], autorestart=False, cron_restart=EVERY_SECOND))
    log = supervisor.home / "logs" / "tick-out.log"
    wait_for(lambda: log.read_text().count("run") >= 3, "two more runs")


def test_a_cluster_is_reloaded_without_a_lost_request_and_the_key_can_be_taken_away(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(cron_restart=EVERY_SECOND))
    before = set(supervisor.pids("api"))
    with Load(supervisor.port) as load:
        wait_for(lambda: not before & set(supervisor.pids("api")), "new workers")
    assert load.failures == []
    result = supervisor.apply(supervisor.api())
    assert {"app": "api", "change": "changed"} in result["changes"]
    # What was due during the first apply comes before the second.
    supervisor.apply(supervisor.singleton(cron_restart=EVERY_SECOND), supervisor.api())
    count = restarts(supervisor, "api")
    wait_for(lambda: restarts(supervisor) >= 1, "the other app's time")
    assert restarts(supervisor, "api") == count


def test_the_times_go_on_after_the_supervisor_was_killed(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.singleton(cron_restart=EVERY_SECOND))
    supervisor.kill_daemon()
    before = restarts(supervisor)
    supervisor.run("ping")
    wait_for(lambda: restarts(supervisor) > before, "a restart by the new supervisor")
