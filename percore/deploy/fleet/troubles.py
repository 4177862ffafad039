"""`invoke watch`: what is wrong with the hosts of an environment is told once, again each day, and once more when it is over."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from percore.common.bounds import read_file
from percore.common.finding import ERROR, Finding
from percore.deploy.alerts.alert import KINDS, Alert
from percore.deploy.alerts.send import send
from percore.deploy.alerts.targets import AlertTarget
from percore.deploy.fleet.doctor import ask_diagnosis, findings_of
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import closing_hosts, connect_all, load_hosts
from percore.deploy.rollout.parallel import Faults, count_hosts, on_all
from percore.deploy.rollout.scope import Scope
from percore.deploy.whole import replace_file
from percore.errors import PercoreError, UsageError

_REMIND_SECONDS = 86400.0
_AGAIN_SECONDS = 5.0
"""A host that does not answer is asked once more before anybody is told."""

_KIND_OF_TOPIC = {"disk": "disk", "certificates": "certificate"}
_SUBJECTS = {"disk": "a disk is nearly full", "certificate": "a certificate needs to be renewed"}
_MOST_LINES = 20
_MOST_SINGLE = 3
"""More alerts of one kind at the same look are told as one."""


@dataclass(frozen=True)
class Trouble:
    """Something that is wrong with a host. `about` names it there: the same trouble is told once."""

    host: str
    about: str
    alert: Alert

    @property
    def key(self) -> str:
        return f"{self.host} {self.about}"


def watch(scope: Scope, report: Report, *, every: float) -> None:
    """Looks every so many seconds until it is ended; once for 0. A look that fails later on is a warning."""
    look(scope, report)
    while every:
        time.sleep(every)
        try:
            look(scope, report)
        except PercoreError as error:
            report.warn(str(error))


def look(scope: Scope, report: Report) -> None:
    hosts = load_hosts(scope)
    targets = hosts[0].basics.alerts
    with closing_hosts(hosts):
        faults = _connect(hosts)
        reached = [host for host in hosts if host.name not in faults]
        found = [*_unreachable(faults, scope), *_ask(reached, scope)]
    tell_changes(found, hosts, set(faults), _path(scope), lambda event: _tell(event, targets, scope, report))
    if found:
        report.line(f"{len(found)} wrong on {count_hosts({trouble.host for trouble in found})} of {len(hosts)}")
    else:
        report.line(f"all is well on {count_hosts(hosts)}")


def test_targets(scope: Scope, report: Report) -> None:
    """Every target gets an event, whichever it asks for."""
    hosts = load_hosts(scope, also_without_app=True)
    targets = hosts[0].basics.alerts
    if not targets:
        raise UsageError("nobody is told of anything: 'alerts' is empty", next="see docs/how-to/alerts.md")
    event = Alert("done", scope.env, "a test of the alerts", "if you read this, alerts arrive")
    failed = send(event, [replace(target, on=tuple(KINDS)) for target in targets], scope.project, report)
    if failed:
        raise PercoreError(f"{failed} of {len(targets)} targets could not be told")
    report.finish("told: " + ", ".join(target.name for target in targets))


def tell_changes(
    found: Iterable[Trouble], hosts: Sequence[Host], silent: set[str], state: Path, tell: Callable[[Alert], None]
) -> None:
    """What is new, what was told a day ago, and what is over. Of `silent` hosts nothing is known but that they are.

    It is remembered first: a look that is ended meanwhile does not lead to the same alerts again and again.
    """
    now = time.time()
    names = {host.name for host in hosts}
    before = _read_state(state)
    present = {trouble.key: trouble for trouble in found}
    kept = {
        key: entry
        for key, entry in before.items()
        if entry["host"] not in names or (entry["host"] in silent and key not in present)
    }
    after, events = dict(kept), list[Alert]()
    for key, trouble in present.items():
        told = before.get(key, {}).get("told", 0.0)
        is_due = now - told >= _REMIND_SECONDS
        if is_due:
            events.append(trouble.alert)
        subject = trouble.alert.subject
        after[key] = {"host": trouble.host, "subject": subject, "told": now if is_due else told}
    for key, entry in before.items():
        if key not in after:
            over = f"over: {entry['subject']}"
            events.append(Alert("recovered", hosts[0].scope.env, over, "all is well again", [entry["host"]]))
    if after != before:
        replace_file(state, json.dumps(after, indent=1, sort_keys=True).encode())
    for event in _merge(events):
        tell(event)


def _merge(events: Sequence[Alert]) -> Iterator[Alert]:
    """A network that fails is one alert, and not two hundred."""
    for kind in dict.fromkeys(event.kind for event in events):
        same = [event for event in events if event.kind == kind]
        if len(same) <= _MOST_SINGLE:
            yield from same
            continue
        hosts = list(dict.fromkeys(host for event in same for host in event.hosts))
        subjects = [event.subject for event in same]
        more = [f"and {len(subjects) - _MOST_LINES} more"] if len(subjects) > _MOST_LINES else []
        subject = f"{len(same)} times on {count_hosts(hosts)}: {KINDS[kind]}"
        log = [*subjects[:_MOST_LINES], *more]
        yield Alert(kind, same[0].env, subject, same[0].reason, hosts, next=same[0].next, log=log)


def _tell(event: Alert, targets: Sequence[AlertTarget], scope: Scope, report: Report) -> None:
    report.warn(f"{event.subject}: {event.reason}") if event.kind != "recovered" else report.step(event.subject)
    send(event, targets, scope.project, report)


def _connect(hosts: Sequence[Host]) -> Faults:
    faults = connect_all(hosts)
    if not faults:
        return {}
    time.sleep(_AGAIN_SECONDS)
    return connect_all([host for host in hosts if host.name in faults])


def _unreachable(faults: Faults, scope: Scope) -> Iterator[Trouble]:
    for name, fault in faults.items():
        event = Alert(
            "unreachable", scope.env, f"{name} does not answer", fault.what, [name],
            next=fault.next or scope.command("status", f"--limit {name}"), log=fault.detail.splitlines()[-_MOST_LINES:],
        )  # fmt: skip
        yield Trouble(name, "unreachable", event)


def _ask(hosts: Sequence[Host], scope: Scope) -> Iterator[Trouble]:
    statuses, faults = on_all(hosts, lambda host: host.ask("status"))
    jobs, _ = on_all(hosts, lambda host: host.ask("jobs", names=[]))
    diagnoses, _ = on_all(hosts, lambda host: list(findings_of(host, ask_diagnosis(host))))
    yield from _unreachable(faults, scope)
    for name, reply in statuses.items():
        yield from (_missing(name, reply, missing, scope) for missing in reply["missing"])
    for name, answer in jobs.items():
        yield from (_failed_job(name, job, scope) for job in answer["jobs"] if job["last"] and job["last"]["failed"])
    for name, findings in diagnoses.items():
        is_said = bool(name in statuses and statuses[name]["missing"])  # of workers that do not run
        yield from _of_findings(name, [one for one in findings if not (is_said and one.topic == "workers")], scope)


def _missing(host: str, reply: Mapping[str, Any], missing: str, scope: Scope) -> Trouble:
    alert = Alert(
        "unhealthy", scope.env, f"{host}: {missing}", "something does not run that should", [host],
        reply["current"] or "", next=scope.command("logs", f"--limit {host}"),
    )  # fmt: skip
    return Trouble(host, f"missing {missing}", alert)


def _of_findings(host: str, findings: Iterable[Finding], scope: Scope) -> Iterator[Trouble]:
    """Of `doctor`: disks and certificates in time, the rest when it does not work. The first of each topic: figures vary."""
    told: set[str] = set()
    for finding in findings:
        kind = _KIND_OF_TOPIC.get(finding.topic, "unhealthy" if finding.severity == ERROR else "")
        if kind and finding.topic not in told:
            told.add(finding.topic)
            subject = f"{host}: {_SUBJECTS.get(kind, finding.topic)}"
            alert = Alert(kind, scope.env, subject, finding.what, [host], next=finding.next)
            yield Trouble(host, f"topic {finding.topic}", alert)


def _failed_job(host: str, job: Mapping[str, Any], scope: Scope) -> Trouble:
    last = job["last"]
    event = Alert(
        "job_failed", scope.env, f"job {job['name']} failed on {host}", last["end"] or "it failed", [host],
        next=scope.command("jobs", f"--app {job['name']}"), log=last["lines"][-_MOST_LINES:],
    )  # fmt: skip
    return Trouble(host, f"job {job['name']}", event)


def _path(scope: Scope) -> Path:
    return scope.project / ".percore" / "watch" / f"{scope.env}.json"


def _read_state(path: Path) -> dict[str, dict[str, Any]]:
    """What makes no sense is as if nothing had been told."""
    try:
        found = json.loads(read_file(str(path)))
        return {
            str(key): {"host": str(entry["host"]), "subject": str(entry["subject"]), "told": float(entry["told"])}
            for key, entry in found.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
