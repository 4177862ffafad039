"""What the page is told: hosts and apps with their sums, one app with its workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from percore.common.typing import Any, Optional
from percore.web.dashboard.sample import AppFigures, WorkerFigures, total
from percore.web.dashboard.tracker import KnownHost


def host_row(name: str, known: KnownHost) -> dict[str, Any]:
    sample = known.sample
    return {
        "name": name,
        "at": known.at,
        "problem": sample.problem,
        "next": sample.next,
        **sample.machine._asdict(),
        "apps": [app_row(app, known.rates) for app in sample.apps],
    }


def app_row(app: AppFigures, rates: Mapping[tuple[str, int], Optional[float]]) -> dict[str, Any]:
    workers = app.workers
    running = [worker for worker in workers if worker.pid]
    return {
        "name": app.name,
        "mode": app.mode,
        "release": app.release,
        "addresses": list(app.addresses),
        "wanted": app.wanted,
        "is_job": app.is_job,
        "workers": len(workers),
        "up": sum(worker.is_up for worker in workers),
        "states": dict(Counter(worker.state for worker in workers)),
        "cpu": round(sum(worker.cpu for worker in running), 1),
        "memory": sum(worker.memory for worker in running),
        "open": total([worker.open for worker in workers]),
        "queue": total([worker.queue for worker in workers]),
        "accepted": _rounded(total([rates.get((app.name, worker.slot)) for worker in workers])),
        "restarts": app.restarts,
        "reloads": app.reloads,
        "uptime": round(min((worker.uptime for worker in running), default=0.0)),
        "counts": app.counts,
        "problem": app.problem,
    }


def worker_row(app: AppFigures, worker: WorkerFigures, known: KnownHost) -> dict[str, Any]:
    rate = _rounded(known.rates.get((app.name, worker.slot)))
    return {**worker._asdict(), "uptime": round(worker.uptime), "rate": rate}


def find_app(known: KnownHost, name: str) -> Optional[AppFigures]:
    return next((app for app in known.sample.apps if app.name == name), None)


def _rounded(value: Optional[float]) -> Optional[float]:
    return None if value is None else round(value, 1)
