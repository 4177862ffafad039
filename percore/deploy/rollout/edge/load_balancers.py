"""The load balancers that percore runs: hosts of the group `edge` with the role `loadbalancer`, and how they leave out a host.

A run that drains hosts does it as a set-up that is not confirmed. So whatever ends the run, the load balancer is as it was:
it is told to undo the change, does so by itself when it hears nothing any more, and the next run repairs one whose agent was
killed. What a person drained is confirmed, and noted there.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from percore.deploy.plan.host_state import HostState
from percore.deploy.plan.peers import EdgePeer
from percore.deploy.rollout.host import Host, lock_owner
from percore.deploy.rollout.hosts import LOAD_BALANCER, closing_hosts, connect_all, plan_hosts
from percore.deploy.rollout.parallel import Faults, try_one
from percore.deploy.rollout.scope import Scope
from percore.errors import PercoreError
from percore.host.drained import KEPT, PATH
from percore.host.tags import Selection

GROUP = "edge"
NO_PACKAGE = "none"

Entry = Mapping[str, Any]
"""A host that is left out, as `host.drained.DrainedHost` has it."""


def find_load_balancers(scope: Scope) -> list[Host]:
    """Whatever the run is limited to."""
    inventory = scope.load_inventory()
    if GROUP not in inventory.groups or not inventory.hosts_of(GROUP):
        return []
    found = plan_hosts(replace(scope, limit=GROUP), also_without_app=True)
    return [host for host in found if host.plan.has_role(LOAD_BALANCER)]


def entries_of(balancer: Host) -> list[Entry]:
    """As it told when it was reached."""
    return list(balancer.agent.facts.get("drained", ()))


def kept_entries(balancer: Host) -> list[Entry]:
    return [entry for entry in entries_of(balancer) if entry["verb"] == KEPT]


def find_drained(scope: Scope) -> tuple[list[tuple[str, Entry]], Faults]:
    """What the load balancers leave out now, each with its name; and those that give no answer."""
    balancers = find_load_balancers(scope)
    with closing_hosts(balancers):
        faults = connect_all(balancers)
        reached = [balancer for balancer in balancers if balancer.name not in faults]
        return [(balancer.name, entry) for balancer in reached for entry in entries_of(balancer)], faults


def make_entries(peers: Iterable[EdgePeer], verb: str, why: str = "") -> list[Entry]:
    moment = round(time.time())
    return [
        {"host": peer.host, "names": peer.names, "verb": verb, "who": lock_owner(), "at": moment, "why": why}
        for peer in peers
    ]


def render_drained(balancer: Host, entries: Sequence[Entry]) -> HostState:
    """What the load balancer should be with these left out: its own role alone, and the file that notes them."""
    names = [name for entry in entries for name in entry["names"]]
    state = try_one(balancer, lambda host: host.render(NO_PACKAGE, names))
    if isinstance(state, PercoreError):
        raise state
    state = state.select(Selection([LOAD_BALANCER]))
    content = (json.dumps(list(entries), indent=1) + "\n").encode()
    sha256 = hashlib.sha256(content).hexdigest()
    note = {"kind": "file", "path": PATH, "sha256": sha256, "mode": "0644", "secret": {}}
    specs = (note if entries else {"kind": "absent", "path": PATH}, *state.setup)
    return replace(state, setup=specs, files={**state.files, sha256: content})
