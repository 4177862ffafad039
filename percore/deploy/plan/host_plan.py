"""What each host should be. Pure: variables and roles in, one `HostPlan` per host out; nothing is asked or changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from percore.deploy.inventory import Inventory
from percore.deploy.plan.batches import Policy
from percore.deploy.plan.roles import Role, load_roles
from percore.host.tags import Selection

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


@dataclass(frozen=True)
class AppSettings:
    """What the deploy itself needs to know, checked and typed. Sizes in bytes, times in seconds."""

    name: str
    path: Path
    port: int | None
    health_path: str | None
    health_seconds: float
    build_command: str | None
    install_command: str | None
    process_file: str | None
    process_env: str | None
    artifact_exclude: tuple[str, ...]
    deploy_to: str
    keep_releases: int
    percore_home: str
    percore_user: str | None
    package_path: str
    launcher_path: str
    service_manager: str
    nginx: bool
    nginx_port: int
    server_name: str
    env: Mapping[str, str] = field(repr=False)
    policy: Policy
    confirm_seconds: float
    max_clock_skew_seconds: float
    probe_max_failed_percentage: float
    probe_max_slowdown: float
    hooks: Mapping[str, tuple[str, ...]]
    placement: Mapping[str, str]
    ask_before_switch: bool

    @property
    def has_systemd(self) -> bool:
        return self.service_manager == "systemd"

    @property
    def shown_port(self) -> int | None:
        """The port a visitor uses: NGINX's where there is one."""
        return self.nginx_port if self.nginx else self.port


@dataclass(frozen=True)
class HostState:
    """Everything a host should have, ready to send. Specs are those of percore/host/resources.

    `prepare` is made while staging and stays (packages, users, directories); `before` and `after` are done when the
    apps are switched, and taken back when that fails; `handlers` run after all that, those that something notified. `files` are
    contents by SHA-256.
    """

    host: str
    settings: AppSettings
    prepare: tuple[dict[str, Any], ...]
    before: tuple[dict[str, Any], ...]
    after: tuple[dict[str, Any], ...]
    handlers: tuple[dict[str, Any], ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)

    def select(self, selection: Selection) -> HostState:
        """Only what a run is about."""
        prepare, before, after = (tuple(selection.of(specs)) for specs in (self.prepare, self.before, self.after))
        used = {spec.get("sha256") for spec in (*before, *after)}
        files = {sha256: content for sha256, content in self.files.items() if sha256 in used}
        return replace(self, prepare=prepare, before=before, after=after, files=files)

    def health(self) -> dict[str, Any]:
        settings = self.settings
        site = {"site_port": settings.nginx_port, "site_host": settings.server_name} if settings.nginx else {}
        if site.get("site_host") in ("_", ""):
            del site["site_host"]
        return {"path": settings.health_path, "seconds": settings.health_seconds, **site}

    def activation(self) -> dict[str, Any]:
        return {
            "before": list(self.before),
            "after": list(self.after),
            "handlers": list(self.handlers),
            "health": self.health(),
        }

    def resources(self) -> list[dict[str, Any]]:
        return [*self.prepare, *self.before, *self.after]

    def fingerprint(self, artifact: str, record: Mapping[str, Any]) -> str:
        """Differs when anything of the host should differ. The release's own id and path, and mere remarks, do not count."""
        wanted = json.loads(json.dumps([self.prepare, self.activation()]), object_hook=_without_remarks)
        text = json.dumps([artifact, record, wanted], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _without_remarks(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in ("tags", "secret", "shown")}


def make_plan(
    host: str, variables: Mapping[str, Any], *, env: str, project: Path, places: Mapping[str, str] | None = None
) -> HostPlan:
    """Inventory variables win over roles' defaults; among the defaults, those of the role that requires the other."""
    roles = roles_of(variables, project)
    merged: dict[str, Any] = {}
    known: dict[str, str] = {}
    for role in roles:
        merged.update(role.defaults)
        known.update(role.places)
    merged.update(variables)
    merged.update(own_variables(host, env, project))
    kept = {name: place for name, place in known.items() if name not in variables}
    return HostPlan(host, env, merged, roles, project, {**kept, **(places or {})})


def make_host_plan(host: str, inventory: Inventory, *, env: str, project: Path) -> HostPlan:
    """The plan of a host of an inventory, with where each variable was set."""
    origins = inventory.origins(host)
    variables = {name: origin.value for name, origin in origins.items()}
    groups = {name: inventory.hosts_of(name) for name in inventory.groups}
    known = {"groups": groups, "group_names": sorted(set(inventory.groups_of(host)) - {"all"})}
    places = {name: origin.place for name, origin in origins.items()}
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
