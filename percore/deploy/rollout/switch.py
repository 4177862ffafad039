"""Switching to a staged release, batch by batch: all hosts, or none, or as many as the policy lets fail.

Nothing is confirmed before the last batch is well. So when a rollout stops, every host that was switched, also in earlier
batches, still knows how to go back, and does; and a host that misses us does so by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from percore.deploy.plan.batches import Policy
from percore.deploy.report import Report, describe_apps
from percore.deploy.rollout.hosts import Host, count_hosts, on_all, who_am_i
from percore.deploy.rollout.probes import Summary, judge, read_probes
from percore.errors import LockedError, PartialError, PercoreError, RolloutError, UnreachableError, UsageError

Faults = dict[str, PercoreError]


def policy_of(hosts: Sequence[Host]) -> Policy:
    """The rollout's policy, which must be the same for all its hosts."""
    first = hosts[0]
    for host in hosts:
        if host.settings.policy != first.settings.policy:
            raise UsageError(
                "serial, canary, max_fail_percentage and soak_seconds must be the same for all hosts of a rollout",
                where=f"hosts {first.name} and {host.name}", next="set them for the group 'all'",
            )  # fmt: skip
    return first.settings.policy


def activate(hosts: list[Host], report: Report, *, verb: str = "deploy", missing: int = 0) -> Faults:
    """Switch every host; returns the faults that the policy allows, by host. `missing` hosts were out of reach before.

    Raises RolloutError when all hosts were taken back, PartialError when that is not certain of some.
    """
    policy = policy_of(hosts)
    # An app that moves to another host ends on the old one first: it must not run twice.
    leaving = [host for host in hosts if _gives_up_an_app(host)]
    for host in leaving:
        host.notes["gave_up"] = True
    batches = policy.batches(leaving) + policy.batches([host for host in hosts if host not in leaving])
    faults: Faults = {}
    done: list[Host] = []
    for number, batch in enumerate(batches, 1):
        title = hosts[0].notes["release"]
        report.phase(
            "activate", title if len(batches) == 1 else f"{title}, batch {number} of {len(batches)}: {_names(batch)}"
        )
        new = on_all(batch, lambda host: _activate_one(host, verb, report))
        new.update(_soak([host for host in batch if host.name not in new], policy, report))
        done += batch
        faults.update(new)
        if policy.is_exceeded(len(new), len(batch)) or policy.is_exceeded(len(faults) + missing, len(hosts) + missing):
            raise take_back(hosts, done, faults, report)
    for name, error in faults.items():
        report.warn(f"{error!s}; {name} keeps its former release")
    return faults


def check_all(hosts: list[Host], report: Report) -> dict[str, Summary]:
    """Once more before nothing can be taken back: is every host still there and well, also as others see it?

    Returns what the probes found, by host. Raises as `activate` does.
    """
    faults = on_all(hosts, _check_again)
    probes = read_probes([host for host in hosts if host.name not in faults])
    unwell = {name: fault for name, fault in judge(probes, hosts).items() if name not in faults}
    on_all([host for host in hosts if host.name in unwell], _revert)
    faults.update(unwell)
    if faults:
        raise take_back(hosts, hosts, faults, report)
    return probes


def confirm(hosts: list[Host], report: Report, *, verb: str = "deploy", notes: Mapping[str, Summary]) -> None:
    """All are healthy: mark the release good everywhere and drop old ones. From here on nothing is taken back.

    `notes` go into the history of each host.
    """

    def confirm_one(host: Host) -> None:
        _ask_again(
            host, "confirm", release=host.notes["release"],
            deployed=verb.startswith("deploy") and host.scope.brings_the_app,
            keep=host.settings.keep_releases, note={"probe": notes.get(host.name)}, verb=verb,
        )  # fmt: skip

    faults = on_all(hosts, confirm_one)
    if not faults:
        return
    names = list(faults)
    first = faults[names[0]]
    report.host("all", f"confirmed by {len(hosts) - len(names)} of {count_hosts(hosts)}")
    raise PartialError(
        f"{first.what}; not certain to keep the new release: {', '.join(names)}", where=first.where,
        next=f"invoke converge --env {hosts[0].scope.env} --limit {','.join(names)}", detail=first.detail,
    )  # fmt: skip


def _activate_one(host: Host, verb: str, report: Report) -> None:
    release = host.notes["release"]
    try:
        reply = host.ask(
            "activate", report, release=release, run=host.scope.run, verb=verb,
            amended=not host.scope.brings_the_app,
        )  # fmt: skip
    except UnreachableError as lost:
        reply = _come_back(host, lost)
    host.notes["status"] = reply["status"]


def _gives_up_an_app(host: Host) -> bool:
    """It runs an app that is pinned to another host from now on."""
    running = host.notes.get("status", {}).get("apps", [])
    return any(app["wanted"] and app["name"] in host.absent_apps for app in running)


def _soak(hosts: list[Host], policy: Policy, report: Report) -> Faults:
    if not policy.soak_seconds or not hosts:
        return {}
    report.step(f"watching {count_hosts(hosts)} for {policy.soak_seconds:g} s")
    time.sleep(policy.soak_seconds)
    return on_all(hosts, _check_again)


def _check_again(host: Host) -> None:
    """A host that is no longer well goes back at once, whatever the policy says of the others."""
    try:
        host.notes["status"] = _ask_again(host, "health")["status"]
    except UnreachableError:
        raise
    except PercoreError:
        _revert(host)
        raise


# -- a connection that was cut ---------------------------------------------------------------------------------------


def _ask_again(host: Host, op: str, **message: Any) -> dict[str, Any]:
    """Ask a host that was switched; once more over a new connection when the old one is gone."""
    try:
        return host.ask(op, **message)
    except UnreachableError as lost:
        _come_back(host, lost)
        return host.ask(op, **message)


def _come_back(host: Host, lost: UnreachableError) -> dict[str, Any]:
    """Take up the switch of this run again; the first error when the host stays out of reach until it takes itself back."""
    deadline = time.monotonic() + host.settings.confirm_seconds
    while time.monotonic() < deadline:
        try:
            host.connect()
            return host.ask("attach", owner=who_am_i(), run=host.scope.run)
        except (UnreachableError, LockedError):
            time.sleep(0.5)
    raise lost


# -- going back ------------------------------------------------------------------------------------------------------


def take_back(hosts: list[Host], done: list[Host], faults: Faults, report: Report) -> PercoreError:
    """Bring back the former release wherever the new one runs; returns the error to end with."""
    switched = [host for host in done if host.name not in faults]  # the others took themselves back
    report.phase("revert", f"{len(faults)} failed; {len(switched)} more to take back")
    moved = [host for host in switched if host.notes.get("gave_up")]
    partial = on_all([host for host in switched if host not in moved], _revert)
    partial.update(on_all(moved, _revert))  # last: what they gave up must first have ended elsewhere
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
            next=f"invoke status --env {hosts[0].scope.env}, then deploy again",
            detail=first.detail,
        )
    return RolloutError(
        f"{first.what}; every host is back on its former release",
        where=first.where,
        next=first.next or "mend it and deploy again",
        detail=first.detail,
    )


def _revert(host: Host) -> None:
    try:
        host.ask("revert")
    except UnreachableError as lost:
        try:
            _come_back(host, lost)
        except RolloutError:
            return  # it did so by itself
        host.ask("revert")


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


def _names(hosts: Iterable[Host]) -> str:
    names = [host.name for host in hosts]
    return ", ".join(names) if len(names) <= 5 else f"{', '.join(names[:5])} and {len(names) - 5} more"
