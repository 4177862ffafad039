"""The app's hosts of an environment as peers of a load balancer: their addresses, and weights by their cores.

How many cores a host has is noted when it is reached, for runs that ask no host.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from percore.common.bounds import read_file
from percore.deploy import schema
from percore.deploy.connection.openssh.config import Wish, find_route
from percore.deploy.hand_off.settings import read_peer_settings
from percore.deploy.plan.peers import EdgePeer, bracketed, weigh
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.parallel import on_all
from percore.deploy.rollout.scope import Scope
from percore.deploy.schema import read_variable
from percore.deploy.whole import replace_file

MOST_CORES = 4096


def find_peers(hosts: Sequence[Host]) -> list[EdgePeer]:
    """Those that have the app and a port. Asks no host."""
    serving = [host for host in hosts if host.app is not None and host.app.shown_port is not None]
    if not serving:
        return []
    addresses = on_all(serving, _address).results
    settings = {host.name: read_peer_settings(host.variables) for host in serving}
    own = {name: each.weight for name, each in settings.items() if each.weight}
    peers = [
        EdgePeer(host.name, addresses.get(host.name, host.name), host.settings.shown_port or 0) for host in serving
    ]
    return weigh(peers, {**read_cores(serving[0].scope), **own})


def find_monitored(hosts: Sequence[Host]) -> list[EdgePeer]:
    """Those on which `percore web` runs, with its port. Asks no host."""
    monitored = [host for host in hosts if host.plan.has_role("monitoring")]
    addresses = on_all(monitored, _address).results
    ports = {host.name: read_variable(host.variables, "web_port", schema.PORT) for host in monitored}
    return [EdgePeer(host.name, addresses.get(host.name, host.name), ports[host.name]) for host in monitored]


def _address(host: Host) -> str:
    """As the inventory has it, or the name that ssh's own configuration has for it."""
    named = read_peer_settings(host.variables).address
    if named is None and host.address.local:
        return "127.0.0.1"
    wish = host.address.ssh
    is_ssh_name = named is None and wish.host == host.name and not is_ip(wish.host)
    return bracketed(named or (_ssh_name(wish) if is_ssh_name else wish.host))


@functools.cache
def _ssh_name(wish: Wish) -> str:
    return find_route(wish).host


def is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return False
    return True


# -- cores -------------------------------------------------------------------------------------------------------------


def read_cores(scope: Scope) -> dict[str, int]:
    """By host; those that were never heard are missing."""
    try:
        found = json.loads(read_file(str(_path(scope))))
    except (OSError, ValueError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: count for name, count in pairs if isinstance(count, int) and 0 < count <= MOST_CORES}


def note_cores(scope: Scope, hosts: Iterable[Host]) -> None:
    """Of hosts that are connected. A project that cannot be written to has equal weights."""
    known = read_cores(scope)
    others = [host for host in hosts if not host.address.local]  # in front of this machine's own app is none
    heard = {host.name: min(host.remote.facts["cores"], MOST_CORES) for host in others if host.remote}
    if {**known, **heard} != known:
        with contextlib.suppress(OSError):
            replace_file(_path(scope), json.dumps({**known, **heard}, indent=1, sort_keys=True).encode())


def _path(scope: Scope) -> Path:
    return scope.project / ".percore" / "cores" / f"{scope.env}.json"
