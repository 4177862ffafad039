"""What a pod requests, and what it may have, where nobody says it."""

from __future__ import annotations

import math

from percore.deploy.kubernetes.amounts import cores, cpu, in_bytes, memory
from percore.deploy.kubernetes.model import Resources
from percore.deploy.kubernetes.settings import PodSettings
from percore.supervisor.config.app import AppConfig

SUPERVISOR_BYTES = 64 << 20
"""Of the supervisor, its sockets and its home in memory."""

WORKER_BYTES = 128 << 20
"""Of a worker that nobody has measured; it may have four times as much."""


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
    asked = pod.memory or at_most(memory(request + SUPERVISOR_BYTES), pod.memory_limit)
    allowed = pod.memory_limit or memory(max(limit + SUPERVISOR_BYTES, in_bytes(asked)))
    is_guess = not (pod.cpu and (pod.memory or most))
    return Resources(pod.cpu or cpu(min(cores(cpu_limit), 0.25 * count)), cpu_limit, asked, allowed, is_guess)


def at_most(amount: str, limit: str | None) -> str:
    """Of memory: nobody may request more than the limit that the inventory sets."""
    return min(amount, limit, key=in_bytes) if limit else amount
