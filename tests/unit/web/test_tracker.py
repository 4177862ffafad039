"""What happened between two looks at a host, and what the page is told of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from percore.supervisor.core.worker.figures import RELOAD_FAILED as COUNTED_FAILURE
from percore.supervisor.core.worker.figures import RELOADED as COUNTED_RELOAD
from percore.supervisor.core.worker.figures import RESTART_CAUSES
from percore.web.dashboard.history import Timelines
from percore.web.dashboard.overview import app_row
from percore.web.dashboard.sample import (
    RELOAD_FAILED,
    RELOADED,
    UNPLANNED,
    AppFigures,
    HostSample,
    MachineFigures,
    read_status,
)
from percore.web.dashboard.tracker import EventLog, Tracker
from tests.pages import make_app, make_worker

AT = 1_795_990_000.0
GONE = HostSample([], problem="no supervisor runs", next="percore ping")


def tracked(*samples: HostSample) -> Tracker:
    found = Tracker(Timelines(), EventLog())
    for number, sample in enumerate(samples):
        found.take("web1", sample, AT + 2 * number)
    return found


def told(*samples: HostSample) -> list[str]:
    """The events, the oldest first."""
    events = tracked(*samples).events.newest(100)
    return [f"{event['app'] or event['host']}: {event['text']}" for event in reversed(events)]


def with_apps(*apps: AppFigures) -> HostSample:
    return HostSample(apps)


def shop(workers: int = 2, **counts: int) -> AppFigures:
    return make_app("shop", [make_worker(slot) for slot in range(workers)], counts=counts or {"reloaded": 1})


def test_the_first_look_tells_nothing_and_one_without_a_change_neither() -> None:
    assert told(with_apps(shop()), with_apps(shop())) == []


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        ([shop(reloaded=1)], [shop(reloaded=2)], ["shop: reloaded"]),
        ([shop(reload_failed=0, reloaded=1)], [shop(reload_failed=1, reloaded=1)], ["shop: a reload failed"]),
        ([shop(crash=1)], [shop(crash=4)], ["shop: 3 workers restarted: crash"]),
        ([shop(memory=1)], [shop(memory=2)], ["shop: 1 worker restarted: memory"]),
        ([shop(request=1)], [shop(request=9)], []),
        ([shop(2)], [shop(4)], ["shop: 2 -> 4 workers"]),
        ([shop()], [shop(), make_app("blog", [])], ["blog: added"]),
        ([shop(), make_app("blog", [])], [shop()], ["blog: deleted"]),
        ([shop()], [shop()._replace(release="20261130-ef")], ["shop: release 20261130-ef"]),
    ],
)
def test_what_happened_is_told_once(before: list[AppFigures], after: list[AppFigures], events: list[str]) -> None:
    samples = [with_apps(*before), with_apps(*after), with_apps(*after)]
    assert told(*samples) == events


def test_what_befalls_many_workers_at_once_is_one_line() -> None:
    broken = [make_worker(slot, state="fatal", failure="exited with code 1") for slot in range(64)]
    assert told(with_apps(shop(64)), with_apps(shop()._replace(workers=broken, wanted=64))) == [
        "shop: 64 workers fatal: exited with code 1"
    ]


def test_a_crash_loop_is_one_event_with_a_count() -> None:
    found = tracked(*[with_apps(shop(crash=number)) for number in range(1, 10)])
    events = found.events.newest(10)
    assert [(event["text"], event["times"]) for event in events] == [("1 worker restarted: crash", 8)]


def test_a_host_that_is_gone_keeps_its_last_figures_and_says_so_once() -> None:
    found = tracked(with_apps(shop()), GONE, GONE)
    kept = found.hosts["web1"].sample
    assert (kept.problem, kept.next, len(kept.apps)) == ("no supervisor runs", "percore ping", 1)
    assert [event["times"] for event in found.events.newest(10)] == [1]
    assert told(with_apps(shop()), GONE, GONE, with_apps(shop())) == [
        "web1: no supervisor runs",
        "web1: answers again",
    ]


def test_connections_accepted_per_second_begin_anew_with_each_process() -> None:
    first = make_worker(0)._replace(accepted=1000)
    same, other = first._replace(accepted=1040), first._replace(accepted=6, pid=77)
    app = make_app("shop", [first])
    rate = ("shop", 0)
    assert tracked(with_apps(app)).hosts["web1"].rates == {}
    assert tracked(with_apps(app), with_apps(app._replace(workers=[same]))).hosts["web1"].rates[rate] == 20.0
    assert tracked(with_apps(app), with_apps(app._replace(workers=[other]))).hosts["web1"].rates[rate] == 3.0


def test_the_causes_are_those_that_the_supervisor_counts() -> None:
    assert set(UNPLANNED) < set(RESTART_CAUSES)
    assert (RELOADED, RELOAD_FAILED) == (COUNTED_RELOAD, COUNTED_FAILURE)


def status(workers: Sequence[dict[str, object]]) -> dict[str, object]:
    app = {"name": "shop", "mode": "cluster", "release": None, "wanted": 1, "addresses": [":3000"], "workers": workers}
    return {"apps": [app]}


def worker(pid: int | None, state: str = "running", **more: object) -> dict[str, object]:
    figures = {"memory_bytes": 5, "cpu_percent": 1.5, "uptime_seconds": 9.0, "restarts": 2}
    return {"slot": 0, "id": 7, "pid": pid, "state": state, "failure": "", **figures, **more}


def test_during_a_reload_a_slot_is_the_worker_that_serves() -> None:
    sample = read_status(status([worker(10), worker(11, "starting")]), {}, MachineFigures())
    assert [(one.pid, one.state) for one in sample.apps[0].workers] == [(10, "running")]


def test_a_supervisor_of_before_says_less_and_that_is_read_as_well() -> None:
    old = {key: value for key, value in worker(10).items() if key not in ("id", "failure")}
    found = read_status(status([old]), {}, MachineFigures()).apps[0]
    assert (found.workers[0].id, found.restarts, found.reloads, found.problem) == (0, 2, 0, "")


def test_an_app_that_is_stopped_has_no_problem_and_one_that_lacks_workers_says_how_many() -> None:
    broken = make_worker(1, state="backoff")
    lacking = make_app("shop", [make_worker(0), broken])
    assert app_row(lacking, {})["problem"] == "1 of 2 workers run"
    failed = lacking._replace(workers=[broken._replace(failure="port taken")])
    assert app_row(failed, {})["problem"] == "port taken"
    assert app_row(failed._replace(wanted=0), {})["problem"] == ""


def test_what_cannot_be_counted_is_not_shown_as_zero() -> None:
    uncounted = make_worker(0)._replace(open=None, queue=None, accepted=None)
    row = app_row(make_app("shop", [uncounted]), {})
    assert (row["open"], row["queue"], row["accepted"]) == (None, None, None)
