"""Rolling back: every host that was switched goes to its former release again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

from percore.deploy.connection.messages import Current
from percore.deploy.plan.settings import settings_left_out
from percore.deploy.report import Report, describe_apps
from percore.deploy.rollout.choose import Move
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.parallel import Faults, on_all
from percore.deploy.rollout.switch.reattach import reattach
from percore.errors import PartialError, PercoreError, RolloutError, UnreachableError

_DENIED = re.compile(
    r"(?i)(?:EACCES|EROFS|permission denied).*?/releases/[^/\s]+/(\w[\w.-]*)|unable to open .*database|readonly database"
)


def roll_back(moves: Sequence[Move], activated: Sequence[Move], faults: Faults, report: Report) -> PercoreError:
    """Roll back wherever the new release runs; returns the error to end with."""
    switched = [move for move in activated if move.name not in faults]  # the others rolled back by themselves
    report.phase("roll back", f"{len(faults)} failed; {len(switched)} more to roll back")
    not_back = on_all([move.host for move in switched if not move.gives_up_app], roll_back_host).faults
    # Last: the app they gave up must first have ended elsewhere.
    not_back.update(on_all([move.host for move in switched if move.gives_up_app], roll_back_host).faults)
    for name, error in faults.items():
        report.host(name, str(error).removeprefix(f"{name}: "))
    lost = find_uncertain(faults, not_back)
    scope = moves[0].host.scope
    _show_what_runs([move.host for move in moves], lost, report)
    first, *_ = faults.values()
    return error_after(
        first,
        f"not certain to be back on the former release: {', '.join(lost)}" if lost else "",
        done="every host is back on its former release",
        next=f"{scope.command('status')}, then deploy again" if lost else first.next or _advice(first, moves[0].host),
    )


def find_uncertain(faults: Faults, not_back: Faults) -> list[str]:
    """The hosts of which nobody knows what runs there. `faults` began the way back, `not_back` are those of the way back itself.

    A host that is out of reach rolls back as soon as it misses the connection; until it is seen again that is not certain.
    """
    partly = [name for name, error in faults.items() if isinstance(error, (PartialError, UnreachableError))]
    return list(dict.fromkeys([*partly, *not_back]))


def error_after(first: PercoreError, uncertain: str, *, done: str, next: str) -> PercoreError:
    """What a run ends with that was rolled back: `done` says how the hosts are now, unless something is `uncertain`."""
    kind = PartialError if uncertain else RolloutError
    return kind(f"{first.what}; {uncertain or done}", where=first.where, next=next, detail=first.detail)


def not_certain_to_keep(what: str, faults: Faults, *, next: str) -> PartialError:
    """Of hosts that did not say that they keep it: they roll back by themselves unless they were told."""
    first, *_ = faults.values()
    said = f"{first.what}; not certain to keep {what}: {', '.join(faults)}"
    return PartialError(said, where=first.where, next=next, detail=first.detail)


def _advice(first: PercoreError, host: Host) -> str:
    """Against what mostly stops an app that runs elsewhere."""
    if "answered 404" in first.what:
        return (
            "name a path that the app has (health in the process file, health_path in the inventory), and deploy again"
        )
    if denied := _DENIED.search(first.detail):
        place = denied[1] or "data"
        return f"no app may write into its release: let it write below {place}, with shared: [{place}] in the inventory"
    if settings := settings_left_out(host.settings.path, host.scope.env):
        return (
            f"fix it and deploy again; hosts do not get {settings}: put what the app needs into .env.{host.scope.env}"
        )
    return "fix it and deploy again"


def roll_back_host(host: Host) -> None:
    try:
        host.ask("revert")
    except UnreachableError as lost:
        try:
            reattach(host, lost)
        except RolloutError:
            return  # it did so by itself
        host.ask("revert")


def roll_back_for(cause: PercoreError, host: Host) -> NoReturn:
    """Roll back a host that is unhealthy, at once. Raises the cause; PartialError where the way back failed as well."""
    try:
        roll_back_host(host)
    except PercoreError as error:
        what = f"{cause.what}; it could not be rolled back: {error.what}"
        raise PartialError(what, where=cause.where, next=cause.next, detail=cause.detail) from None
    raise cause


def _show_what_runs(hosts: Sequence[Host], lost: Sequence[str], report: Report) -> None:
    """What runs where now, as each host reports."""

    def ask(host: Host) -> tuple[str, str]:
        now: Current = host.ask("status")
        return now["current"] or "-", describe_apps(now["status"])

    running = on_all([host for host in hosts if host.name not in lost], ask).results
    report.line("what runs now:")
    report.table(
        ["host", "release", "apps"], [[host.name, *running.get(host.name, ("?", "unknown"))] for host in hosts]
    )
