"""Before anything is touched: connect, refuse hosts that cannot be what they should be, and see what each one is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

from percore.deploy.connection.messages import Inspected
from percore.deploy.plan.batches import Policy
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host, HostValue
from percore.deploy.rollout.hosts import connect_all
from percore.deploy.rollout.parallel import all_or_stop, count_hosts, stop_at
from percore.deploy.rollout.peers import note_cores
from percore.deploy.rollout.wanted import WantedApp, WantedHost
from percore.errors import PercoreError, PreflightError, UnreachableError, UsageError

OLDEST_PYTHON = (3, 9)


def connect_hosts(hosts: Sequence[Host], report: Report, *, policy: Policy | None = None) -> list[Host]:
    """Open every connection; returns the hosts that answer. Without a policy that lets some be missing, all must."""
    report.phase("connect", count_hosts(hosts))
    faults = connect_all(hosts)
    may_miss = policy is not None and not policy.is_exceeded(len(faults), len(hosts)) and len(faults) < len(hosts)
    if not may_miss or not all(isinstance(fault, UnreachableError) for fault in faults.values()):
        stop_at(faults, report)
    for name, fault in faults.items():
        again = hosts[0].scope.command("converge", f"--limit {name}")
        report.warn(f"{fault.where}: {fault.what}; left out -> when it is back: {again}")
    reached = [host for host in hosts if host.name not in faults]
    stop_at({host.name: unfit for host in reached if (unfit := _unfit(host))}, report)
    note_cores(hosts[0].scope, reached)
    return reached


def _unfit(host: Host) -> PercoreError | None:
    """Why a host cannot be what the plan says, by its facts."""
    facts = host.agent.facts
    if tuple(int(part) for part in facts["python"].split(".")[:2]) < OLDEST_PYTHON:
        return PreflightError(f"Python {facts['python']} is too old, 3.9 is needed", where=host.name, next="upgrade it")
    if host.basics.has_systemd and not facts["systemd"]:
        advice = "set service_manager: process in the inventory"
        return PreflightError("systemd does not run there", where=host.name, next=advice)
    if host.basics.has_systemd and facts["uid"] != 0:
        other = host.address.become_user if host.address.become else None
        user = other or host.address.ssh.user or facts["user"] or facts["uid"]
        advice = "leave out ansible_become_user, or set it to root" if other else "set ansible_become: true"
        return PreflightError(f"user '{user}' may not set up services", where=host.name, next=advice)
    return None


@dataclass(frozen=True)
class Seen(HostValue):
    """What a host is, beside what it should be. `known_release` is one it has already that is what we want."""

    wanted: WantedHost
    reply: Inspected = field(repr=False)
    known_release: str | None
    is_up_to_date: bool

    @property
    def current(self) -> str | None:
        return self.reply["current"]


def _unit_that_needs_them(wanted: WantedHost) -> str | None:
    """Where programs are to be found: not in the PATH of our login, but for an app that names its own PATH or interpreter."""
    apps = wanted.app.record["apps"] if wanted.app else []
    says_itself = any("/" in str(app.get("interpreter", "")) or "PATH" in app.get("env", {}) for app in apps)
    return None if says_itself or not apps else wanted.host.settings.unit


def inspect_host(wanted: WantedHost, owner: str | None) -> Seen:
    """Compare what a host is with what it should be. An owner locks it as well."""
    app = wanted.app
    programs = ["node"] if app and app.artifact.is_node else []
    reply: Inspected = wanted.host.ask(
        "inspect",
        owner=owner,
        resources=wanted.comparable(),
        programs=programs,
        unit=_unit_that_needs_them(wanted),
        fingerprint=app.fingerprint if app else None,
    )
    is_same = not reply["changes"] and not reply["owed"]
    if app is not None:
        known = _release_with(reply, app)
        is_placed = not wanted.host.is_misplaced(reply["status"], [each["name"] for each in app.record["apps"]])
        return Seen(wanted.host, wanted, reply, known, is_same and is_placed and _is_whole(reply, known))
    if reply["current"] is None:
        raise UsageError(
            "nothing is deployed there yet", where=wanted.name, next="deploy without --tags and --skip-tags first"
        )
    return Seen(wanted.host, wanted, reply, None, is_same)


def inspect_all(wanted: Sequence[WantedHost], owner: str | None, report: Report) -> list[Seen]:
    """Every host as `inspect_host` does; all leave a release that was edited on one of them."""
    return leave_edited(all_or_stop(wanted, lambda one: inspect_host(one, owner), report))


def leave_edited(seen: Sequence[Seen]) -> list[Seen]:
    """All hosts leave a release whose files were edited on one of them: they stay on the same one, as it was built."""
    edited = {name for one in seen for name in one.reply.get("edits", {})}
    return [
        replace(one, known_release=None, is_up_to_date=False)
        if one.known_release in edited or (one.current in edited and one.wanted.app)
        else one
        for one in seen
    ]


def _is_whole(reply: Inspected, release: str | None) -> bool:
    """The wanted release runs as it should, and is known to be good."""
    return (
        release is not None
        and release == reply["current"]
        and reply["marks"][release]["mark"] == "good"
        and not reply["workers"]
    )


def _release_with(reply: Inspected, app: WantedApp) -> str | None:
    """The release that already is what we want: the current one first, else the newest that is not bad.

    Other hosts may be given its id, so it counts only where the id is one that we could have made of this artifact.
    """
    same = [
        name
        for name, note in reply["marks"].items()
        if note.get("fingerprint") == app.fingerprint
        and note["mark"] != "bad"
        and name not in reply.get("edits", {})
        and is_made_of(name, app.artifact.digest)
    ]
    return reply["current"] if reply["current"] in same else max(same, default=None)


def is_made_of(release: str, sha256: str) -> bool:
    """An id that `make_release_id` gave, not later than now; clocks of several control machines may differ by a day."""
    latest = datetime.now(timezone.utc) + timedelta(days=1)
    moment, _, digest = release.partition("-")
    return digest == sha256[:8] and moment <= f"{latest:%Y%m%d%H%M%S}"
