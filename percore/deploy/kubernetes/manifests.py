"""All files of an environment. Pure but for reading the template of the README: the same input, the same bytes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percore.deploy.hand_off.files import SUMS, sums_of
from percore.deploy.kubernetes.model import ONCE, SERVERS, SINGLE, TIMED, Object, Project, Workload
from percore.deploy.kubernetes.objects import configuration, gateway, ingress, jobs
from percore.deploy.kubernetes.objects import workloads as controllers
from percore.deploy.kubernetes.objects.exposed import GATEWAY, INGRESS, front_of, has_tls, tls_name, way_in
from percore.deploy.kubernetes.objects.metrics import pod_monitor
from percore.deploy.kubernetes.objects.pods import claim_of
from percore.deploy.kubernetes.objects.service import service
from percore.deploy.kubernetes.yaml_text import yaml_text
from percore.deploy.masking import REDACTOR
from percore.deploy.plan.variables import render_text
from percore.errors import UsageError

KUSTOMIZATION, README = "kustomization.yaml", "README.md"
MOST_CONFIG = configuration.MOST_BYTES
_ROLLED = {SERVERS: "deployment", SINGLE: "statefulset"}
HEAD = "# Made by percore for the environment {env}; the next run writes it anew.\n"


@dataclass(frozen=True)
class Manifests:
    """Of one project. `before` are applied and waited for before the others."""

    project: Project
    workloads: tuple[Workload, ...]
    before: Mapping[str, list[Object]]  # by file
    others: Mapping[str, list[Object]]
    secret_file: str = ""  # empty: the Secret is only referenced


def make_manifests(project: Project, workloads: Sequence[Workload], *, with_secrets: bool) -> Manifests:
    needed = {name for each in workloads for name in each.config.depends_on}
    first = [each for each in workloads if each.kind == ONCE and each.config.name in needed]
    before = {f"{each.name}.yaml": made for each in first if (made := _of_workload(project, each))}
    if project.settings.release_command:
        before[f"{project.name}-release.yaml"] = [jobs.release_job(project, _of_release(project, workloads))]
    others = {"namespace.yaml": [configuration.namespace(project)]} if project.wished.create_namespace else {}
    secret_file = f"{project.name}-secrets.yaml" if with_secrets and project.secrets else ""
    if secret_file:
        others[secret_file] = [configuration.secret(project)]
    others |= {
        f"{each.name}.yaml": made for each in workloads if each not in first and (made := _of_workload(project, each))
    }
    others |= _way_in(project, workloads)
    return Manifests(project, tuple(workloads), before, others, secret_file)


def _of_release(project: Project, workloads: Sequence[Workload]) -> Workload:
    """The app whose environment the release command has."""
    command = project.settings.release_command
    wished = command.app if command else ""
    found = next((each for each in workloads if wished in ("", each.config.name)), None)
    if found is None:
        raise UsageError(f"'release_command' names the app '{wished}', which the process file does not have")
    if command and REDACTOR.text(command.run) != command.run:
        raise UsageError(
            "release_command holds a secret, which would be readable in the manifest",
            next="set it under 'env', and write the variable's name in the command",
        )
    return found


def _of_workload(project: Project, workload: Workload) -> list[Object]:
    if sum(map(len, (*workload.plain, *workload.plain.values()))) > MOST_CONFIG:
        raise UsageError(f"the environment of app '{workload.config.name}' is larger than a ConfigMap may be")
    config = [configuration.config_map(project, workload)] if workload.plain else []
    if workload.kind == TIMED:
        made = jobs.cron_job(project, workload)
        return [*config, made] if made else []
    if workload.kind == ONCE:
        return [*config, jobs.once_job(project, workload)] if workload.config.autostart else []
    more = (
        service(project, workload),
        controllers.disruption_budget(project, workload),
        controllers.autoscaler(project, workload),
        pod_monitor(project, workload),
    )
    return [*config, controllers.controller(project, workload), *(each for each in more if each)]


def _way_in(project: Project, workloads: Sequence[Workload]) -> dict[str, list[Object]]:
    front, way = front_of(project, workloads), way_in(project)
    if front is None:
        return {}
    if way == INGRESS:
        return {f"{project.name}-ingress.yaml": ingress.ingresses(project, front)}
    return {f"{project.name}-gateway.yaml": gateway.routes(project, front)} if way == GATEWAY else {}


# -- files ---------------------------------------------------------------------------------------------------------------


def make_files(found: Sequence[Manifests], env: str, again: str, templates: Path) -> dict[str, bytes]:
    """`again` is what the operator types to write them."""
    files: dict[str, bytes] = {}
    for manifests in found:
        for name, objects in {**manifests.others, **manifests.before}.items():
            if name in files:
                raise UsageError(
                    f"two apps of environment '{env}' would be written to {name}", next="rename one of them"
                )
            files[name] = (HEAD.format(env=env) + "---\n".join(map(yaml_text, objects))).encode()
    files[KUSTOMIZATION] = _kustomization(found, env)
    values = {"env_name": env, "again": again, "projects": [_described(each) for each in found], "files": sorted(files)}
    files[README] = render_text("kubernetes-README.md.j2", values, templates).encode()
    files[SUMS] = sums_of(files, {each.secret_file for each in found})
    return files


def _kustomization(found: Sequence[Manifests], env: str) -> bytes:
    resources = sorted(
        {name for each in found for name in each.others}, key=lambda name: (name != "namespace.yaml", name)
    )
    content = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources}
    return (HEAD.format(env=env) + yaml_text(content)).encode()


def _described(manifests: Manifests) -> dict[str, Any]:
    """For the README."""
    project = manifests.project
    jobs_before = [
        {"file": name, "job": each["metadata"]["name"]}
        for name, objects in manifests.before.items()
        for each in objects
        if each["kind"] == "Job"
    ]
    return {
        "name": project.settings.name,
        "namespace": project.namespace,
        "creates_namespace": project.wished.create_namespace,
        "image": project.image,
        "release": project.release,
        "secret_object": project.secret_name if project.secrets else "",
        "secret_keys": sorted(project.secrets),
        "secret_file": manifests.secret_file,
        "before": jobs_before,
        "rollouts": [f"{_ROLLED[each.kind]}/{each.name}" for each in manifests.workloads if each.kind in _ROLLED],
        "singles": [each.name for each in manifests.workloads if each.kind == SINGLE],
        "claims": [claim_of(project, path) for path in project.settings.shared],
        "tls": _tls_line(project) if way_in(project) == INGRESS and has_tls(project) else "",
    }


def _tls_line(project: Project) -> str:
    if project.wished.cluster_issuer:
        return ""
    words = ["kubectl", "create", "secret", "tls", tls_name(project), "--namespace", project.namespace]
    return shlex.join([*words, "--cert=CERTIFICATE.pem", "--key=KEY.pem"])
