"""From the hosts of an environment and the built app to a `Project` and its apps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from percore.common.app_names import names_of
from percore.deploy.build.artifact import Artifact
from percore.deploy.image.reference import image_reference, image_release, require_repository
from percore.deploy.kubernetes.apps import AppOfFile
from percore.deploy.kubernetes.environment import Environment, split_environments
from percore.deploy.kubernetes.model import Project
from percore.deploy.kubernetes.names import names_of_apps, object_name
from percore.deploy.kubernetes.objects.exposed import host_names
from percore.deploy.kubernetes.reading.app_files import read_apps
from percore.deploy.kubernetes.settings import VARIABLE, KubernetesSettings, read_kubernetes
from percore.deploy.masking import REDACTOR
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.hosts import same_for_all
from percore.deploy.schema import suggest
from percore.errors import UsageError


@dataclass(frozen=True)
class ReadProject:
    """A project, its apps, and the variables of each; `variables` are those that its inventory sets."""

    project: Project
    apps: tuple[AppOfFile, ...]
    environments: dict[str, Environment]
    variables: tuple[str, ...]
    roles: tuple[str, ...]


def read_wishes(hosts: Sequence[Host]) -> KubernetesSettings:
    """Of all hosts of one app: what can be judged before it is built. Raises UsageError."""
    first = hosts[0]
    wished = same_for_all(hosts, lambda host: read_kubernetes(host.variables), f"variable '{VARIABLE}'")
    where = first.variables.where(VARIABLE)
    require_repository(first.settings)
    if unknown := sorted({*wished.volumes} - {*first.settings.shared}):
        raise UsageError(
            f"'{VARIABLE}.volumes' names '{unknown[0]}', which is no directory of 'shared'",
            where=where,
            next=suggest(unknown[0], first.settings.shared, "name it there as well, or take it out"),
        )
    if wished.cluster_issuer and not host_names(first.settings.server_name):
        raise UsageError(
            f"'{VARIABLE}.cluster_issuer': no certificate is made without a name of a host",
            where=where,
            next="set server_name",
        )
    return wished


def read_project(hosts: Sequence[Host], wished: KubernetesSettings, artifact: Artifact, report: Report) -> ReadProject:
    """Of all hosts of one app."""
    first = hosts[0]
    settings = first.settings
    release = image_release(settings, artifact)
    apps = read_apps(hosts, settings, artifact, release, report)
    for app in apps:
        REDACTOR.hide_environment(app.config.env)
    names = [app.config.name for app in apps]
    if unknown := sorted(
        {*wished.apps} - {known for app in apps for known in names_of(app.config.name, app.config.namespace)}
    ):
        raise UsageError(
            f"'{VARIABLE}.apps' names '{unknown[0]}', which is no app of {settings.name}",
            where=first.variables.where(VARIABLE),
            next=f"its apps: {', '.join(sorted(names))}",
        )
    environments, held = split_environments(
        [app.config for app in apps],
        first.variables.get("secrets") or [],
        names_of_apps(names, object_name(settings.name)),
    )
    project = Project(settings, wished, first.scope.env, release, image_reference(settings, release), held)
    return ReadProject(project, tuple(apps), environments, *_set_by_inventory(first))


def _set_by_inventory(host: Host) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Variables that are not what the roles have, and the names of the roles."""
    defaults = host.plan.defaults
    found = [name for name, value in host.plan.variables.items() if name in defaults and value != defaults[name]]
    others = [name for name in host.plan.variables if name not in defaults]
    return tuple(sorted([*found, *others])), tuple(role.name for role in host.plan.roles)
