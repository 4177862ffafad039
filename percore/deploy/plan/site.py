"""The host's own site: the variables of its template, checked and typed. Their defaults are those of the role `nginx`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from percore.common import names
from percore.deploy import schema
from percore.deploy.plan.variables import Variables
from percore.deploy.schema import Kind, defaulting, matching, read_fields
from percore.errors import UsageError

_DIRECTIVE = 1, 25, 1
"""NGINX from which on HTTP/2 is a directive of its own."""


def _to_network(value: Any) -> str:
    """As NGINX takes it: no bits behind the network's."""
    text = schema.TEXT.convert(value)
    return str(ipaddress.ip_network(text, strict=False)) if "/" in text else str(ipaddress.ip_address(text))


def _to_static(value: Any) -> dict[str, str]:
    found = schema.MAPPING.convert(value)
    return {_to_prefix(path): _INNER.convert(directory).rstrip("/") for path, directory in found.items()}


def _to_prefix(value: Any) -> str:
    """Of a directory: the slash at the end keeps /assets from being the beginning of /assets-of-others."""
    path = schema.TEXT.convert(value)
    if not re.fullmatch(r"/([\w.@+~-]+/?)*", path):
        raise ValueError
    return path if path.endswith("/") else f"{path}/"


def _to_limits(value: Any) -> dict[str, str]:
    found = schema.MAPPING.convert(value)
    if not all(isinstance(path, str) and re.fullmatch(r"/[\w.@+~/-]*", path) for path in found):
        raise ValueError
    return {path: _RATE.convert(rate) for path, rate in found.items()}


_ADDRESSES = Kind(
    "a list of addresses and networks, such as [10.0.0.5, 10.1.0.0/16]",
    lambda value: tuple(map(_to_network, value if isinstance(value, list) else [value])),
)
_INNER = matching("", names.is_plain_inner_path)
_RATE = matching("", lambda text: re.fullmatch(r"[1-9][0-9]{0,6}r/[sm]", text))
_STATIC = Kind("a mapping of paths to directories of the release, such as {/assets: dist/assets}", _to_static)
_LIMITS = Kind("a mapping of paths to rates, such as {/login: 30r/m}", _to_limits)
_SECONDS = schema.whole(least=1, most=604_800)
_SIZE = matching("a size such as 10m", lambda text: re.fullmatch(r"[0-9]{1,9}[kKmMgG]?", text))
_HEADER = matching("the name of a header", lambda text: re.fullmatch(r"[A-Za-z0-9-]{1,40}", text))
_HSTS = matching(
    "a value such as 'max-age=31536000; includeSubDomains'",
    lambda text: re.fullmatch(r"max-age=[0-9]{1,9}(; ?includeSubDomains)?(; ?preload)?", text),
)
_TARGET = matching("HOST:PORT", lambda text: re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}", text))
_COUNT = schema.whole(least=1, most=1000)
_WORKERS = Kind(
    "a whole number from 1 to 1000, or max", lambda value: "max" if value == "max" else _COUNT.convert(value)
)
_FLAG_OR_NONE = schema.optional(schema.FLAG)
_PATH_OR_NONE = schema.optional(schema.SAFE_PATH)
_TEXT_OR_NONE = schema.optional(schema.TEXT)


@dataclass(frozen=True)
class SiteSettings:
    """What the template `nginx-site.conf.j2` knows as `nginx_site`. Times in seconds.

    A variable that is missing has the default of the role, for projects whose own role `nginx` is older than it.
    """

    server_name: Annotated[str, schema.SERVER_NAME]
    port: Annotated[int, schema.PORT.of("nginx_port")]
    keepalive: Annotated[int, defaulting(schema.whole(most=10_000), 0).of("nginx_upstream_keepalive")]
    body_size: Annotated[str, defaulting(_SIZE, "10m").of("nginx_body_size")]
    load_balancers: Annotated[tuple[str, ...], defaulting(_ADDRESSES, ())]
    real_ip_header: Annotated[str, defaulting(_HEADER, "X-Forwarded-For").of("nginx_real_ip_header")]
    certificate: Annotated[str | None, _PATH_OR_NONE.of("nginx_certificate")]
    certificate_key: Annotated[str | None, _PATH_OR_NONE.of("nginx_certificate_key")]
    tls_port: Annotated[int, defaulting(schema.PORT, 443).of("nginx_tls_port")]
    http2: Annotated[bool, defaulting(schema.FLAG, True).of("nginx_http2")]
    redirect: Annotated[bool | None, _FLAG_OR_NONE.of("nginx_redirect")]
    hsts: Annotated[str | None, schema.optional(_HSTS).of("nginx_hsts")]
    acme: Annotated[str | None, schema.optional(_TARGET).of("nginx_acme")]
    ipv6: Annotated[bool, defaulting(schema.FLAG, True).of("nginx_ipv6")]
    connect_timeout: Annotated[int, defaulting(_SECONDS, 5).of("nginx_connect_timeout")]
    read_timeout: Annotated[int, defaulting(_SECONDS, 60).of("nginx_read_timeout")]
    websocket_timeout: Annotated[int, defaulting(_SECONDS, 3600).of("nginx_websocket_timeout")]
    gzip: Annotated[bool, defaulting(schema.FLAG, False).of("nginx_gzip")]
    static: Annotated[Mapping[str, str], defaulting(_STATIC, {}).of("nginx_static")]
    rate_limits: Annotated[Mapping[str, str], defaulting(_LIMITS, {}).of("nginx_rate_limits")]
    rate_burst: Annotated[int, defaulting(schema.whole(least=1, most=100_000), 20).of("nginx_rate_burst")]
    upstream: Annotated[str, defaulting(schema.choice("shared", "per_worker"), "shared").of("nginx_upstream")]
    workers: Annotated[int | str, defaulting(_WORKERS, "max").of("nginx_upstream_workers")]
    sticky: Annotated[str | None, schema.optional(schema.choice("cookie", "address")).of("nginx_sticky")]
    maintenance_retry: Annotated[int, defaulting(_SECONDS, 60).of("nginx_maintenance_retry")]
    http_snippet: Annotated[str | None, _TEXT_OR_NONE.of("nginx_http_snippet")]
    server_snippet: Annotated[str | None, _TEXT_OR_NONE.of("nginx_server_snippet")]
    location_snippet: Annotated[str | None, _TEXT_OR_NONE.of("nginx_location_snippet")]

    @property
    def ports(self) -> tuple[int, ...]:
        """Where visitors come in."""
        return (self.port, self.tls_port) if self.certificate else (self.port,)

    @property
    def redirects(self) -> bool:
        """Plain http leads to https; where a load balancer has the certificate, only if asked for."""
        return bool(self.certificate) if self.redirect is None else self.redirect

    def has_http2_directive(self, facts: Mapping[str, Any]) -> bool:
        """Of the NGINX there, or of the one that the host's Debian would bring."""
        found = str(facts.get("nginx_version") or ("1.26" if facts.get("os_codename") in ("trixie", "sid") else "1.0"))
        return tuple(int(part) for part in re.findall(r"[0-9]+", found)[:3]) >= _DIRECTIVE

    def worker_ports(self, first: int, facts: Mapping[str, Any]) -> list[int]:
        count = facts.get("cores", 1) if self.workers == "max" else int(self.workers)
        return [first + number for number in range(count)]


def read_site(variables: Variables) -> SiteSettings:
    """Raises UsageError that names the variable that does not fit, or does not fit to another one."""
    site = SiteSettings(**read_fields(SiteSettings, variables))
    for is_wrong, name, fault, advice in (
        (
            site.sticky is not None and site.upstream == "shared",
            "nginx_sticky",
            "visitors come back to the same worker only where each worker has a port of its own",
            "set nginx_upstream: per_worker here, and port_per_worker: true in the process file",
        ),
        (
            site.certificate_key is not None and site.certificate is None,
            "nginx_certificate_key",
            "there is a key without a certificate",
            "set nginx_certificate",
        ),
        (
            site.redirects and not (site.certificate or site.load_balancers),
            "nginx_redirect",
            "https is served neither here nor by a load balancer",
            "set nginx_certificate, or load_balancers",
        ),
        (
            site.hsts is not None and not (site.certificate or site.load_balancers),
            "nginx_hsts",
            "https is served neither here nor by a load balancer",
            "set nginx_certificate, or load_balancers",
        ),
        (
            site.certificate is not None and site.tls_port == site.port,
            "nginx_tls_port",
            "http and https need different ports",
            "set nginx_port or nginx_tls_port",
        ),
        (
            bool({f"{path.rstrip('/')}/" for path in site.rate_limits} & (site.static.keys() - {"/"})),
            "nginx_rate_limits",
            "a path of static files has no rate limit",
            "take it out of nginx_rate_limits or of nginx_static",
        ),
    ):
        if is_wrong:
            raise UsageError(f"{name}: {fault}", where=variables.where(name), next=advice)
    return site


def upstream_fault(site: SiteSettings, port: int, record: Mapping[str, Any], cores: int) -> str:
    """Why NGINX would reach some workers only, or ports without a worker; empty where it reaches them all."""
    told = (app for app in record["apps"] if str(app.get("port") or app.get("env", {}).get("PORT")) == str(port))
    return next((fault for app in told if (fault := _fault_of(site, app, cores))), "")


def _fault_of(site: SiteSettings, app: Mapping[str, Any], cores: int) -> str:
    has_each = bool(app.get("port_per_worker")) or app.get("increment_var") == "PORT"
    count, name = _count_workers(app.get("instances", 1), cores), app["name"]
    if site.upstream == "shared":
        advice = "NGINX asks the first one alone -> set nginx_upstream: per_worker"
        return f"each worker of {name} has a port of its own; {advice}" if has_each and count > 1 else ""
    asked = len(site.worker_ports(0, {"cores": cores}))
    if not has_each and count > 1:
        return f"the workers of {name} share a port -> set port_per_worker: true in the process file"
    if count != asked:
        return f"{name} has {count} workers, and NGINX asks {asked} -> set nginx_upstream_workers: {count}"
    return ""


def _count_workers(instances: int | str, cores: int) -> int:
    wished = cores if instances in ("max", 0) else int(instances)
    return wished if wished > 0 else max(1, cores + wished)
