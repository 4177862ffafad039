"""Pods: the image with its arguments, as the profile "restricted" of the Pod Security Standards wants it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from percore.deploy.kubernetes.model import APP_DIRECTORY, SUPERVISOR_HOME, USER, Object, Project, Workload
from percore.deploy.kubernetes.names import object_names, short_hash
from percore.deploy.kubernetes.objects.configuration import config_name
from percore.deploy.kubernetes.objects.metrics import pod_annotations
from percore.deploy.kubernetes.objects.probes import make_probes

SUPERVISOR_GRACE = 5
"""Seconds: for the supervisor itself, after the last worker."""

_CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}

_OWN_MOUNTS = [{"name": "percore-home", "mountPath": SUPERVISOR_HOME}, {"name": "tmp", "mountPath": "/tmp"}]


def pod_template(project: Project, workload: Workload) -> Object:
    meta: Object = {"labels": project.all_labels(workload.name)}
    if annotations := pod_annotations(project, workload):
        meta["annotations"] = annotations
    return {"metadata": meta, "spec": pod_spec(project, workload)}


def pod_spec(project: Project, workload: Workload) -> Object:
    spec = {**_common_spec(project, workload.all_ports), "terminationGracePeriodSeconds": grace_seconds(workload)}
    if workload.kind == "servers":
        spec["topologySpreadConstraints"] = _spread(project, workload)
    if not workload.runs_all_the_time:
        spec["restartPolicy"] = "Never"
    if workload.waits_for:
        spec["initContainers"] = [_waiting(project, workload)]
    spec["containers"] = [_container(project, workload)]
    spec["volumes"] = volumes_of(project, workload.pod.writable)
    return spec


def command_pod(project: Project, command: Sequence[str], env: Sequence[Object], workload: Workload | None) -> Object:
    """For one command beside the apps, such as a migration, with the memory of the app that it belongs to."""
    container = {
        "name": "release-command",
        "image": project.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [literal(word) for word in command],
        "workingDir": APP_DIRECTORY,
        "env": list(env),
        **({"resources": _resources(workload)} if workload else {}),
        "securityContext": _CONTAINER_SECURITY,
        "volumeMounts": _mounts(project, workload.pod.writable if workload else ()),
    }
    return {
        **_common_spec(project, ()),
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": volumes_of(project, workload.pod.writable if workload else ()),
    }


def _common_spec(project: Project, ports: Sequence[int]) -> Object:
    is_low = any(port < 1024 for port in ports)
    low = {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]} if is_low else {}
    pull = project.wished.image_pull_secret
    return {
        "automountServiceAccountToken": False,
        # Otherwise each Service of the namespace would be in the environment, as API_PORT=tcp://...
        "enableServiceLinks": False,
        **({"imagePullSecrets": [{"name": pull}]} if pull else {}),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
            **low,
        },
    }


def grace_seconds(workload: Workload) -> int:
    """The pod's time to end: requests stop coming, then each worker has its `kill_timeout`."""
    return workload.drain_seconds + math.ceil(workload.config.kill_timeout) + SUPERVISOR_GRACE


def _spread(project: Project, workload: Workload) -> list[Object]:
    """Over nodes and zones as far as there are any; of each release by itself, so that a rollout ends spread as well."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": project.labels(workload.name)},
            "matchLabelKeys": ["pod-template-hash"],
        }
        for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
    ]


def _container(project: Project, workload: Workload) -> Object:
    found = {
        "name": workload.name,
        "image": project.image,
        "imagePullPolicy": "IfNotPresent",  # a release's tag never means another image
        "args": [literal(word) for word in workload.arguments],
        **({"ports": _ports(workload)} if workload.port else {}),
        **({"envFrom": [{"configMapRef": {"name": config_name(workload)}}]} if workload.plain else {}),
        **({"env": env} if (env := [*_overrides(workload), *secret_variables(project, workload)]) else {}),
        "resources": _resources(workload),
        **make_probes(workload),
    }
    if workload.drain_seconds and workload.runs_all_the_time:
        found["lifecycle"] = {"preStop": {"sleep": {"seconds": workload.drain_seconds}}}
    found["securityContext"] = _CONTAINER_SECURITY
    found["volumeMounts"] = _mounts(project, workload.pod.writable)
    return found


def _waiting(project: Project, workload: Workload) -> Object:
    waits = [f"--wait-for={address}" for address in workload.waits_for]
    return {
        "name": "wait-for-dependencies",
        "image": project.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["percore", "ready", *waits],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}},
        "securityContext": _CONTAINER_SECURITY,
        "volumeMounts": _OWN_MOUNTS,
    }


def literal(word: str) -> str:
    """Kubernetes replaces $(NAME) and $$ in commands, arguments and variables; what a program should see is escaped."""
    return re.sub(r"\$(?=[$(])", "$$", word)


def _ports(workload: Workload) -> list[Object]:
    more = [{"name": f"port-{port}", "containerPort": port, "protocol": "TCP"} for port in workload.more_ports]
    return [{"name": "http", "containerPort": workload.port, "protocol": "TCP"}, *more]


def _overrides(workload: Workload) -> list[Object]:
    """What wins over the process file of the image, as in a deploy."""
    names = sorted({*workload.plain, *workload.secret_keys})
    return [{"name": "PERCORE_OVERRIDES", "value": ",".join(names)}] if names else []


def secret_variables(project: Project, workload: Workload) -> list[Object]:
    """Each by itself: a key that the Secret lacks keeps the pod from starting, and is named."""
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": project.secret_name, "key": key}}}
        for name, key in workload.secret_keys.items()
    ]


def _resources(workload: Workload) -> Object:
    found = workload.resources
    return {
        "requests": {"cpu": found.cpu, "memory": found.memory},
        "limits": {"cpu": found.cpu_limit, "memory": found.memory_limit},
    }


# -- what can be written -----------------------------------------------------------------------------------------------


def claim_of(project: Project, directory: str) -> str:
    """The claim of a directory that outlives releases."""
    known = object_names(project.settings.shared)
    return project.wished.volumes.get(directory) or f"{project.name}-{known[directory]}"


def _shared(project: Project) -> list[tuple[str, str]]:
    return [(f"shared-{name}", path) for path, name in object_names(project.settings.shared).items()]


def _writable(project: Project, paths: Sequence[str]) -> list[tuple[str, str]]:
    """Those that are not writable anyway: a path is mounted once."""
    known = {mount["mountPath"] for mount in _OWN_MOUNTS} | {f"{APP_DIRECTORY}/{path}" for _, path in _shared(project)}
    return [(f"writable-{short_hash(path)}", path) for path in dict.fromkeys(paths) if path not in known]


def _mounts(project: Project, writable: Sequence[str]) -> list[Object]:
    return [
        *_OWN_MOUNTS,
        *({"name": name, "mountPath": path} for name, path in _writable(project, writable)),
        *({"name": name, "mountPath": f"{APP_DIRECTORY}/{path}"} for name, path in _shared(project)),
    ]


def volumes_of(project: Project, writable: Sequence[str]) -> list[Object]:
    return [
        {"name": "percore-home", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        *({"name": name, "emptyDir": {"sizeLimit": "1Gi"}} for name, _ in _writable(project, writable)),
        *(
            {"name": name, "persistentVolumeClaim": {"claimName": claim_of(project, path)}}
            for name, path in _shared(project)
        ),
    ]
