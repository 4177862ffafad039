"""The configuration of a load balancer in front of the hosts."""

from __future__ import annotations

from collections.abc import Sequence

from percore.deploy.plan.variables import render_text
from percore.deploy.rollout.host import Host


def write_edge_config(hosts: Sequence[Host]) -> None:
    """`build/nginx/<env>/<app>.conf`: what a load balancer in front of the hosts needs."""
    by_app: dict[str, list[Host]] = {}
    for host in hosts:
        by_app.setdefault(host.settings.name, []).append(host)
    for name, members in by_app.items():
        servers = [
            {"host": host.name, "address": "127.0.0.1" if host.address.local else host.address.address, "port": port}
            for host in members
            if (port := host.settings.shown_port) is not None
        ]
        if not servers:
            continue
        scope = hosts[0].scope
        values = {
            "app_name": name,
            "env_name": scope.env,
            "servers": servers,
            "server_name": members[0].settings.server_name,
            "nginx_body_size": members[0].variables.get("nginx_body_size", "10m"),
        }
        path = scope.project / "build" / "nginx" / scope.env / f"{name}.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render_text("nginx-edge.conf.j2", values, scope.project / "templates"))
