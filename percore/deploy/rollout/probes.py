"""Every host is asked, by another one, all through a rollout: the proof that no request was lost, and a reason to go back.

A host is unwell when more of its requests failed, or its slowest became slower, than the limits say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from percore.deploy.rollout.hosts import Host, on_all
from percore.errors import PercoreError, RolloutError

ENOUGH = 30
"""So many samples on both sides before percentiles are compared."""

SLOWER_SECONDS = 0.25
"""Slower by less is never a regression: small figures grow many times over by chance."""

Summary = Mapping[str, Any]


def start_probes(hosts: Sequence[Host]) -> None:
    """Each host probes the next one; where it cannot reach that, itself. A host without a port is not probed."""
    neighbours = dict(zip([host.name for host in hosts], [*hosts[1:], *hosts[:1]], strict=True))

    def start(host: Host) -> None:
        if host.settings.shown_port is None:
            return
        neighbour = neighbours[host.name]
        host.notes["probes"] = {neighbour.name, host.name}
        targets = [_target(neighbour, neighbour.address.address), _target(host, host.address.address)]
        host.ask("probe", targets=[*filter(None, targets), _target(host, "127.0.0.1")])

    on_all(hosts, start)  # a host that fails here fails where it matters, too


def mark_probes(hosts: Sequence[Host]) -> None:
    """From now on it counts."""
    on_all(hosts, lambda host: host.ask("probe", mark=True))


def read_probes(hosts: Sequence[Host]) -> dict[str, Summary]:
    """What was found about each host, by its name; of no other host than those it was asked to probe is a host believed."""
    found: dict[str, Summary] = {}

    def read(host: Host) -> None:
        probe = host.ask("probe")["probe"]
        if probe and probe["target"] in host.notes.get("probes", ()):
            found[probe["target"]] = probe

    on_all(hosts, read)
    return found


def judge(probes: Mapping[str, Summary], hosts: Sequence[Host]) -> dict[str, PercoreError]:
    """The hosts that became worse than their limits allow."""
    faults: dict[str, PercoreError] = {}
    for host in hosts:
        reason = _regression(probes[host.name], host) if host.name in probes else ""
        if reason:
            faults[host.name] = RolloutError(reason, where=host.name, next="look at its logs, then deploy again")
    return faults


def _regression(probe: Summary, host: Host) -> str:
    before, during, settings = probe["before"], probe["during"], host.settings
    if not before["asked"]:
        return ""  # nothing answered before: while it comes up the first time, anything may
    if during["asked"] and during["failed"] * 100 > settings.probe_max_failed_percentage * during["asked"]:
        shown = during["faults"][-1] if during["faults"] else ""
        return f"{during['failed']} of {during['asked']} requests failed since the switch ({shown})"
    if before["asked"] < ENOUGH or during["asked"] < ENOUGH or not settings.probe_max_slowdown:
        return ""
    limit = max(before["p99"] * settings.probe_max_slowdown, before["p99"] + SLOWER_SECONDS)
    if during["p99"] is not None and during["p99"] > limit:
        return f"requests became slow since the switch: p99 {_ms(before['p99'])} -> {_ms(during['p99'])}"
    return ""


def describe(probes: Mapping[str, Summary]) -> str:
    """`0 of 14203 requests failed, p99 12 -> 14 ms`: all hosts together, the slowest of them."""
    asked = sum(probe["during"]["asked"] for probe in probes.values())
    failed = sum(probe["during"]["failed"] for probe in probes.values())
    text = f"{failed} of {asked} requests failed"
    before = [probe["before"]["p99"] for probe in probes.values() if probe["before"]["p99"] is not None]
    during = [probe["during"]["p99"] for probe in probes.values() if probe["during"]["p99"] is not None]
    if during:
        text += f", p99 {_ms(max(before))} -> {_ms(max(during))}" if before else f", p99 {_ms(max(during))}"
    return text


def _target(host: Host, address: str) -> dict[str, Any] | None:
    if host.address.local:
        address = "127.0.0.1"
    settings = host.settings
    site = settings.server_name if settings.nginx and settings.server_name not in ("", "_") else ""
    return {
        "name": host.name, "address": address, "port": settings.shown_port, "path": settings.health_path, "site": site,
    }  # fmt: skip


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
