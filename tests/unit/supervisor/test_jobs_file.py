"""`jobs` of a process file, and the time zones of their times."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from percore.errors import UsageError
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.cron import parse, zone_offset
from percore.supervisor.config.process_file import load_process_file, resolve_for_release

BACKUP = {"name": "backup", "script": "/bin/true", "cron": "30 4 * * *"}


def load(directory: Path, *jobs: Any, **content: Any) -> tuple[AppConfig, ...]:
    path = directory / "ecosystem.json"
    path.write_text(json.dumps({"jobs": list(jobs), **content}))
    return load_process_file(str(path)).apps


def test_a_job_is_an_app_that_runs_at_its_times_and_ends(tmp_path: Path) -> None:
    given = {"timezone": "Europe/Berlin", "overlap": "queue", "timeout": "1h", "where": "one", "env": {"A": 1}}
    (job,) = load(tmp_path, {**BACKUP, **given})
    assert job.is_job
    assert (job.job_cron, job.job_timezone, job.job_overlap) == ("30 4 * * *", "Europe/Berlin", "queue")
    assert (job.job_timeout, job.job_where, job.env) == (3600.0, "one", {"A": "1"})
    assert (job.mode, job.instances, job.autorestart) == ("fork", 1, False)
    assert AppConfig.from_record(job.to_record()) == job


def test_a_file_may_have_apps_and_jobs_or_one_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.js").touch()
    apps = load(tmp_path, BACKUP, apps=[{"name": "web", "script": "a.js"}])
    assert [(app.name, app.is_job) for app in apps] == [("web", False), ("backup", True)]
    assert [app.name for app in load(tmp_path, BACKUP)] == ["backup"]
    with pytest.raises(UsageError, match="it contains no apps"):
        load(tmp_path)


def test_a_release_has_the_jobs_of_its_file(tmp_path: Path) -> None:
    load(tmp_path, {**BACKUP, "where": "one"})
    record = resolve_for_release(str(tmp_path / "ecosystem.json"), release_id="r1", release_path="/srv/x")
    assert [(app["name"], app["job_where"]) for app in record["apps"]] == [("backup", "one")]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"cron": None}, "job 'backup' has no 'cron' -> say when it runs"),
        ({"cron": "61 * * * *"}, "key 'cron' of job 'backup' must be .*minute from 0 to 59"),
        ({"timezone": "Europe/Berlyn"}, "key 'timezone' of job 'backup' must be a time zone that this machine knows"),
        ({"timezone": "../../etc/passwd"}, "key 'timezone' of job 'backup' must be a time zone"),
        ({"overlap": "allow"}, "key 'overlap' of job 'backup' must be forbid or queue"),
        ({"where": "two"}, "key 'where' of job 'backup' must be each or one"),
        ({"timeout": "soon"}, "key 'timeout' of job 'backup' must be"),
        ({"instances": 2}, "key 'instances' means nothing for job 'backup', which runs and ends"),
        ({"autorestart": True}, "key 'autorestart' means nothing for job 'backup'"),
        ({"maxRestarts": 2}, "key 'maxRestarts' means nothing for job 'backup'"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused_with_its_key(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        load(tmp_path, {**BACKUP, **changed})


@pytest.mark.parametrize("jobs", [{"backup": BACKUP}, "backup", ["backup"]])
def test_jobs_that_are_no_list_of_jobs_are_refused(tmp_path: Path, jobs: Any) -> None:
    (tmp_path / "ecosystem.json").write_text(json.dumps({"jobs": jobs}))
    with pytest.raises(UsageError, match="'jobs' must be a list of jobs"):
        load_process_file(str(tmp_path / "ecosystem.json"))


def test_no_app_waits_for_a_job_and_none_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.js").touch()
    with pytest.raises(UsageError, match="'depends_on' of app 'web' names 'backup', which is a job"):
        load(tmp_path, BACKUP, apps=[{"name": "web", "script": "a.js", "depends_on": ["backup"]}])
    with pytest.raises(UsageError, match="two apps are called 'backup'"):
        load(tmp_path, BACKUP, apps=[{"name": "backup", "script": "a.js"}])


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Chatham", "UTC"])
def test_a_time_of_a_zone_is_the_time_of_its_clocks(zone: str) -> None:
    schedule, offset = parse("30 4 * * *"), zone_offset(zone)
    now = datetime(2026, 1, 1, tzinfo=timezone.utc).timestamp()
    for _ in range(400):
        found = schedule.next_after(now, offset)
        assert found
        local = datetime.fromtimestamp(found, ZoneInfo(zone))
        assert (local.hour, local.minute, local.second) == (4, 30, 0)
        assert 0 < found - now <= 25 * 3600 or now < 1_767_400_000
        now = found


def test_a_time_that_a_zone_leaves_out_comes_with_the_change_and_one_it_has_twice_once() -> None:
    berlin, half_past_two = zone_offset("Europe/Berlin"), parse("30 2 * * *")
    spring = datetime(2026, 3, 28, 12, tzinfo=timezone.utc).timestamp()
    assert half_past_two.next_after(spring, berlin) == datetime(2026, 3, 29, 1, tzinfo=timezone.utc).timestamp()
    autumn = datetime(2026, 10, 24, 12, tzinfo=timezone.utc).timestamp()
    first = half_past_two.next_after(autumn, berlin)
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=timezone.utc).timestamp()
    assert half_past_two.next_after(first, berlin) == datetime(2026, 10, 26, 1, 30, tzinfo=timezone.utc).timestamp()
