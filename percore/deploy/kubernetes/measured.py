"""What apps really use where they run: the requests of their pods, and on how many figures they rest."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from percore.deploy.kubernetes.amounts import cores, cpu, in_bytes, memory
from percore.deploy.kubernetes.model import Resources, Workload
from percore.deploy.kubernetes.quantities import SUPERVISOR_BYTES, at_most, workers_in
from percore.deploy.report import Report
from percore.deploy.rollout.hosts import open_hosts
from percore.deploy.rollout.parallel import on_all, stop_at
from percore.deploy.rollout.scope import Scope
from percore.errors import UsageError

_CPU_STEP, _LEAST_CPU = 0.05, 0.05
_ABOVE_MOST = 1.3


@dataclass(frozen=True)
class Use:
    """Of one worker of an app: the 95th percentile and the most, of so many figures of so many workers."""

    memory: int
    most_memory: int
    cpu: float
    figures: int
    workers: int


Uses = Mapping[str, Use]
"""By app."""


def measure(scope: Scope, report: Report, *, seconds: int) -> Uses:
    """Ask all hosts once a second. UsageError where nothing runs."""
    figures: dict[str, list[tuple[str, int, float]]] = {}
    with open_hosts(scope.everyone, report) as hosts:
        report.phase("measure", f"{seconds} s")
        for turn in range(seconds):
            time.sleep(1 if turn else 0)
            outcome = on_all(hosts, lambda host: host.ask("status"))
            stop_at(outcome.faults, report)
            for name, reply in outcome.results.items():
                _take(figures, name, reply["status"]["apps"])
    found = {app: use_of(taken) for app, taken in sorted(figures.items())}
    if not found:
        raise UsageError("no app runs on these hosts, so there is nothing to measure", next=scope.command("deploy"))
    return found


def _take(figures: dict[str, list[tuple[str, int, float]]], host: str, apps: Iterable[Mapping[str, Any]]) -> None:
    for app in apps:
        for worker in app["workers"]:
            if worker["state"] == "running":
                entry = f"{host} {worker['pid']}", worker["memory_bytes"], float(worker["cpu_percent"])
                figures.setdefault(app["name"], []).append(entry)


def use_of(figures: Sequence[tuple[str, int, float]]) -> Use:
    sizes = sorted(size for _, size, _ in figures)
    shares = sorted(share for _, _, share in figures)
    at = math.ceil(0.95 * len(figures)) - 1
    return Use(sizes[at], sizes[-1], shares[at] / 100, len(figures), len({who for who, _, _ in figures}))


def show_use(uses: Uses, report: Report) -> None:
    """With what it rests on: a moment without load says little."""
    for app, use in uses.items():
        report.step(
            f"{app}: a worker uses {use.memory >> 20} MiB (most {use.most_memory >> 20}) and {use.cpu:.2f} CPU"
            f" at the 95th percentile of {use.figures} figures of {use.workers} workers"
        )


def with_use(workloads: Sequence[Workload], uses: Uses) -> list[Workload]:
    """What the inventory says wins over what was measured."""
    return [
        replace(each, resources=_measured(each, uses[each.config.name])) if each.config.name in uses else each
        for each in workloads
    ]


def _measured(workload: Workload, use: Use) -> Resources:
    pod, known = workload.pod, workload.resources
    count = workers_in(workload.workers, known.cpu_limit)
    used_cpu = max(_LEAST_CPU, math.ceil(count * use.cpu / _CPU_STEP) * _CPU_STEP)
    wanted_cpu = min(used_cpu, cores(pod.cpu_limit)) if pod.cpu_limit else used_cpu
    limit_cpu = known.cpu_limit if pod.cpu_limit else cpu(max(cores(known.cpu_limit), math.ceil(wanted_cpu)))
    asked = pod.memory or at_most(memory(count * use.memory + SUPERVISOR_BYTES), pod.memory_limit)
    is_limited = workload.config.max_memory_restart or workload.config.memory_max
    most = known.memory_limit if is_limited else memory((count + 1) * use.most_memory * _ABOVE_MOST + SUPERVISOR_BYTES)
    allowed = pod.memory_limit or memory(max(in_bytes(most), in_bytes(asked)))
    return Resources(pod.cpu or cpu(wanted_cpu), limit_cpu, asked, allowed)
