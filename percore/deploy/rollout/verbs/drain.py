"""Taking hosts out of percore's load balancers, and back: for a person, who will work on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from percore.deploy.connection.messages import Inspected
from percore.deploy.plan.peers import EdgePeer
from percore.deploy.report import Report
from percore.deploy.rollout.edge.load_balancers import (
    Entry,
    find_load_balancers,
    kept_entries,
    make_entries,
    render_drained,
)
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import closing_hosts, plan_hosts
from percore.deploy.rollout.inspect import connect_hosts
from percore.deploy.rollout.parallel import all_or_stop
from percore.deploy.rollout.peers import find_peers
from percore.deploy.rollout.pending_setup import PendingSetup, inspect_setup
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.verbs.set_up import set_up
from percore.errors import UsageError
from percore.host.drained import KEPT


def drain(scope: Scope, report: Report, *, hosts: str, why: str) -> None:
    """They get no new requests until `undrain`, whatever is deployed or set up meanwhile."""
    chosen, peers = _choose(scope, hosts), find_peers(plan_hosts(scope))
    names = [peer.host for peer in chosen]

    def entries(balancer: Host) -> list[Entry]:
        kept = [entry for entry in kept_entries(balancer) if entry["host"] not in names]
        left = {peer.host for peer in peers} - {*names} - {entry["host"] for entry in kept}
        if not left:
            raise UsageError("no host of the app would be left", where=balancer.name, next="drain fewer of them")
        return [*kept, *make_entries(chosen, KEPT, why)]

    balancers = _change(scope, report, entries, f"drain {' '.join(names)}")
    again = scope.command("undrain", f"--host {','.join(names)}")
    report.finish(f"{', '.join(names)}: drained at {', '.join(balancers)} -> {again}")


def undrain(scope: Scope, report: Report, *, hosts: str) -> None:
    """They get requests again, also where a run that drained them did not end."""
    names = [peer.host for peer in _choose(scope, hosts)]
    balancers = _change(
        scope,
        report,
        lambda balancer: [entry for entry in kept_entries(balancer) if entry["host"] not in names],
        f"undrain {' '.join(names)}",
    )
    report.finish(f"{', '.join(names)}: not drained at {', '.join(balancers)}")


def _choose(scope: Scope, pattern: str) -> list[EdgePeer]:
    if not pattern:
        raise UsageError("no host is named", next="--host HOST, or a pattern as for --limit")
    chosen = find_peers(plan_hosts(replace(scope, limit=pattern)))
    if not chosen:
        raise UsageError(f"'{pattern}' names no host with a port", where="--host")
    return chosen


def _change(scope: Scope, report: Report, entries_of: Callable[[Host], list[Entry]], verb: str) -> list[str]:
    """All load balancers, or none. Returns their names."""
    balancers = find_load_balancers(scope)
    if not balancers:
        raise UsageError(
            "percore runs no load balancer here: no host of the group 'edge' has the role 'loadbalancer'",
            where=f"environment '{scope.env}'",
            next=f"type the lines of build/nginx/{scope.env}/README.md at another one",
        )
    with closing_hosts(balancers, wait=True):
        connect_hosts(balancers, report)
        pending = all_or_stop(balancers, lambda balancer: _pending(balancer, entries_of(balancer)), report)
        # What a run that did not end left there is undone as soon as they are locked.
        set_up(pending, report, verb=verb)
    return [balancer.name for balancer in balancers]


def _pending(balancer: Host, entries: Sequence[Entry]) -> PendingSetup:
    state = render_drained(balancer, entries)
    reply: Inspected = inspect_setup(balancer, list(state.setup))
    return PendingSetup(balancer, state, list(state.setup), reply)
