"""What each host should be. Pure: variables and roles in, one `HostPlan` per host out; nothing is asked or changed."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from percore.deploy.inventory import Inventory
from percore.deploy.plan.roles import Role, load_roles

DEFAULT_ROLES = ["app"]


@dataclass(frozen=True)
class HostPlan:
    """One host's variables and roles as written; `render` turns them into a `HostState`."""

    host: str
    env: str
    variables: Mapping[str, Any]
    roles: tuple[Role, ...]
    project: Path
    places: Mapping[str, str] = field(default_factory=dict)  # where each variable is set, as FILE:LINE
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of all roles, and the app's where that is none of them
    plans: Mapping[str, HostPlan] = field(default_factory=dict)  # of all hosts of the inventory

    @property
    def has_app(self) -> bool:
        """Others are set up, and get no release: a database server, a load balancer."""
        return any(role.name in DEFAULT_ROLES for role in self.roles)

    def has_role(self, name: str) -> bool:
        return any(role.name == name for role in self.roles)


def make_plan(
    host: str,
    variables: Mapping[str, Any],
    *,
    env: str,
    project: Path,
    places: Mapping[str, str] | None = None,
    plans: Mapping[str, HostPlan] | None = None,
) -> HostPlan:
    """Inventory variables win over roles' defaults; among the defaults, those of the role that requires the other.

    Those of the app are known on every host: what serves or guards the app asks for its name and its port.
    """
    roles = roles_of(variables, project)
    merged: dict[str, Any] = {}
    known: dict[str, str] = {}
    for role in (*load_roles(DEFAULT_ROLES, project / "roles"), *roles):
        merged.update(role.defaults)
        known.update(role.places)
    defaults = dict(merged)
    merged.update(variables)
    merged.update(own_variables(host, env, project))
    merged["role_env"] = {name: value for role in roles for name, value in role.env.items()}
    kept = {name: place for name, place in known.items() if name not in variables}
    return HostPlan(host, env, merged, roles, project, {**kept, **(places or {})}, defaults, plans or {})


def make_host_plan(host: str, inventory: Inventory, *, env: str, project: Path) -> HostPlan:
    """The plan of a host of an inventory, with where each variable was set."""
    origins = inventory.origins(host)
    variables = {name: origin.value for name, origin in origins.items()}
    known = {**variables, **inventory_variables(host, inventory)}
    places = {key: place for name, origin in origins.items() for key, place in origin.places(name).items()}
    plans = _plans_of(inventory, env, project)
    return make_plan(host, known, env=env, project=project, places=places, plans=plans)


class Plans(Mapping[str, HostPlan]):
    """Those of an inventory, each made when another host asks for a variable of it."""

    def __init__(self, inventory: Inventory, env: str, project: Path) -> None:
        self._inventory = inventory
        self._env = env
        self._project = project
        self._made: dict[str, HostPlan] = {}

    def __getitem__(self, host: str) -> HostPlan:
        if host not in self._made:
            if host not in self._inventory.host_variables:
                raise KeyError(host)
            self._made[host] = make_host_plan(host, self._inventory, env=self._env, project=self._project)
        return self._made[host]

    def __iter__(self) -> Iterator[str]:
        return iter(self._inventory.hosts)

    def __len__(self) -> int:
        return len(self._inventory.hosts)


@functools.lru_cache(maxsize=4)  # all hosts of an inventory share one
def _plans_of(inventory: Inventory, env: str, project: Path) -> Plans:
    return Plans(inventory, env, project)


def roles_of(variables: Mapping[str, Any], project: Path) -> tuple[Role, ...]:
    names = variables.get("roles", DEFAULT_ROLES)
    return load_roles(names if isinstance(names, list) else [str(names)], project / "roles")


def own_variables(host: str, env: str, project: Path) -> dict[str, Any]:
    """What percore itself sets; nothing wins over these."""
    return {
        "inventory_hostname": host,
        "inventory_hostname_short": host.partition(".")[0],
        "env_name": env,
        "project_path": str(project),
        "playbook_dir": str(project),
        "ansible_playbook_python": sys.executable,
    }


def inventory_variables(host: str, inventory: Inventory) -> dict[str, Any]:
    """What an inventory says of a host by its own shape; nothing wins over these either."""
    source = inventory.sources[host].absolute()
    return {
        "groups": _members_of(inventory),
        "group_names": sorted(set(inventory.groups_of(host)) - {"all"}),
        "inventory_file": str(source),
        "inventory_dir": str(source.parent),
    }


@functools.lru_cache(maxsize=4)  # as with the plans
def _members_of(inventory: Inventory) -> dict[str, list[str]]:
    return {name: inventory.hosts_of(name) for name in inventory.groups}


def is_true(value: object) -> bool:
    """As Ansible reads a switch: `yes`, `on`, `1` and `true`, in any case."""
    return value is True or str(value).lower() in ("yes", "on", "1", "true", "y", "t")
