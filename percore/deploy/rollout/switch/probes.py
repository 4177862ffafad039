"""Every host is asked, by another one, all through a rollout: the proof that no request was lost, and a reason to roll back.

A host is unhealthy when more of its requests failed, or its slowest became slower, than the limits say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from percore.deploy.connection.messages import Probed, ProbeSummary
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.parallel import Faults, on_all
from percore.errors import RolloutError

ENOUGH = 30
"""So many samples on both sides before percentiles are compared."""

SLOWER_SECONDS = 0.25
"""Slower by less is never a regression: small figures grow many times over by chance."""

Summaries = Mapping[str, ProbeSummary]
"""What was found about each host, by its name."""


@dataclass(frozen=True)
class Probes:
    """Those that run on the hosts. `targets` are the hosts that each one was asked to probe."""

    hosts: tuple[Host, ...]
    targets: Mapping[str, frozenset[str]]

    def mark(self) -> None:
        """From now on it counts."""
        on_all(self.hosts, lambda host: host.ask("probe", mark=True))

    def read(self, hosts: Sequence[Host]) -> Summaries:
        """Ask these hosts; a result about a host that was not to be probed is ignored."""
        found: dict[str, ProbeSummary] = {}

        def read(host: Host) -> None:
            reply: Probed = host.ask("probe")
            probe = reply["probe"]
            target = probe and probe["target"]
            if probe and target and target in self.targets.get(host.name, ()):
                found[target] = probe

        on_all(hosts, read)
        return found


def start_probes(hosts: Sequence[Host]) -> Probes:
    """Each host probes the next one; where it cannot reach that, itself. A host without a port is not probed."""
    neighbours = {host.name: near for host, near in zip(hosts, [*hosts[1:], *hosts[:1]], strict=True)}
    probing = [host for host in hosts if host.settings.shown_port is not None]

    def start(host: Host) -> None:
        neighbour = neighbours[host.name]
        targets = [_target(neighbour, neighbour.address.address), _target(host, host.address.address)]
        host.ask("probe", targets=[*targets, _target(host, "127.0.0.1")])

    on_all(probing, start)  # a host that fails here fails where it matters, too
    return Probes(tuple(hosts), {host.name: frozenset({neighbours[host.name].name, host.name}) for host in probing})


def judge(probes: Summaries, hosts: Sequence[Host]) -> Faults:
    """The hosts that became worse than their limits allow."""
    faults: Faults = {}
    for host in hosts:
        reason = _regression(probes[host.name], host) if host.name in probes else ""
        if reason:
            faults[host.name] = RolloutError(reason, where=host.name, next="look at its logs, then deploy again")
    return faults


def _regression(probe: ProbeSummary, host: Host) -> str:
    before, during, settings = probe["before"], probe["during"], host.settings
    if not before["asked"]:
        return ""  # nothing answered before: while it comes up the first time, anything may
    if during["asked"] and during["failed"] * 100 > settings.probe_max_failed_percentage * during["asked"]:
        shown = during["faults"][-1] if during["faults"] else ""
        return f"{during['failed']} of {during['asked']} requests failed since the switch ({shown})"
    was, now = before["p99"], during["p99"]
    if before["asked"] < ENOUGH or during["asked"] < ENOUGH or was is None or not settings.probe_max_slowdown:
        return ""
    limit = max(was * settings.probe_max_slowdown, was + SLOWER_SECONDS)
    if now is not None and now > limit:
        return f"requests became slow since the switch: p99 {_ms(was)} -> {_ms(now)}"
    return ""


def describe(probes: Summaries) -> str:
    """`0 of 14203 requests failed, p99 12 -> 14 ms`: all hosts together, the slowest of them."""
    asked = sum(probe["during"]["asked"] for probe in probes.values())
    failed = sum(probe["during"]["failed"] for probe in probes.values())
    text = f"{failed} of {asked} requests failed"
    before = [p99 for probe in probes.values() if (p99 := probe["before"]["p99"]) is not None]
    during = [p99 for probe in probes.values() if (p99 := probe["during"]["p99"]) is not None]
    if during:
        text += f", p99 {_ms(max(before))} -> {_ms(max(during))}" if before else f", p99 {_ms(max(during))}"
    return text


def _target(host: Host, address: str) -> dict[str, Any]:
    settings, site = host.settings, host.settings.site
    return {
        "name": host.name,
        "address": "127.0.0.1" if host.address.local else address,
        "port": site.tls_port if site and site.certificate else settings.shown_port,
        "path": settings.health_path,
        "site": settings.asked_host if site else "",
        "tls": bool(site and site.certificate),
    }


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
