"""What NGINX did on the hosts, said once for Ingress and Gateway: names, TLS, redirects."""

from __future__ import annotations

import re
from collections.abc import Sequence

from percore.deploy.kubernetes.model import Project, Workload
from percore.deploy.plan.site import SiteSettings

_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")

_ADDRESS = re.compile(r"[0-9.]+")
"""Rules have names alone."""

INGRESS, GATEWAY, NONE = "ingress", "gateway", "none"


def way_in(project: Project) -> str:
    """By which of them, where the inventory does not say: a Gateway if one is named, nothing without NGINX."""
    if project.wished.expose:
        return project.wished.expose
    if project.wished.gateway:
        return GATEWAY
    return INGRESS if project.settings.nginx else NONE


def site_of(project: Project) -> SiteSettings | None:
    return project.settings.site


def front_of(project: Project, workloads: Sequence[Workload]) -> Workload | None:
    """The app that NGINX sends requests to."""
    served = [each for each in workloads if each.port and each.runs_all_the_time]
    at_port = [each for each in served if each.port == project.settings.port]
    return next(iter(at_port or served), None)


def host_names(server_name: str) -> list[str]:
    """Those of `server_name` that are names of hosts; `.example.com` is the name and all below it."""
    found: list[str] = []
    for word in server_name.lower().split():
        found += [word[1:], f"*{word}"] if word.startswith(".") else [word]
    return list(dict.fromkeys(word for word in found if _HOST.fullmatch(word) and not _ADDRESS.fullmatch(word)))


def left_names(server_name: str) -> list[str]:
    """Regular expressions and the like."""
    known = host_names(server_name)
    return [
        word
        for word in server_name.lower().split()
        if word != "_" and word.lstrip(".") not in known and word not in known
    ]


def has_tls(project: Project) -> bool:
    """Here, and not at a load balancer in front of it."""
    site = site_of(project)
    return bool(project.wished.tls_secret or project.wished.cluster_issuer or (site and site.certificate))


def tls_name(project: Project) -> str:
    return project.wished.tls_secret or f"{project.name}-tls"


def redirects(project: Project) -> bool:
    site = site_of(project)
    if site is not None and site.redirect is not None:
        return site.redirect
    return has_tls(project)
