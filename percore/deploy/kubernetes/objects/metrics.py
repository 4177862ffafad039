"""How a Prometheus in the cluster finds the app's own metrics."""

from __future__ import annotations

import re

from percore.deploy.kubernetes.model import Object, Project, Workload

ANNOTATIONS, POD_MONITOR = "annotations", "podmonitor"
_ADDRESS = re.compile(r"(https?)://[^/]*(/.*)?")


def has_metrics(workload: Workload) -> bool:
    return bool(workload.config.app_metrics) and workload.runs_all_the_time and _port(workload) is not None


def _port(workload: Workload) -> int | None:
    return workload.config.app_metrics_port or workload.port


def _scheme_and_path(workload: Workload) -> tuple[str, str]:
    written = str(workload.config.app_metrics)
    found = _ADDRESS.fullmatch(written)
    return (found[1], found[2] or "/") if found else ("http", written)


def pod_annotations(project: Project, workload: Workload) -> dict[str, str]:
    if project.wished.metrics != ANNOTATIONS or not has_metrics(workload):
        return {}
    scheme, path = _scheme_and_path(workload)
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/scheme": scheme,
        "prometheus.io/path": path,
        "prometheus.io/port": str(_port(workload)),
    }


def pod_monitor(project: Project, workload: Workload) -> Object | None:
    if project.wished.metrics != POD_MONITOR or not has_metrics(workload):
        return None
    scheme, path = _scheme_and_path(workload)
    endpoint = {"portNumber": _port(workload), "path": path, "scheme": scheme}
    spec = {"selector": {"matchLabels": project.labels(workload.name)}, "podMetricsEndpoints": [endpoint]}
    return {**project.head("monitoring.coreos.com/v1", "PodMonitor", workload.name, workload.name), "spec": spec}
