"""Switching to a staged release, batch by batch: all hosts, or none, or as many as the policy lets fail.

Nothing is confirmed before the last batch is healthy. So when a rollout stops, every host that was switched, also in earlier
batches, still can roll back, and does; a host that lost its connection does so by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from percore.deploy.connection.messages import Status, WithStatus
from percore.deploy.plan.batches import Policy
from percore.deploy.report import Report
from percore.deploy.rollout.choose import Move
from percore.deploy.rollout.edge.draining import LoadBalancers
from percore.deploy.rollout.hooks import Hooks
from percore.deploy.rollout.host import Host, HostValue
from percore.deploy.rollout.hosts import same_for_all
from percore.deploy.rollout.parallel import Faults, Outcome, count_hosts, on_all
from percore.deploy.rollout.switch.probes import Probes, Summaries, describe, judge
from percore.deploy.rollout.switch.reattach import ask_again, reattach
from percore.deploy.rollout.switch.roll_back import find_uncertain, not_certain_to_keep, roll_back, roll_back_for
from percore.errors import PercoreError, RolloutError, UnreachableError


@dataclass(frozen=True)
class Switched(HostValue):
    """A host that runs the new release, unconfirmed; `status` is its latest one."""

    move: Move
    status: Status = field(repr=False)


def policy_of(hosts: Sequence[Host]) -> Policy:
    """The rollout's policy, which must be the same for all its hosts."""
    names = "serial, canary, max_fail_percentage and soak_seconds"
    return same_for_all(hosts, lambda host: host.basics.policy, names, them="them")


def switch(
    moves: Sequence[Move],
    report: Report,
    hooks: Hooks,
    probes: Probes,
    balancers: LoadBalancers,
    *,
    verb: str,
    missing: int = 0,
) -> Outcome[Switched]:
    """Activate everywhere and confirm; a hook that fails in between rolls back every host. `missing` hosts were out of reach.

    The faults are those of hosts that the policy lets stay on their former release. Raises as `activate` does.
    """
    hooks.run("before_activate")
    probes.mark()
    activated = activate(moves, report, balancers, verb=verb, missing=missing)
    try:
        hooks.run("after_activate")
        hooks.run("before_confirm")
    except PercoreError as error:
        switched = [one.move for one in activated.results.values()]
        raise roll_back(moves, switched, {"hook": error}, report) from None
    checked, probed = check_all(list(activated.results.values()), probes, report)
    if probed:
        report.step(f"probed all the while: {describe(probed)}")
    confirm(list(checked.values()), probed, report, verb=verb)
    hooks.run("after_confirm")
    return Outcome(checked, activated.faults)


def activate(
    moves: Sequence[Move], report: Report, balancers: LoadBalancers, *, verb: str = "deploy", missing: int = 0
) -> Outcome[Switched]:
    """Switch every host, and leave it unconfirmed. Load balancers send it nothing meanwhile.

    Raises RolloutError when all hosts were rolled back, PartialError when that is not certain of some.
    """
    policy = policy_of([move.host for move in moves])
    batches = _batches(moves, policy)
    switched: dict[str, Switched] = {}
    faults: Faults = {}
    done: list[Move] = []
    for number, batch in enumerate(batches, 1):
        title = moves[0].release
        report.phase(
            "activate", title if len(batches) == 1 else f"{title}, batch {number} of {len(batches)}: {_names(batch)}"
        )
        try:
            balancers.drain([move.name for move in batch])
            done += batch
            new = _switch_batch(batch, balancers, policy, report, verb)
        except RolloutError as fault:
            raise roll_back(moves, done, {**faults, "load balancers": fault}, report) from None
        switched.update(new.results)
        faults.update(new.faults)
        counted = len(faults) + missing, len(moves) + missing
        # The next host would be a second one that runs it.
        keeps_app = any(move.gives_up_app and move.name in new.faults for move in batch)
        if keeps_app or policy.is_exceeded(len(new.faults), len(batch)) or policy.is_exceeded(*counted):
            raise roll_back(moves, done, faults, report)
    uncertain = find_uncertain(faults, {})
    for name, error in faults.items():
        keeps = "is not certain to keep" if name in uncertain else "keeps"
        report.warn(f"{error!s}; {name} {keeps} its former release")
    return Outcome(switched, faults)


def _switch_batch(
    batch: Sequence[Move], balancers: LoadBalancers, policy: Policy, report: Report, verb: str
) -> Outcome[Switched]:
    """The hosts get requests again when they are healthy; those of a batch that failed first roll back."""
    activated = on_all(batch, lambda move: activate_host(move, verb, report))
    if policy.is_exceeded(len(activated.faults), len(batch)):
        return activated
    balancers.undrain()
    return _soak(activated, policy, report)


def _batches(moves: Sequence[Move], policy: Policy) -> list[list[Move]]:
    """An app that moves to another host ends on the old one first: it must not run twice."""
    leaving = [move for move in moves if move.gives_up_app]
    return policy.batches(leaving) + policy.batches([move for move in moves if not move.gives_up_app])


def activate_host(move: Move, verb: str, report: Report) -> Switched:
    scope = move.host.scope
    try:
        reply: WithStatus = move.host.ask(
            "activate",
            report,
            release=move.release,
            run=scope.run,
            verb=verb,
            amended=not scope.brings_the_app,
            absent=sorted(move.host.absent_apps) if scope.brings_the_app else None,
        )
    except UnreachableError as lost:
        reply = reattach(move.host, lost)
    return Switched(move.host, move, reply["status"])


def _soak(new: Outcome[Switched], policy: Policy, report: Report) -> Outcome[Switched]:
    """The hosts that are still healthy after the time that the policy asks for."""
    if not policy.soak_seconds or not new.results:
        return new
    report.step(f"watching {count_hosts(list(new.results))} for {policy.soak_seconds:g} s")
    time.sleep(policy.soak_seconds)
    still, unhealthy = on_all(new.results.values(), _check_host)
    return Outcome(still, {**new.faults, **unhealthy})


def _check_host(switched: Switched) -> Switched:
    """A host that is no longer healthy rolls back at once, whatever the policy says of the others."""
    try:
        reply: WithStatus = ask_again(switched.host, "health")
    except UnreachableError:
        raise
    except PercoreError as error:
        roll_back_for(error, switched.host)
    return replace(switched, status=reply["status"])


def check_all(switched: Sequence[Switched], probes: Probes, report: Report) -> tuple[dict[str, Switched], Summaries]:
    """Once more before nothing can be rolled back: is every host still there and healthy, also as others see it?

    Returns what the hosts and the probes said last. Raises as `activate` does.
    """
    checked, faults = on_all(switched, _check_host)
    hosts = [one.host for one in switched]
    summaries = probes.read([host for host in hosts if host.name not in faults])
    unhealthy = {name: fault for name, fault in judge(summaries, hosts).items() if name not in faults}
    to_roll_back = [host for host in hosts if host.name in unhealthy]
    faults.update(on_all(to_roll_back, lambda host: roll_back_for(unhealthy[host.name], host)).faults)
    if faults:
        moves = [one.move for one in switched]
        raise roll_back(moves, moves, faults, report)
    return checked, summaries


def confirm(switched: Sequence[Switched], probed: Summaries, report: Report, *, verb: str = "deploy") -> None:
    """All are healthy: mark the release good everywhere and drop old ones. From here on nothing is rolled back.

    What was probed is written to the history of each host.
    """

    def confirm_host(one: Switched) -> None:
        ask_again(
            one.host,
            "confirm",
            release=one.move.release,
            deployed=verb.startswith("deploy") and one.host.scope.brings_the_app,
            keep=one.host.settings.keep_releases,
            note={"probe": probed.get(one.name)},
            verb=verb,
            placement=dict(one.host.holders),
        )

    faults = on_all(switched, confirm_host).faults
    if not faults:
        return
    report.host("all", f"confirmed by {len(switched) - len(faults)} of {count_hosts(switched)}")
    again = switched[0].host.scope.command("converge", f"--limit {','.join(faults)}")
    raise not_certain_to_keep("the new release", faults, next=again)


def _names(moves: Iterable[Move]) -> str:
    names = [move.name for move in moves]
    return ", ".join(names) if len(names) <= 5 else f"{', '.join(names[:5])} and {len(names) - 5} more"
