"""Which workers of an app are asked for their metrics, and how each of them is reached alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

from percore.common.procfs import start_time_of
from percore.supervisor.config.address import Address, parse_address
from percore.supervisor.sockets.reuseport_bpf import ProbeSource
from percore.supervisor.sockets.sharing import Mode


class MetricsTarget(NamedTuple):
    """One worker. `source`: the address to ask from, where its port is shared."""

    slot: int
    pid: int
    host: str
    port: int
    path: str
    asked: str  # the Host
    is_tls: bool
    source: Optional[ProbeSource] = None

    @property
    def worker(self) -> str:
        """The process, and no other that has its pid later."""
        return worker_id(self.pid)


class Targets(NamedTuple):
    """`problem` says why workers cannot be asked, or not each alone."""

    targets: Sequence[MetricsTarget]
    living: frozenset[str]  # every worker with a process, asked or not
    problem: str = ""


def worker_id(pid: int) -> str:
    return f"{pid}.{start_time_of(pid)}"


def targets_of(app: Mapping[str, Any], worker: Mapping[str, Any]) -> Targets:
    """`app` as in `status`; `worker` is one of it as in `describe`."""
    config = worker["config"]
    living = frozenset(worker_id(each["pid"]) for each in app["workers"] if each["pid"])
    asked = [each for each in app["workers"] if each["state"] == "running" and each["role"] == "current"]
    if config["app_metrics"].startswith("h2c://"):
        return Targets((), living, "metrics are read over HTTP/1, not h2c: set app_metrics_port")
    if worker["sharing"] == "none":
        return _of_own_ports(asked, living, config)
    address = _address(app, config.get("app_metrics_port") or app["port"])
    if address is None or address.probe_host is None:
        return Targets((), living, "no worker listens on a TCP port for its metrics" if asked else "")
    if _is_steered(worker):
        sources = [ProbeSource(each["slot"], incoming=False) for each in asked]
        found = [_target(each, address.probe_host, address.port, config, at) for each, at in zip(asked, sources)]
        return Targets(found, living)
    if len(asked) > 1:
        return Targets(
            (), living, f"the port is shared by another method ({worker['sharing']}): nobody can ask one worker"
        )
    return Targets([_target(each, address.probe_host, address.port, config) for each in asked], living)


def _of_own_ports(asked: Sequence[Mapping[str, Any]], living: frozenset[str], config: Mapping[str, Any]) -> Targets:
    fixed = config.get("app_metrics_port")
    if fixed and len(asked) > 1:
        return Targets((), living, f"{len(asked)} workers without a shared port cannot all have port {fixed}")
    if not all(fixed or each["port"] for each in asked):
        return Targets((), living, "the port is not known: set port or app_metrics_port")
    return Targets([_target(each, "127.0.0.1", fixed or each["port"], config) for each in asked], living)


def leaving_target(app: Mapping[str, Any], worker: Mapping[str, Any], slot: int, pid: int) -> Optional[MetricsTarget]:
    """A worker that leaves is reached where the one that comes was: by the source of the other generation."""
    config = worker["config"]
    address = _address(app, config.get("app_metrics_port") or app["port"])
    if address is None or address.probe_host is None or not _is_steered(worker):
        return None
    source = ProbeSource(slot, incoming=True)
    return _target({"slot": slot, "pid": pid}, address.probe_host, address.port, config, source)


def _is_steered(worker: Mapping[str, Any]) -> bool:
    return bool(worker["sharing"].partition(" (")[0] == Mode.STEERED.value)


def _target(
    worker: Mapping[str, Any], host: str, port: int, config: Mapping[str, Any], source: Optional[ProbeSource] = None
) -> MetricsTarget:
    protocol, _, address = config["app_metrics"].rpartition("://")
    name, slash, path = address.partition("/")
    asked = str(name or config.get("health_host") or "localhost")
    return MetricsTarget(worker["slot"], worker["pid"], host, port, slash + path, asked, protocol == "https", source)


def _address(app: Mapping[str, Any], port: Optional[int]) -> Optional[Address]:
    for written in app["addresses"]:
        if written.startswith("/") or written.endswith("/udp"):
            continue
        address = parse_address(written)
        if address.port == port:
            return address
    return None
