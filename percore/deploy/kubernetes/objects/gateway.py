"""HTTPRoute of the Gateway API, for a Gateway that is there."""

from __future__ import annotations

from percore.deploy.kubernetes.model import Object, Project, Workload
from percore.deploy.kubernetes.objects.exposed import has_tls, host_names, redirects, site_of

_API = "gateway.networking.k8s.io/v1"


def routes(project: Project, front: Workload) -> list[Object]:
    """To the app; and where https is forced, one that leads http there. The Gateway's listeners are `http` and `https`."""
    leads = has_tls(project) and redirects(project)
    section = {"sectionName": "https"} if leads else {}
    found = [_route(project, project.name, section, _to_app(project, front))]
    if leads:
        target = {"scheme": "https", "statusCode": 301}
        rule = {"filters": [{"type": "RequestRedirect", "requestRedirect": target}]}
        found.append(_route(project, f"{project.name}-redirect", {"sectionName": "http"}, rule))
    return found


def _route(project: Project, name: str, section: Object, rule: Object) -> Object:
    space, _, gateway = str(project.wished.gateway).rpartition("/")
    parent = {"name": gateway, **({"namespace": space} if space else {}), **section}
    names = host_names(project.settings.server_name)
    spec = {"parentRefs": [parent], **({"hostnames": names} if names else {}), "rules": [rule]}
    return {**project.head(_API, "HTTPRoute", name, project.name), "spec": spec}


def _to_app(project: Project, front: Workload) -> Object:
    site = site_of(project)
    match = {"path": {"type": "PathPrefix", "value": "/"}}
    rule: Object = {"matches": [match], "backendRefs": [{"name": front.name, "port": front.port}]}
    if site is not None and site.hsts:
        header = {"name": "Strict-Transport-Security", "value": site.hsts}
        rule["filters"] = [{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [header]}}]
    return rule
