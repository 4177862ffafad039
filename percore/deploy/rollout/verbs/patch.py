"""Upgrading the packages of all hosts, and rebooting them where that is needed: one after the other, none while it serves.

A host is drained at percore's load balancers, upgraded, rebooted, proven healthy, and gets requests again. The first one that
does not come back ends the run: it stays drained, and the rest is not touched.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from percore.deploy.connection.care_messages import BootFound, Patched, Proved
from percore.deploy.report import Report
from percore.deploy.rollout.diff import ChangesPending, require_answer
from percore.deploy.rollout.edge.draining import LoadBalancers, open_load_balancers
from percore.deploy.rollout.host import Host, lock_owner
from percore.deploy.rollout.hosts import LOAD_BALANCER, closing_hosts, load_hosts
from percore.deploy.rollout.inspect import connect_hosts
from percore.deploy.rollout.parallel import Faults, all_or_stop, count_hosts, on_all
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.switch.switch import policy_of
from percore.deploy.rollout.verbs.drain import drain
from percore.errors import PartialError, PercoreError, RolloutError, UnreachableError

BOOT_SECONDS = 600.0
"""So long a host may take to come back."""

HEALTHY_SECONDS = 120.0
"""So long its apps may take until they all serve, after that."""


@dataclass
class PatchState:
    """What became of the hosts so far."""

    patched: list[str] = field(default_factory=list)
    rebooted: list[str] = field(default_factory=list)
    still_to_reboot: dict[str, str] = field(default_factory=dict)


def patch(scope: Scope, report: Report, *, reboot: bool, security: bool, check: bool) -> None:
    """Raises PartialError when a host did not come back, or does not serve; it says what state everything is in."""
    hosts = load_hosts(scope, also_without_app=True)
    with closing_hosts(hosts):
        connect_hosts(hosts, report)
        if check:
            _preview(hosts, report, security=security)
            return
        servers = [host for host in hosts if not host.plan.has_role(LOAD_BALANCER)]
        others = [host for host in hosts if host not in servers]
        run = _Run(scope, report, reboot=reboot, security=security, total=len(hosts))
        require_answer(scope, report, _question(hosts, reboot), "nothing was changed")
        _lock_apps(hosts, report)
        run.patch_servers(servers)
        run.patch_load_balancers(others, is_named=not servers)
    run.recap()


def _question(hosts: Sequence[Host], reboot: bool) -> str:
    more = ", and reboot those that need it" if reboot else ""
    return f"upgrade the packages of {count_hosts(hosts)} of {hosts[0].scope.env}{more}?"


def _lock_apps(hosts: Sequence[Host], report: Report) -> None:
    """No rollout meanwhile. The set-up of a load balancer is locked where it drains others."""
    all_or_stop(hosts, _lock, report)


def _lock(host: Host) -> None:
    is_balancer = host.plan.has_role(LOAD_BALANCER)
    for target in ([host.target()] if host.app else []) if is_balancer else host.targets():
        host.ask("inspect", target=target, owner=lock_owner(), resources=[])


def _preview(hosts: Sequence[Host], report: Report, *, security: bool) -> None:
    """As the hosts' package lists say, which are not fetched anew. Raises ChangesPending."""
    found, faults = on_all(hosts, lambda host: _ask_patch(host, report, security=security))
    for name, reply in found.items():
        report.host(name, f"{len(reply['packages'])} packages to upgrade")
        for package in reply["packages"]:
            report.step(package)
        for reason in _reasons(reply):
            report.step(f"to reboot: {reason}")
    for name, fault in faults.items():
        report.host(name, str(fault).removeprefix(f"{name}: "))
    behind = [name for name, reply in found.items() if reply["packages"] or _reasons(reply)]
    if behind:
        again = hosts[0].scope.command("patch", "--reboot")
        raise ChangesPending(f"to patch: {', '.join(behind)}; nothing was touched", next=again)
    report.finish(f"nothing to patch on {count_hosts(hosts)}")


def _ask_patch(host: Host, report: Report, *, security: bool, owner: str = "") -> Patched:
    reply: Patched = host.ask("patch", report, owner=owner, security=security)
    return reply


def _reasons(reply: Patched) -> list[str]:
    units = reply["units"]
    return [*reply["reboot"], *([f"replaced libraries are in use by {', '.join(units)}"] if units else [])]


class _Run:
    """One run of `patch`, host by host."""

    def __init__(self, scope: Scope, report: Report, *, reboot: bool, security: bool, total: int) -> None:
        self._scope, self._report = scope, report
        self._reboot, self._security = reboot, security
        self._total = total
        self.done = PatchState()

    def patch_servers(self, hosts: Sequence[Host]) -> None:
        if not hosts:
            return
        faults: Faults = {}
        with open_load_balancers(self._scope, self._report) as balancers:
            for batch in batches_of(hosts):
                faults = self._patch_batch(batch, balancers)
                if faults:
                    break
            is_drained = bool(balancers.hosts)
        if faults:
            self._stop(faults, is_drained=is_drained)

    def _patch_batch(self, batch: Sequence[Host], balancers: LoadBalancers) -> Faults:
        """Those that are well get requests again; the faults of the others."""
        self._report.phase("patch", ", ".join(host.name for host in batch))
        try:
            balancers.drain([host.name for host in batch])
            faults = on_all(batch, lambda host: self._patch_host(host, reboot=self._reboot)).faults
            balancers.undrain()
        except RolloutError as fault:
            return {fault.where: fault}
        return faults

    def patch_load_balancers(self, hosts: Sequence[Host], *, is_named: bool) -> None:
        """Nothing leaves these out. So one is rebooted only where another one is left, or the operator named it."""
        for host in hosts:
            self._report.phase("patch", host.name)
            reboot = self._reboot and (len(hosts) > 1 or is_named)
            faults = on_all([host], lambda each: self._patch_host(each, reboot=reboot)).faults  # noqa: B023
            if faults:
                self._stop(faults, is_drained=False)

    def _patch_host(self, host: Host, *, reboot: bool) -> None:
        reply = _ask_patch(host, self._report, security=self._security, owner=lock_owner())
        reasons = _reasons(reply)
        if reasons and reboot:
            self._report.host(host.name, f"reboot: {'; '.join(reasons)}")
            reboot_host(host)
            self.done.rebooted.append(host.name)
        elif reasons:
            self.done.still_to_reboot[host.name] = "; ".join(reasons)
        prove_healthy(host)
        self._report.host(host.name, "healthy" if host.app else "up")
        self.done.patched.append(host.name)

    def _stop(self, faults: Faults, *, is_drained: bool) -> None:
        """Raises PartialError. What fails is left out by the load balancers until a person says otherwise."""
        name, first = next(iter(faults.items()))
        for other, fault in faults.items():
            self._report.host(other, f"failed: {str(fault).removeprefix(f'{other}: ')}")
        self._tell_state()
        failed = ", ".join(faults)
        servers = [each for each in faults if each not in self.done.patched]
        kept = is_drained and self._keep_drained(",".join(servers))
        left = self._total - len(self.done.patched) - len(faults)
        again = f"{self._scope.command('undrain', f'--host {name}')} when it is well, then " if kept else ""
        raise PartialError(
            f"{first.what}; patched: {', '.join(self.done.patched) or 'none'}; failed: {failed}"
            f"{' (drained)' if kept else ''}; not touched: {left}",
            where=first.where or name,
            next=f"{again}{self._scope.command('patch')}",
            detail=first.detail,
        )

    def _keep_drained(self, names: str) -> bool:
        try:
            drain(self._scope.everyone, self._report, hosts=names, why="it did not come back from patch")
        except PercoreError as fault:
            self._report.warn(f"{names} could not be drained for good: {fault}")
            return False
        return True

    def _tell_state(self) -> None:
        for name, reasons in self.done.still_to_reboot.items():
            self._report.host(name, f"to reboot: {reasons}")

    def recap(self) -> None:
        self._tell_state()
        rebooted = f", {len(self.done.rebooted)} rebooted" if self.done.rebooted else ""
        self._report.finish(f"patched: {count_hosts(self.done.patched)}{rebooted}")
        if self.done.still_to_reboot:
            names = ",".join(self.done.still_to_reboot)
            self._report.line(f"not rebooted -> {self._scope.command('patch', f'--limit {names} --reboot')}")


def batches_of(hosts: Sequence[Host]) -> list[list[Host]]:
    """Those of a deploy with `serial`; one host at a time where a deploy takes all at once."""
    found = policy_of(hosts).batches(hosts)
    return found if max(map(len, found)) < len(hosts) else [[host] for host in hosts]


def reboot_host(host: Host) -> None:
    """Returns when it is up again, and ours."""
    found: BootFound = host.ask("reboot", owner=lock_owner())
    _disconnect(host)
    _wait(lambda: _is_rebooted(host, found["boot"]), BOOT_SECONDS, host, "it did not come back from its reboot")
    _lock(host)
    if host.app and not host.settings.startup:
        host.ask("start", owner=lock_owner(), unit=host.settings.unit)


def _is_rebooted(host: Host, boot: str) -> bool:
    """Before it goes down, it may answer once more."""
    try:
        host.connect()
        answer: BootFound = host.ask("reboot")
        if answer["boot"] != boot:
            return True
    except UnreachableError:
        return False
    _disconnect(host)
    return False


def prove_healthy(host: Host) -> None:
    """Raises what is wrong when not everything serves within HEALTHY_SECONDS."""
    deadline = time.monotonic() + HEALTHY_SECONDS
    while True:
        try:
            reply: Proved = host.ask("prove")
            if not reply["missing"]:
                return
            fault = PercoreError(f"not everything runs: {reply['missing'][0]}", where=host.name)
        except UnreachableError:
            raise
        except PercoreError as error:
            fault = error
        if time.monotonic() > deadline:
            raise fault
        time.sleep(1.0)


def _wait(condition: Callable[[], bool], seconds: float, host: Host, told: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            advice = f"look at its console; {host.scope.command('status', f'--limit {host.name}')} when it is back"
            raise UnreachableError(f"{told} within {seconds / 60:.0f} minutes", where=host.name, next=advice)
        time.sleep(1.0)


def _disconnect(host: Host) -> None:
    remote, host.remote = host.remote, None
    if remote is not None:
        with contextlib.suppress(PercoreError, OSError):
            remote.close()
