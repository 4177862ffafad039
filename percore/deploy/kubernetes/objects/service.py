"""One address for the pods of an app."""

from __future__ import annotations

from percore.deploy.kubernetes.model import SINGLE, Object, Project, Workload


def service(project: Project, workload: Workload) -> Object | None:
    if not workload.port:
        return None
    more = [{"name": f"port-{port}", "port": port, "targetPort": f"port-{port}"} for port in workload.more_ports]
    spec = {
        "type": "ClusterIP",
        "selector": project.labels(workload.name),
        "ports": [{"name": "http", "port": workload.port, "targetPort": "http", "protocol": "TCP"}, *more],
        **_affinity(project, workload),
    }
    return {**project.head("v1", "Service", workload.name, workload.name), "spec": spec}


def _affinity(project: Project, workload: Workload) -> Object:
    """A visitor comes back by his address where NGINX did so."""
    site = project.settings.site
    is_sticky = site is not None and site.sticky == "address" and workload.kind != SINGLE
    return {"sessionAffinity": "ClientIP"} if is_sticky else {}
