"""percore's own metrics: one table of what there is, from which the page and docs/reference/metrics.md are made.

Everything is what the supervisor or the kernel counts anyway; what is not known is left out, never guessed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, NamedTuple, Optional

from prometheus_client.core import Metric

from percore import __version__
from percore.common.connections import Connections, count_connections
from percore.supervisor.base.states import State
from percore.supervisor.core.worker.figures import (
    DRAIN_LIMIT,
    DRAINED,
    KILLED,
    RELOAD_FAILED,
    RELOADED,
    RESTART_CAUSES,
    UNFINISHED,
)
from percore.supervisor.process.usage import usage_of_tree
from percore.web.app_metrics.collect import AppMetrics
from percore.web.snapshot import Snapshot

# Counting the connections of a busy host costs time: it is limited to this share of one core.
_COUNTING_SHARE = 0.03
_STREAMS = {"out": "out_file", "error": "error_file"}

Samples = Iterator[tuple[tuple[str, ...], float]]


class MetricsSource(NamedTuple):
    """What the figures are taken from."""

    snapshot: Snapshot
    connections: Mapping[int, Connections]  # by id of the worker
    apps: Optional[AppMetrics] = None


class OwnMetric(NamedTuple):
    name: str
    kind: str  # counter, gauge or info
    help: str
    labels: tuple[str, ...]
    samples: Callable[[MetricsSource], Samples]  # the values of the labels, and the value
    unit: str = ""


class ConnectionCounts:
    """Counted as often as its share of time allows."""

    def __init__(self) -> None:
        self._found: Mapping[int, Connections] = {}
        self._next_at = 0.0

    def of(self, snapshot: Snapshot) -> Mapping[int, Connections]:
        if time.monotonic() >= self._next_at:
            used = time.process_time()
            self._found = count_connections(snapshot.workers)
            self._next_at = time.monotonic() + (time.process_time() - used) / _COUNTING_SHARE
        return self._found


# -- where the values come from ------------------------------------------------------------------------------------------


def _build(_: MetricsSource) -> Samples:
    yield (__version__,), 1.0


def _up(known: MetricsSource) -> Samples:
    yield (), float(not known.snapshot.error)


def _supervisor(value: Callable[[int], float]) -> Callable[[MetricsSource], Samples]:
    def samples(known: MetricsSource) -> Samples:
        if pid := known.snapshot.daemon.get("pid"):
            yield (), value(pid)

    return samples


def _own_usage(pid: int) -> tuple[float, float]:
    """Memory and CPU time of this process without those below it, its workers."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as memory, open(f"/proc/{pid}/stat", "rb") as times:
            pages = int(memory.read().split()[1])
            fields = times.read().rpartition(b")")[2].split()
    except (OSError, IndexError):
        return 0.0, 0.0
    return pages * os.sysconf("SC_PAGE_SIZE"), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _faults(known: MetricsSource) -> Samples:
    if known.snapshot.daemon:
        yield (), known.snapshot.daemon["faults"]["count"]


def _of_apps(value: Callable[[Mapping[str, Any]], float]) -> Callable[[MetricsSource], Samples]:
    return lambda known: (((name,), value(app)) for name, app in known.snapshot.apps.items())


def _app_info(known: MetricsSource) -> Samples:
    for name, app in known.snapshot.apps.items():
        yield (name, app["namespace"], app["mode"], app["release"] or ""), 1.0


def _states(known: MetricsSource) -> Samples:
    for name, app in known.snapshot.apps.items():
        for state in State:
            yield (name, state.value), sum(worker["state"] == state.value for worker in app["workers"])


def _counts(of: Mapping[str, str]) -> Callable[[MetricsSource], Samples]:
    """`of`: what the supervisor counts, and its label here. Nothing of a supervisor that does not count yet."""

    def samples(known: MetricsSource) -> Samples:
        for name, app in known.snapshot.apps.items():
            for what, label in of.items() if "counts" in app else ():
                yield (name, label) if label else (name,), app["counts"].get(what, 0)

    return samples


def _workers(value: Callable[[Mapping[str, Any]], Optional[float]]) -> Callable[[MetricsSource], Samples]:
    """None: not known of this one."""

    def samples(known: MetricsSource) -> Samples:
        for worker in known.snapshot.workers:
            if (found := value(worker)) is not None:
                yield (worker["name"], str(worker["slot"])), found

    return samples


def _running(value: Callable[[Mapping[str, Any]], float]) -> Callable[[MetricsSource], Samples]:
    return _workers(lambda worker: value(worker) if worker["pid"] else None)


def _limit(known: MetricsSource) -> Samples:
    limits = {each["name"]: each["config"].get("max_memory") for each in known.snapshot.workers}
    return (((name,), float(limit)) for name, limit in limits.items() if limit)


def _connections(field: str) -> Callable[[MetricsSource], Samples]:
    def samples(known: MetricsSource) -> Samples:
        for worker in known.snapshot.workers:
            found = known.connections.get(worker["id"])
            value = getattr(found, field) if found else None
            if value is not None:
                yield (worker["name"], str(worker["slot"])), value

    return samples


def _log_bytes(known: MetricsSource) -> Samples:
    for worker in known.snapshot.workers:
        for stream, key in _STREAMS.items():
            try:
                yield (worker["name"], str(worker["slot"]), stream), os.stat(worker[key]).st_size
            except (OSError, TypeError):
                continue


def _scraped(known: MetricsSource) -> Samples:
    for result in known.apps.results if known.apps else ():
        yield (result.app, str(result.slot)), float(not result.problem)


def _asked(known: MetricsSource) -> Samples:
    if known.apps:
        for name in known.apps.configured(known.snapshot):
            yield (name,), float(name not in known.apps.problems)


def _dropped(known: MetricsSource) -> Samples:
    for name, count in known.apps.ledgers.dropped().items() if known.apps else ():
        yield (name,), count


APP, WORKER = ("app",), ("app", "worker")
ENDINGS = {"counter": "_total", "info": "_info"}

METRICS = (
    OwnMetric("percore_build", "info", "Version of percore that serves this page", ("version",), _build),
    OwnMetric("percore_up", "gauge", "1 if the supervisor answers", (), _up),
    OwnMetric("percore_supervisor_resident_memory_bytes", "gauge", "Resident memory of the supervisor itself", (),
              _supervisor(lambda pid: _own_usage(pid)[0]), "bytes"),
    OwnMetric("percore_supervisor_cpu_seconds", "counter", "CPU time of the supervisor itself", (),
              _supervisor(lambda pid: _own_usage(pid)[1]), "seconds"),
    OwnMetric("percore_supervisor_faults", "counter", "Unexpected exceptions that the supervisor contained", (), _faults),
    OwnMetric("percore_app", "info", "Namespace, mode (cluster or fork) and release of the app",
              ("app", "namespace", "mode", "release"), _app_info),
    OwnMetric("percore_app_wanted_workers", "gauge", "Workers that should run now", APP,
              _of_apps(lambda app: app["wanted"])),
    OwnMetric("percore_app_workers", "gauge", "Workers by state, with those that a reload brings and takes",
              ("app", "state"), _states),
    OwnMetric("percore_app_restarts", "counter", "Restarts by cause: the process crashed or exited; it was over its memory"
              " limit or unhealthy; clients were stranded in its queue; on request (reloads included), by schedule,"
              " because files changed", ("app", "cause"), _counts({cause: cause for cause in RESTART_CAUSES})),
    OwnMetric("percore_app_reloads", "counter", "Reloads by result; one that failed left the old workers in place",
              ("app", "result"), _counts({RELOADED: "done", RELOAD_FAILED: "failed"})),
    OwnMetric("percore_app_drains", "counter", "Workers that finished their connections before they were stopped, and"
              " those that reached the time limit of that", ("app", "result"),
              _counts({DRAINED: "done", DRAIN_LIMIT: "limit"})),
    OwnMetric("percore_app_drain_unanswered_connections", "counter", "Connections whose client waited for an answer when the"
              " time limit was reached; the worker had its kill_timeout left to answer them", APP,
              _counts({UNFINISHED: ""})),
    OwnMetric("percore_app_kills", "counter", "Workers that were killed because they did not end within kill_timeout; what"
              " they were answering was lost", APP, _counts({KILLED: ""})),
    OwnMetric("percore_app_port_conflicts", "gauge", "Other processes that take connections meant for the app", APP,
              lambda known: _conflicts(known)),
    OwnMetric("percore_app_memory_limit_bytes", "gauge", "max_memory_restart of the app", APP, _limit, "bytes"),
    OwnMetric("percore_worker_ready", "gauge", "1 if the worker is ready and healthy", WORKER,
              _workers(lambda worker: float(worker["state"] == "running" and not worker["failure"]))),
    OwnMetric("percore_worker_start_time_seconds", "gauge", "When the worker's process was started, since 1970", WORKER,
              _running(lambda worker: worker["started_time"]), "seconds"),
    OwnMetric("percore_worker_resident_memory_bytes", "gauge", "Resident memory of the worker and all below it", WORKER,
              _running(lambda worker: worker["memory_bytes"]), "bytes"),
    OwnMetric("percore_worker_cpu_seconds", "counter", "CPU time of the worker and all below it", WORKER,
              _running(lambda worker: usage_of_tree(worker["pid"]).cpu_seconds), "seconds"),
    OwnMetric("percore_worker_connections", "gauge", "TCP connections that the worker has open", WORKER,
              _connections("open")),
    OwnMetric("percore_worker_accept_queue_connections", "gauge", "Connections that the worker has not accepted yet", WORKER,
              _connections("queue")),
    OwnMetric("percore_worker_accepted_connections", "counter", "TCP connections that the worker accepted, percore's own"
              " checks included", WORKER, _connections("accepted")),
    OwnMetric("percore_worker_log_bytes", "gauge", "Size of the worker's current log files", ("app", "worker", "stream"),
              _log_bytes, "bytes"),
    OwnMetric("percore_worker_log_dropped_bytes", "counter", "Bytes of log that were lost", WORKER,
              _workers(lambda worker: worker["log_dropped_bytes"]), "bytes"),
    OwnMetric("percore_app_metrics_reachable", "gauge", "0 if the workers cannot be asked for app_metrics, each alone", APP,
              _asked),
    OwnMetric("percore_app_metrics_up", "gauge", "1 if the worker's own metrics were read", WORKER, _scraped),
    OwnMetric("percore_app_metrics_dropped_series", "counter", "Series of the app that had no room", APP, _dropped),
)  # fmt: skip


def _conflicts(known: MetricsSource) -> Samples:
    found = {each["name"]: len(each["thieves"]) for each in known.snapshot.workers}
    return (((name,), count) for name, count in found.items())


def table() -> Iterator[str]:
    """What there is, as docs/reference/metrics.md has it."""
    yield "| Metric | Type | Labels | Meaning |"
    yield "| --- | --- | --- | --- |"
    for each in METRICS:
        labels = ", ".join(f"`{label}`" for label in each.labels)
        yield f"| `{each.name}{ENDINGS.get(each.kind, '')}` | {each.kind} | {labels} | {each.help} |"


def own_families(known: MetricsSource) -> Iterable[Metric]:
    for each in METRICS:
        metric = Metric(each.name, each.help, each.kind, each.unit)
        for values, value in each.samples(known):
            metric.add_sample(each.name + ENDINGS.get(each.kind, ""), dict(zip(each.labels, values)), value)
        if metric.samples:
            yield metric
