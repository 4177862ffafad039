"""What each host should be. Pure: variables and roles in, one `HostPlan` per host out; nothing is asked or changed."""

from __future__ import annotations

from collections.abc import Mapping
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
    defaults: frozenset[str] = frozenset()  # names of variables that some role has, also the app's where there is none

    @property
    def has_app(self) -> bool:
        """Others are set up, and get no release: a database server, a load balancer."""
        return any(role.name in DEFAULT_ROLES for role in self.roles)

    def has_role(self, name: str) -> bool:
        return any(role.name == name for role in self.roles)


def make_plan(
    host: str, variables: Mapping[str, Any], *, env: str, project: Path, places: Mapping[str, str] | None = None
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
    defaults = frozenset(merged)
    merged.update(variables)
    merged.update(own_variables(host, env, project))
    merged["role_env"] = {name: value for role in roles for name, value in role.env.items()}
    kept = {name: place for name, place in known.items() if name not in variables}
    return HostPlan(host, env, merged, roles, project, {**kept, **(places or {})}, defaults)


def make_host_plan(host: str, inventory: Inventory, *, env: str, project: Path) -> HostPlan:
    """The plan of a host of an inventory, with where each variable was set."""
    origins = inventory.origins(host)
    variables = {name: origin.value for name, origin in origins.items()}
    groups = {name: inventory.hosts_of(name) for name in inventory.groups}
    known = {"groups": groups, "group_names": sorted(set(inventory.groups_of(host)) - {"all"})}
    places = {key: place for name, origin in origins.items() for key, place in origin.places(name).items()}
    return make_plan(host, {**variables, **known}, env=env, project=project, places=places)


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
    }


def is_true(value: object) -> bool:
    """As Ansible reads a switch: `yes`, `on`, `1` and `true`, in any case."""
    return value is True or str(value).lower() in ("yes", "on", "1", "true", "y", "t")
