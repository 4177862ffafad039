"""`build/nginx/ENV`: what ops need to put a load balancer in front of all hosts of an environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from pathlib import Path

from percore.deploy.command_line import relative
from percore.deploy.hand_off.files import HandOff, make_files
from percore.deploy.hand_off.settings import EdgeSettings, read_edge_settings, read_peer_settings
from percore.deploy.hand_off.write import Written, write_files
from percore.deploy.plan.peers import EdgePeer
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import plan_hosts
from percore.deploy.rollout.peers import find_peers, is_ip, read_cores
from percore.deploy.rollout.scope import Scope
from percore.deploy.shipped import shipped_directory
from percore.errors import PercoreError

TAKEN_OVER = ("nginx_port", "nginx_body_size", "nginx_certificate", "nginx_tls_port", "nginx_replaces")
"""Variables of the hosts' own sites that the load balancer knows of, or that concern the hosts alone."""


def directory_of(scope: Scope) -> Path:
    return scope.project / "build" / "nginx" / scope.env


def hand_over(scope: Scope, report: Report, hosts: Sequence[Host] = ()) -> None:
    """Of all hosts of the environment, whatever the run is limited to; `hosts` are those where they are planned already."""
    everyone = hosts if hosts and scope.limit == "all" else plan_hosts(scope.everyone)
    apps = find_apps(everyone)
    if not apps:
        report.line("load balancer: no host has a port, so there is nothing to put in front of them")
        return
    directory = directory_of(scope)
    written = write_files(directory, make_files(apps, scope.env, scope.project / "templates"))
    _show(written, apps, directory, report)


def hand_over_at_the_end(scope: Scope, report: Report, hosts: Sequence[Host]) -> None:
    """Of a run that reached its hosts. What is wrong with others must not make it fail."""
    # Nothing stands in front of the machine on which somebody tries an app.
    if hosts and scope.limit == "all" and all(host.address.local for host in hosts):
        return
    try:
        hand_over(scope, report, hosts)
    except PercoreError as error:
        report.warn(f"{relative(directory_of(scope))} stays as it was: {error}")


def _show(written: Written, apps: Sequence[HandOff], directory: Path, report: Report) -> None:
    for name in written.edited:
        report.warn(f"{relative(directory / name)} was changed by hand, and is written anew")
    for text in written.meaning or [f"~ {name}" for name in written.files]:
        report.change(text)
    for text in dict.fromkeys(text for app in apps for text in app.left):
        report.step(f"not taken over: {text}")
    report.line(f"load balancer: {relative(directory)}/ {'changed' if written.files else 'unchanged'}")


def find_apps(hosts: Sequence[Host]) -> list[HandOff]:
    by_app: dict[str, list[Host]] = {}
    for host in hosts:
        if host.app is not None:
            by_app.setdefault(host.app.name, []).append(host)
    return [made for name, members in by_app.items() if (made := _hand_off(name, members))]


def _hand_off(name: str, members: Sequence[Host]) -> HandOff | None:
    peers = find_peers(members)
    if not peers:
        return None
    first = members[0]
    settings = read_edge_settings(first.variables)
    return HandOff(
        name=name,
        env=first.scope.env,
        peers=tuple(peers),
        server_name=first.settings.server_name,
        health_path=first.settings.health_path or "/",
        settings=settings,
        left=(*_left_of_all(members, settings), *_left_of_each(members, peers)),
    )


def _left_of_all(members: Sequence[Host], settings: EdgeSettings) -> Iterator[str]:
    """What ops have to see to by themselves, of the app as a whole."""
    first = members[0]
    if not settings.certificate:
        yield "https: set edge_certificate to the path of the certificate on the load balancer"
    if names := [name for name in _own_variables(first) if name not in TAKEN_OVER]:
        yield f"{', '.join(names)}: they hold on the hosts alone"
    for path in ("templates/nginx-site.conf.j2", "roles/nginx/role.yml"):
        own = first.scope.project / path
        if first.scope.project.resolve() != shipped_directory() and own.is_file() and _differs(own, path):
            yield f"what {path} of this project adds to the hosts' sites"
    if any(read_edge_settings(host.variables) != settings for host in members):
        yield f"edge_... and nginx_body_size differ between the hosts: those of {first.name} count"


def _differs(own: Path, path: str) -> bool:
    shipped = shipped_directory() / path
    return not shipped.is_file() or shipped.read_bytes() != own.read_bytes()


def _left_of_each(members: Sequence[Host], peers: Sequence[EdgePeer]) -> Iterator[str]:
    names = {peer.host for peer in peers}
    if without := [host.name for host in members if host.name not in names]:
        yield f"{', '.join(without)}: no port"
    if far := [peer.host for peer in peers if _is_of_this_link(peer)]:
        yield f"{', '.join(far)}: the address holds on this machine's network alone; set edge_address"
    if called := [peer.address for peer in peers if not is_ip(peer.address)]:
        yield f"{', '.join(called)}: looked up once, when the load balancer starts"
    weighed = [host for host in members if host.name in names and not host.address.local]
    if unknown := [host.name for host in weighed if not _has_weight(host)]:
        yield f"weights by cores: those of {', '.join(unknown)} are known after a deploy, or set edge_weight"


def _has_weight(host: Host) -> bool:
    return host.name in read_cores(host.scope) or read_peer_settings(host.variables).weight is not None


def _is_of_this_link(peer: EdgePeer) -> bool:
    return is_ip(peer.address) and ipaddress.ip_address(peer.address.strip("[]")).is_link_local


def _own_variables(host: Host) -> list[str]:
    """Of the hosts' sites, those that are set to something else than percore has. What no role knows holds nowhere."""
    defaults = {name: value for role in host.plan.roles for name, value in role.defaults.items()}
    found = {name: value for name, value in host.plan.variables.items() if name.startswith("nginx_")}
    return sorted(name for name, value in found.items() if name in defaults and value != defaults[name])
