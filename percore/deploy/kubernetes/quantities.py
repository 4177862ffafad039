"""Amounts as Kubernetes writes them, and what a pod requests where nobody says it."""

from __future__ import annotations

import math
import re

from percore.deploy.kubernetes.model import Resources
from percore.deploy.kubernetes.settings import PodSettings
from percore.supervisor.config.app import AppConfig

_UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
}  # fmt: skip
_STEP = 16 << 20
SUPERVISOR_BYTES = 64 << 20
"""Of the supervisor, its sockets and its home in memory."""

WORKER_BYTES = 128 << 20
"""Of a worker that nobody has measured; it may have four times as much."""


def cores(amount: str) -> float:
    return int(amount[:-1]) / 1000 if amount.endswith("m") else float(amount)


def cpu(amount: float) -> str:
    thousandths = max(1, round(amount * 1000))
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def in_bytes(amount: str) -> int:
    found = re.fullmatch(r"([0-9]+)([A-Za-z]*)", amount)
    assert found  # the settings were checked
    return int(found[1]) * _UNITS[found[2]]


def memory(amount: float) -> str:
    """Rounded up: a limit that is met is a kill."""
    return f"{math.ceil(amount / _STEP) * _STEP >> 20}Mi"


def workers_in(workers: int | str, cpu_limit: str) -> int:
    """How many a pod has: max is one for each CPU of its limit."""
    if workers in ("max", 0):
        return max(1, math.ceil(cores(cpu_limit)))
    wished = int(workers)
    return wished if wished > 0 else max(1, math.ceil(cores(cpu_limit)) + wished)


def find_resources(config: AppConfig, pod: PodSettings, workers: int | str) -> Resources:
    """What the inventory says; the rest by the number of workers and their limits."""
    cpu_limit = pod.cpu_limit or (cpu(max(1.0, cores(pod.cpu))) if pod.cpu else "1")
    count = workers_in(workers, cpu_limit)
    most = config.max_memory_restart or config.memory_max
    request, limit = float(count * WORKER_BYTES), float(count * WORKER_BYTES * 4)
    if most:
        # One worker more: a worker that is too large goes on until its successor is ready.
        request, limit = float(count * most), (count + 1) * most * 1.25
    asked = pod.memory or memory(request + SUPERVISOR_BYTES)
    allowed = pod.memory_limit or memory(max(limit + SUPERVISOR_BYTES, in_bytes(asked)))
    is_guess = not (pod.cpu and (pod.memory or most))
    return Resources(pod.cpu or cpu(min(cores(cpu_limit), 0.25 * count)), cpu_limit, asked, allowed, is_guess)
