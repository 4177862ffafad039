"""Ingress, with the annotations of ingress-nginx for what NGINX was told on the hosts."""

from __future__ import annotations

from percore.deploy.kubernetes.model import Object, Project, Workload
from percore.deploy.kubernetes.names import object_name
from percore.deploy.kubernetes.objects.exposed import has_tls, host_names, redirects, site_of, tls_name
from percore.deploy.plan.site import SiteSettings

_PREFIX = "nginx.ingress.kubernetes.io"
CLASS = "nginx"


def ingresses(project: Project, front: Workload) -> list[Object]:
    """One, and one more for each path that has a rate of its own: an annotation is about a whole Ingress."""
    site = site_of(project)
    rates = dict(site.rate_limits) if site else {}
    first = rates.pop("/", None)
    found = [_ingress(project, front, "/", first, project.name)]
    for path, rate in rates.items():
        found.append(_ingress(project, front, path, rate, f"{project.name}-{object_name(path)}"))
    return found


def _ingress(project: Project, front: Workload, path: str, rate: str | None, name: str) -> Object:
    names = host_names(project.settings.server_name)
    backend = {"service": {"name": front.name, "port": {"name": "http"}}}
    http = {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}
    tls = (
        {"tls": [{**({"hosts": names} if names else {}), "secretName": tls_name(project)}]} if has_tls(project) else {}
    )
    spec = {
        "ingressClassName": project.wished.ingress_class,
        **tls,
        "rules": [{"host": name, "http": http} for name in names] or [{"http": http}],
    }
    annotations = {**_annotations(project, front, rate), **project.wished.ingress_annotations}
    return {**project.head("networking.k8s.io/v1", "Ingress", name, project.name, annotations), "spec": spec}


def _annotations(project: Project, front: Workload, rate: str | None) -> dict[str, str]:
    issuer = project.wished.cluster_issuer
    found = {"cert-manager.io/cluster-issuer": issuer} if issuer else {}
    site = site_of(project)
    if site is None or project.wished.ingress_class != CLASS:
        return found
    own = {
        **_of_requests(site),
        **_of_tls(project, site),
        **_of_visitors(site),
        **(_of_rate(rate, site) if rate else {}),
    }
    if front.config.health and front.config.health.startswith("https:"):
        own["backend-protocol"] = "HTTPS"
    return {**found, **{f"{_PREFIX}/{key}": value for key, value in own.items()}}


def _of_requests(site: SiteSettings) -> dict[str, str]:
    return {
        "proxy-body-size": site.body_size,
        "proxy-connect-timeout": str(site.connect_timeout),
        "proxy-read-timeout": str(site.read_timeout),
        "proxy-send-timeout": str(site.read_timeout),
    }


def _of_tls(project: Project, site: SiteSettings) -> dict[str, str]:
    """Where a load balancer in front has the certificate, its header says whether the visitor came by https."""
    if has_tls(project):
        return {"ssl-redirect": str(redirects(project)).lower()}
    return {"force-ssl-redirect": "true"} if site.redirect else {}


def _of_visitors(site: SiteSettings) -> dict[str, str]:
    if site.sticky == "cookie":
        return {"affinity": "cookie", "affinity-mode": "persistent"}
    return {"upstream-hash-by": "$remote_addr"} if site.sticky == "address" else {}


def _of_rate(rate: str, site: SiteSettings) -> dict[str, str]:
    count, _, unit = rate.partition("r/")
    burst = max(1, round(site.rate_burst / int(count)))
    return {f"limit-rp{unit}": count, "limit-burst-multiplier": str(burst)}
