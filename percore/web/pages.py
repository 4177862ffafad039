"""`/metrics` and `/metrics/APP`, in the format that the reader asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from percore.web.app_metrics.collect import AppMetrics
from percore.web.app_metrics.merge import one_of_each
from percore.web.http import HttpRequest, HttpResponse, HttpRoute, Right, text
from percore.web.own_metrics import ConnectionCounts, Known, own_families
from percore.web.snapshot import Snapshots


class MetricsPages:
    """`with_apps`: `/metrics` has the apps' own metrics as well."""

    def __init__(self, snapshots: Snapshots, apps: AppMetrics, *, with_apps: bool = False) -> None:
        self._snapshots = snapshots
        self._apps = apps
        self._with_apps = with_apps
        self._connections = ConnectionCounts()

    def routes(self) -> Sequence[HttpRoute]:
        return (
            HttpRoute("/metrics", self._answer, Right.FIGURES),
            HttpRoute("/metrics/*", self._answer_app, Right.FIGURES),
        )

    def families(self, *, with_apps: bool, per_worker: Optional[bool] = None) -> Iterable[Metric]:
        self._apps.refresh()
        snapshot = self._snapshots.get()
        yield from own_families(Known(snapshot, self._connections.of(snapshot), self._apps))
        if with_apps:
            names = self._apps.configured(snapshot)
            found = (self._apps.families(name, per_worker=per_worker) or () for name in names)
            yield from one_of_each(metric for metrics in found for metric in metrics)

    def app_families(self, app: str, *, per_worker: Optional[bool] = None) -> Optional[list[Metric]]:
        """None for an app without metrics."""
        self._apps.refresh()
        return self._apps.families(app, per_worker=per_worker)

    def _answer(self, request: HttpRequest) -> HttpResponse:
        wanted = request.one("apps")
        with_apps = self._with_apps if not wanted else wanted not in ("0", "false")
        return encoded(self.families(with_apps=with_apps, per_worker=_form(request)), request.headers.get("accept", ""))

    def _answer_app(self, request: HttpRequest) -> HttpResponse:
        found = self.app_families(request.rest, per_worker=_form(request))
        if found is None:
            return text("no app of this name has app_metrics in its process file", 404)
        return encoded(found, request.headers.get("accept", ""))


def _form(request: HttpRequest) -> Optional[bool]:
    """`?by=worker` or `?by=app`; otherwise as the process file says."""
    return {"worker": True, "app": False}.get(request.one("by"))


class _Families:
    """As the library's encoders want them."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def encoded(families: Iterable[Metric], accept: str) -> HttpResponse:
    encode, content_type = choose_encoder(accept)
    return HttpResponse(encode(_Families(families)), content_type)
