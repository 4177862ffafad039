"""Switching to a staged release: all hosts or none."""

from __future__ import annotations

from collections.abc import Sequence

from percore.deploy.fleet import (
    Host,
    on_all,
    stop_at,
)
from percore.deploy.report import Report, describe_apps
from percore.errors import PartialError, PercoreError, RolloutError, UnreachableError


def activate(hosts: list[Host], report: Report) -> None:
    """Switch every host; when one fails, every host that was switched goes back, and the error says what happened."""
    report.phase("activate", hosts[0].notes["release"])
    faults = on_all(hosts, lambda host: _activate_one(host, report))
    if faults:
        raise _take_back(hosts, faults, report)


def _activate_one(host: Host, report: Report) -> None:
    reply = host.ask("activate", report, release=host.notes["release"])
    host.notes["status"] = reply["status"]


def _take_back(hosts: list[Host], faults: dict[str, PercoreError], report: Report) -> PercoreError:
    """Bring back the former release wherever the new one runs; returns the error to end with."""
    switched = [host for host in hosts if host.name not in faults]
    report.phase("revert", f"{len(faults)} failed; {len(switched)} more to take back")
    partial = on_all(switched, lambda host: host.ask("revert", report))
    for name, error in faults.items():
        report.host(name, str(error).removeprefix(f"{name}: "))
    # A host that is out of reach takes itself back as soon as it misses us; nobody has seen it yet, though.
    lost = [
        name for name, error in {**faults, **partial}.items() if isinstance(error, (PartialError, UnreachableError))
    ]
    _recap_after_failure(hosts, lost, report)
    first = next(iter(faults.values()))
    if lost:
        return PartialError(
            f"{first.what}; not certain to be back on the former release: {', '.join(lost)}",
            where=first.where,
            next="invoke status, then deploy again",
            detail=first.detail,
        )
    return RolloutError(
        f"{first.what}; every host is back on its former release",
        where=first.where,
        next=first.next or "mend it and deploy again",
        detail=first.detail,
    )


def _recap_after_failure(hosts: list[Host], lost: Sequence[str], report: Report) -> None:
    """What runs where now, as each host says itself."""

    def ask(host: Host) -> None:
        host.notes["now"] = host.ask("status")

    on_all([host for host in hosts if host.name not in lost], ask)
    rows = [
        [host.name, now["current"] or "-", describe_apps(now["status"])]
        if (now := host.notes.get("now"))
        else [host.name, "?", "unknown"]
        for host in hosts
    ]
    report.line("what runs now:")
    report.table(["host", "release", "apps"], rows)


def confirm(hosts: list[Host], report: Report, *, deployed: bool = True) -> None:
    """All are healthy: mark the release good everywhere and drop old ones. From here on nothing is taken back."""

    def confirm_one(host: Host) -> None:
        host.ask("confirm", release=host.notes["release"], deployed=deployed, keep=host.settings.keep_releases)

    stop_at(on_all(hosts, confirm_one), report)
