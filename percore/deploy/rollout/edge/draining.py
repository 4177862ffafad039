"""Draining the hosts of a batch at all load balancers while they are changed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from percore.deploy.connection.messages import Inspected
from percore.deploy.plan.host_state import HostState
from percore.deploy.plan.peers import EdgePeer
from percore.deploy.report import Report
from percore.deploy.rollout.edge.load_balancers import (
    find_load_balancers,
    kept_entries,
    make_entries,
    render_drained,
)
from percore.deploy.rollout.host import Host, confirm_seconds, lock_owner
from percore.deploy.rollout.hosts import closing_hosts, connect_all, plan_hosts
from percore.deploy.rollout.parallel import Faults, on_all, stop_at
from percore.deploy.rollout.peers import find_peers
from percore.deploy.rollout.scope import Scope
from percore.deploy.schema import number, read_variable
from percore.errors import PercoreError, PreflightError, RolloutError, UnreachableError

_SECONDS = number(3600)


@dataclass
class LoadBalancers:
    """Those of a run, connected and locked. Where there is none, nothing is drained."""

    hosts: Sequence[Host]
    peers: Sequence[EdgePeer]
    report: Report
    drained: list[str] = field(default_factory=list)

    def drain(self, names: Sequence[str]) -> None:
        """Raises RolloutError when one of them does not leave the hosts out; then none does."""
        peers = [peer for peer in self.peers if peer.host in names]
        if not self.hosts or not peers or not self._has_room_without(peers):
            return
        self.drained = [peer.host for peer in peers]
        self.report.step(f"drain {', '.join(self.drained)} at {_names(self.hosts)}")
        self._stop_at(on_all(self.hosts, lambda host: _drain_at(host, peers)).faults)
        time.sleep(max(_seconds(host) for host in self.hosts))

    def undrain(self) -> None:
        """Raises RolloutError when that is not certain; a load balancer that is out of reach does so by itself."""
        names, self.drained = self.drained, []
        if names:
            self.report.step(f"undrain {', '.join(names)} at {_names(self.hosts)}")
            self._stop_at(on_all(self.hosts, lambda host: _undrain_at(host, names)).faults)

    def _stop_at(self, faults: Faults) -> None:
        stop_at({name: _stops_run(name, fault) for name, fault in faults.items()}, self.report)

    def _has_room_without(self, peers: Sequence[EdgePeer]) -> bool:
        """The others have to take what these do not: they must be at least as many."""
        kept = {entry["host"] for host in self.hosts for entry in kept_entries(host)}
        left = {peer.host for peer in self.peers} - kept - {peer.host for peer in peers}
        if len(left) >= len(peers):
            return True
        names = ", ".join(peer.host for peer in peers)
        self.report.step(f"not drained: {names}; {len(left)} of {len(self.peers)} hosts would be left -> set serial: 1")
        return False


@contextlib.contextmanager
def open_load_balancers(scope: Scope, report: Report) -> Iterator[LoadBalancers]:
    """All of the environment. One that cannot be reached, or is not as it should be, stops the run: nothing was touched."""
    hosts = find_load_balancers(scope)
    with closing_hosts(hosts, wait=True):
        if not hosts:
            yield LoadBalancers((), (), report)
            return
        stop_at({name: _unreachable(fault) for name, fault in connect_all(hosts).items()}, report)
        stop_at(on_all(hosts, lambda host: _lock(host, report)).faults, report)
        found = LoadBalancers(hosts, find_peers(plan_hosts(scope.everyone)), report)
        try:
            yield found
        except PercoreError:
            _undrain_at_last(found, report)
            raise


def _undrain_at_last(found: LoadBalancers, report: Report) -> None:
    try:
        found.undrain()
    except RolloutError as fault:
        report.warn(str(fault))


def _lock(host: Host, report: Report) -> None:
    """A drain that was not confirmed is undone there."""
    state = render_drained(host, kept_entries(host))
    reply: Inspected = host.ask(
        "inspect", report, target=host.setup_target(), owner=lock_owner(), resources=list(state.setup)
    )
    if reply["changes"]:
        raise PreflightError(
            f"it is not as the inventory says ({reply['changes'][0]}), so no host is drained there",
            where=host.name,
            next=host.scope.command("setup", f"--limit {host.name}"),
        )


def _drain_at(host: Host, peers: Sequence[EdgePeer]) -> None:
    kept = kept_entries(host)
    state = render_drained(host, [*kept, *make_entries(peers, "deploy")])
    if _shas(state) == _shas(render_drained(host, kept)):
        what = f"its configuration does not name {', '.join(peer.host for peer in peers)}"
        raise PreflightError(what, where=host.name, next="see its loadbalancer_servers")
    set_up_at(host, state, f"drain {' '.join(peer.host for peer in peers)}")


def _shas(state: HostState) -> list[str]:
    return [spec["sha256"] for spec in state.setup[1:] if "sha256" in spec]


def set_up_at(host: Host, state: HostState, verb: str) -> None:
    parts = state.contents_of(state.setup)
    host.ask(
        "set_up",
        target=host.setup_target(),
        parts=parts,
        resources=list(state.setup),
        handlers=list(state.handlers),
        sizes={sha256: len(part) for sha256, part in parts.items()},
        owner=lock_owner(),
        run=host.scope.run,
        verb=verb,
    )


def _undrain_at(host: Host, names: Sequence[str]) -> None:
    verb = f"drain {' '.join(names)}"
    try:
        host.ask("revert", target=host.setup_target(), verb=verb, result="undrained")
    except UnreachableError as lost:
        _reach_again(host, lost)


def _reach_again(host: Host, lost: UnreachableError) -> None:
    """Its agent undoes the change when it hears nothing any more, before the lock is free."""
    deadline = time.monotonic() + confirm_seconds(host)
    while time.monotonic() < deadline:
        with contextlib.suppress(UnreachableError):
            host.connect()
            host.ask("inspect", target=host.setup_target(), owner=lock_owner())
            return
        time.sleep(0.5)
    raise lost


def _stops_run(name: str, fault: PercoreError) -> RolloutError:
    is_lost = isinstance(fault, UnreachableError)
    state = "; it undrains them by itself when it hears nothing any more" if is_lost else ""
    return RolloutError(f"{fault.what}{state}", where=fault.where or name, next=fault.next, detail=fault.detail)


def _unreachable(fault: PercoreError) -> PercoreError:
    advice = "bring it back, or take it out of the group 'edge': hosts are then not drained there"
    return type(fault)(f"{fault.what}; nothing was changed", where=fault.where, next=advice, detail=fault.detail)


def _seconds(host: Host) -> float:
    return read_variable(host.variables, "loadbalancer_drain_seconds", _SECONDS)


def _names(hosts: Sequence[Host]) -> str:
    return ", ".join(host.name for host in hosts)
