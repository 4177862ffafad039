"""How the kubelet learns what the supervisor in the pod knows: started, ready, alive."""

from __future__ import annotations

import math
import re

from percore.deploy.kubernetes.model import Object, Workload

_STARTUP_PERIOD, _COMMAND_PERIOD, _LIVENESS_PERIOD = 2, 3, 10
_SUPERVISOR_SECONDS = 10
"""For the image's own start, on a node that is busy."""

_ADDRESS = re.compile(r"(https?|h2c?)://([^/]*)(/.*)?")


def make_probes(workload: Workload) -> Object:
    """None for what runs and ends. Where there is no HTTP check, the supervisor says whether all workers are ready."""
    if not workload.runs_all_the_time:
        return {}
    by_http = http_check(workload)
    check = by_http or _command_check(workload)
    return {
        "startupProbe": _startup(workload, check, _STARTUP_PERIOD if by_http else _COMMAND_PERIOD),
        "readinessProbe": {
            **check,
            "periodSeconds": _interval(workload, by_http),
            "timeoutSeconds": 5,
            "failureThreshold": 2,
        },
        **_liveness(workload, by_http),
    }


def http_check(workload: Workload) -> Object | None:
    """None also for HTTP/2 without TLS, which the kubelet does not speak."""
    health, host, scheme = workload.config.health, workload.config.health_host, "HTTP"
    if not health or not workload.port:
        return None
    if found := _ADDRESS.fullmatch(health):
        if found[1] in ("h2c", "h2"):
            return None
        scheme, host, health = found[1].upper(), found[2] or host, found[3] or "/"
    named = {"httpHeaders": [{"name": "Host", "value": host}]} if host else {}
    return {"httpGet": {"path": health, "port": "http", "scheme": scheme, **named}}


def _command_check(workload: Workload) -> Object:
    return {"exec": {"command": ["percore", "ready", workload.config.name]}}


def _interval(workload: Workload, by_http: Object | None) -> int:
    least = 1 if by_http else _COMMAND_PERIOD
    return min(60, max(least, round(workload.config.health_interval))) if workload.config.health_interval else 10


def _startup(workload: Workload, check: Object, period: int) -> Object:
    """A pod that is not ready within `listen_timeout` has failed, as a worker has."""
    times = math.ceil((workload.config.listen_timeout + _SUPERVISOR_SECONDS) / period)
    return {**check, "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": times}


def _liveness(workload: Workload, by_http: Object | None) -> Object:
    """Twice the supervisor's own patience: it replaces a worker that hangs, and the kubelet what it could not help."""
    patience = workload.config.liveness_timeout
    if not workload.port or not patience or not (by_http or workload.is_port_known):
        return {}  # where nobody listens, the kubelet would restart it for ever
    check = by_http or {"tcpSocket": {"port": "http"}}
    times = math.ceil(2 * patience / _LIVENESS_PERIOD)
    return {
        "livenessProbe": {
            **check,
            "periodSeconds": _LIVENESS_PERIOD,
            "timeoutSeconds": 5,
            "failureThreshold": max(3, times),
        }
    }
