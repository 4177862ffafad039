"""`invoke jobs`: when each job of the fleet runs next, and how its last run ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from percore.deploy.connection.care_messages import JobReport
from percore.deploy.report import Report
from percore.deploy.rollout.hosts import ask_all
from percore.deploy.rollout.parallel import stop_at
from percore.deploy.rollout.scope import Scope

HEADS = ("host", "job", "times", "next", "runs since", "last", "took", "ended")


def show_jobs(scope: Scope, report: Report, *, names: Sequence[str], as_json: bool) -> None:
    """The last lines of one that failed, and of those that are named."""
    hosts, (replies, faults) = ask_all(scope, "jobs", names=list(names))
    found = [(host.name, job) for host in hosts if host.name in replies for job in replies[host.name]["jobs"]]
    if as_json:
        report.json([{"host": host, **job} for host, job in found])
    elif found:
        report.table(HEADS, [_row(host, job) for host, job in found])
        for host, job in found:
            last = job["last"]
            for line in last["lines"] if last and (names or last["failed"]) else ():
                report.log(host, f"{job['name']} | {line}")
    else:
        report.line("there are no jobs")
    stop_at(faults, report)


def _row(host: str, job: JobReport) -> list[object]:
    last: Mapping[str, Any] = job["last"] or {}
    took = "-" if last.get("seconds") is None else f"{last['seconds']:.1f} s"
    ended = f"{'failed: ' if last['failed'] else ''}{last['end'] or '-'}" if last else "-"
    times = f"{job['cron']} {job['timezone'] or ''}".rstrip()
    moments = [_moment(seconds) for seconds in (job["next"], job["running_since"], last.get("started"))]
    return [host, job["name"], times, *moments, took, ended]


def _moment(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC") if seconds else "-"
