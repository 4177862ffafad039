"""What the page asks for: routes, each answered from memory but for logs and orders."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence

from percore.common.typing import Any, Callable, Protocol
from percore.errors import PercoreError, UsageError
from percore.web.dashboard.assets import asset_response, page_response
from percore.web.dashboard.history import SPANS, Timelines
from percore.web.dashboard.log_lines import LogQuery, LogReply, read_query
from percore.web.dashboard.orders import Orders, PageOrder, read_order
from percore.web.dashboard.overview import find_app, host_row, worker_row
from percore.web.dashboard.sample import AppFigures, HostSample, WorkerFigures
from percore.web.dashboard.tracker import EventLog, Tracker
from percore.web.http import HttpRequest, HttpResponse, HttpRoute, Right, as_json

SHOWN_EVENTS = 200


Answer = Callable[[HttpRequest], HttpResponse]


class BoardSource(Protocol):
    """Where logs come from and orders go to: the supervisor beside us, or the hosts of an environment."""

    def read_log(self, host: str, app: AppFigures, worker: WorkerFigures, query: LogQuery) -> LogReply: ...

    def carry_out(self, order: PageOrder) -> str: ...


class PageBoard:
    """All that one page shows. Samples come from one thread, questions from others."""

    def __init__(self, title: str, source: BoardSource, *, every: float, is_fleet: bool = False) -> None:
        self.events = EventLog()
        self._history = Timelines()
        self._tracker = Tracker(self._history, self.events, keeps_workers=not is_fleet)
        self._lock = threading.Lock()
        self._source = source
        self._about = {"title": title, "every": every, "is_fleet": is_fleet}
        self.began_at = 0.0  # of the first look
        self._encoded: dict[Right, bytes] = {}
        self.orders = Orders(source.carry_out, self.tell)

    def take(self, host: str, sample: HostSample, at: float) -> None:
        with self._lock:
            self.began_at = self.began_at or at
            self._tracker.take(host, sample, at)
            self._encoded.clear()

    def tell(self, host: str, app: str, kind: str, text: str) -> None:
        with self._lock:
            self.events.add(time.time(), host, app, kind, text)
            self._encoded.clear()

    # -- answers -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        hosts = [host_row(name, known) for name, known in self._tracker.hosts.items()]
        return {
            **self._about,
            "at": time.time(),
            "hosts": hosts,
            "events": self.events.newest(SHOWN_EVENTS),
            "orders": self.orders.running(),
            "is_full": self._history.is_full,
        }

    def app(self, host: str, name: str) -> dict[str, Any]:
        known, app = self._find(host, name)
        return {"workers": [worker_row(app, worker, known) for worker in app.workers]}

    def history(self, subject: Sequence[str], *, seconds: int, since: float, with_parts: bool) -> dict[str, Any]:
        return self._history.read(tuple(subject), time.time(), seconds=seconds, since=since, with_parts=with_parts)

    def log(self, host: str, name: str, slot: int, query: LogQuery) -> dict[str, Any]:
        _, app = self._find(host, name)
        worker = next((worker for worker in app.workers if worker.slot == slot), None)
        if worker is None:
            raise UsageError(f"'{name}' has no worker {slot}")
        return self._source.read_log(host, app, worker, query)._asdict()

    def _find(self, host: str, name: str) -> tuple[Any, AppFigures]:
        known = self._tracker.hosts.get(host)
        app = find_app(known, name) if known else None
        if known is None or app is None:
            raise UsageError(f"no app '{name[:80]}' runs on '{host[:80]}'")
        return known, app

    # -- routes ------------------------------------------------------------------------------------------------------

    def routes(self) -> list[HttpRoute]:
        return [
            HttpRoute("/", lambda _: page_response(), accepts="text/html"),
            HttpRoute("/assets/*", lambda request: asset_response(request.rest), Right.NOTHING),
            HttpRoute("/api/snapshot", _answering(self._answer_snapshot)),
            HttpRoute("/api/app", _answering(self._answer_app)),
            HttpRoute("/api/history", _answering(self._answer_history)),
            HttpRoute("/api/log", _answering(self._answer_log)),
            HttpRoute("/api/orders", _answering(self._answer_order), Right.ACTIONS, "POST"),
        ]

    def _answer_snapshot(self, request: HttpRequest) -> HttpResponse:
        """Encoded once for all who look."""
        right = Right.ACTIONS if request.right >= Right.ACTIONS else Right.READING
        with self._lock:
            if right not in self._encoded:
                content = {**self.snapshot(), "may_act": right is Right.ACTIONS}
                self._encoded[right] = json.dumps(content, separators=(",", ":")).encode()
            return HttpResponse(self._encoded[right], "application/json")

    def _answer_app(self, request: HttpRequest) -> HttpResponse:
        with self._lock:
            return as_json(self.app(request.one("host"), request.one("app")))

    def _answer_history(self, request: HttpRequest) -> HttpResponse:
        seconds, since = _number(request, "seconds", SPANS[0].seconds), _number(request, "since", 0)
        if int(seconds) not in [span.seconds for span in SPANS]:
            raise UsageError(f"seconds should be one of {', '.join(str(span.seconds) for span in SPANS)}")
        subject = [part for part in (request.one("host"), request.one("app")) if part]
        with self._lock:
            return as_json(
                self.history(subject, seconds=int(seconds), since=since, with_parts=request.one("parts") == "1")
            )

    def _answer_log(self, request: HttpRequest) -> HttpResponse:
        query = read_query({name: request.one(name) for name in request.query})
        slot = int(_number(request, "worker", 0))
        return as_json(self.log(request.one("host"), request.one("app"), slot, query))

    def _answer_order(self, request: HttpRequest) -> HttpResponse:
        order = read_order(_body(request))
        with self._lock:
            self._find(order.host, order.app)
        self.orders.begin(order)
        return as_json({"begun": True}, 202)


def _answering(answer: Answer) -> Answer:
    """Errors as the page reads them."""

    def answered(request: HttpRequest) -> HttpResponse:
        try:
            return answer(request)
        except PercoreError as error:
            status = 400 if isinstance(error, UsageError) else 502
            return as_json({"error": error.what, "next": error.next}, status)

    return answered


def _number(request: HttpRequest, name: str, usual: float) -> float:
    given = request.one(name)
    try:
        value = float(given) if given else float(usual)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e11:
        raise UsageError(f"{name} should be a number")
    return value


def _body(request: HttpRequest) -> Mapping[str, Any]:
    try:
        return request.json()
    except (ValueError, RecursionError):
        raise UsageError("the request should be a JSON object") from None
