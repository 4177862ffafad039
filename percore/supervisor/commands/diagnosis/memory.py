"""Memory that does not add up, heaps that do not fit, and workers that leak."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from percore.common.finding import ERROR, NOTE, WARNING, Finding
from percore.common.procfs import command_line_of, environment_of
from percore.supervisor.commands.diagnosis.apps import AppFacts, Worker, age_text, times
from percore.supervisor.commands.host_facts import HEAP_SHARE, Facts, reserve_of
from percore.supervisor.commands.output import short_size
from percore.supervisor.core.worker.figures import MEMORY

_MB = 1 << 20
_HEAP = re.compile(r"--max[-_]old[-_]space[-_]size(?:=|\s+)(\d{1,7})")
_SETTLED_SECONDS = 300  # before, a worker is still filling its caches
_LEAST_AGE = 3600
_LEAST_RISE = 10 * _MB
_STEADY = 0.8  # of a rate against the one before: what fills a cache rises at half of it in twice the time
_OFTEN = 3  # memory restarts that are no accident any more


class Share(NamedTuple):
    """What the workers of one app may take together, and where that figure comes from."""

    app: str
    workers: int
    each: int
    source: str

    @property
    def whole(self) -> int:
        return self.workers * self.each

    def __str__(self) -> str:
        return f"{self.app} {self.workers} x {_exact(self.each)}{self.source}"


def about_memory(apps: Sequence[AppFacts], facts: Facts) -> Iterator[Finding]:
    """Each worker may take what its limit allows: all of them together must fit beside the system."""
    shares = [share for app in apps if (share := _share_of(app))]
    whole = sum(share.whole for share in shares)
    memory = min(facts.memory_bytes, facts.memory_limit_bytes or facts.memory_bytes)
    reserve = reserve_of(memory, is_alone=facts.is_alone)
    if not shares or whole <= memory - reserve:
        return
    limited = f"this {'container' if facts.is_container else 'unit'} may use"
    place = limited if memory < facts.memory_bytes else "this host has"
    sum_text = " + ".join(map(str, shares))
    left = (
        ""
        if whole > memory
        else f", of which {'percore' if facts.is_alone else 'the system'} needs about {short_size(reserve)}"
    )
    yield Finding(
        f"memory does not add up: {sum_text} = {short_size(whole)}, and {place} {short_size(memory)}{left}",
        "lower max_memory_restart or instances, or add memory",
        "memory",
        ERROR if whole > memory else WARNING,
    )


def _share_of(app: AppFacts) -> Optional[Share]:
    if not app.wanted:
        return None
    if limit := app.memory_limit:
        return Share(app.name, app.wanted, limit, "")
    if heap := heap_of(app):
        return Share(app.name, app.wanted, int(heap / HEAP_SHARE), f" (heap {_exact(heap)}, no limit)")
    return Share(app.name, app.wanted, app.largest, " (in use, no limit)") if app.largest else None


def heap_of(app: AppFacts) -> Optional[int]:
    """What Node was given as its largest heap: by the command line of its process, its NODE_OPTIONS, or the process file."""
    pid = next((worker["pid"] for worker in app.workers if worker["pid"]), 0)
    options = [each for each in environment_of(pid) if each.startswith(b"NODE_OPTIONS=")] if pid else []
    words = command_line_of(pid).replace(b"\0", b" ") if pid else b""
    arguments = " ".join(map(str, app.config.get("interpreter_args") or ()))
    texts = (words.decode(errors="replace"), *(option.decode(errors="replace") for option in options), arguments)
    found = next((sizes for text in texts if (sizes := _HEAP.findall(text))), None)
    return int(found[-1]) * _MB if found else None


def about_heaps(apps: Sequence[AppFacts]) -> Iterator[Finding]:
    """The heap is three quarters of a worker (8 GB and 4 cores: 1.5 GB); a larger one meets the limit before it is collected."""
    for app in apps:
        heap, limit = heap_of(app), app.memory_limit
        if heap is None or limit is None or heap <= limit * HEAP_SHARE:
            continue
        restarts = app.count(MEMORY)
        said = f"the heap of {app.name} may grow to {_exact(heap)}, and its limit is {_exact(limit)}"
        fits = int(limit * HEAP_SHARE) // _MB
        told = f"node_args --max-old-space-size={fits}, or max_memory_restart {int(heap / HEAP_SHARE) // _MB}M"
        if restarts:
            said += f": it was replaced for its memory {times(restarts)}, which collecting garbage may have spared"
            yield Finding(said, told, "heap")
        else:
            yield Finding(f"{said}: it is replaced before Node must collect its garbage", told, "heap", NOTE)


def about_leaks(apps: Sequence[AppFacts]) -> Iterator[Finding]:
    for app in apps:
        restarts = app.count(MEMORY)
        if restarts >= _OFTEN:
            what = f"{app.name} was replaced for its memory {times(restarts)}: it leaks, or its limit is too low"
            yield Finding(what, f"percore heap {app.name}, or a higher max_memory_restart", "leak")
            continue
        rising = [(rate, worker) for worker in app.workers if (rate := rise_of(worker))]
        if rising:
            rate, worker = max(rising, key=lambda pair: pair[0])
            yield Finding(_tell_rise(app, rate, worker), f"percore heap {app.name}", "leak")


def rise_of(worker: Worker) -> Optional[float]:
    """Bytes a second, where its memory rises as fast as ever for as long as it runs. Readings at twice the age each tell that."""
    points = [(int(age), int(size)) for age, size in worker.get("memory_marks", ()) if age >= _SETTLED_SECONDS]
    now = int(worker["uptime_seconds"]), int(worker["memory_bytes"])
    if points and now[0] >= 1.5 * points[-1][0]:
        points.append(now)
    points = points[-4:]
    if len(points) < 4 or points[-1][0] < _LEAST_AGE or points[-1][1] - points[0][1] < _LEAST_RISE:
        return None
    rates = [(later[1] - former[1]) / (later[0] - former[0]) for former, later in zip(points, points[1:])]
    is_steady = all(rate > 0 for rate in rates) and all(b >= _STEADY * a for a, b in zip(rates, rates[1:]))
    return rates[-1] if is_steady else None


def _tell_rise(app: AppFacts, rate: float, worker: Worker) -> str:
    text = (
        f"the memory of {app.name} {worker['slot']} rises by {short_size(rate * 3600)} an hour for as long as it runs "
        f"({age_text(worker['uptime_seconds'])})"
    )
    limit = app.memory_limit
    left = (limit - worker["memory_bytes"]) / rate if limit else 0
    return f"{text}; it is at its limit in {age_text(left)}" if left > 0 else text


def _exact(size: int) -> str:
    """As it is written in a process file, where it is a whole number of megabytes."""
    return f"{size // _MB}M" if size % _MB == 0 else short_size(size)
