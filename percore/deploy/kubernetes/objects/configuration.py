"""ConfigMap and Secret. A ConfigMap has the hash of its content in its name, and is never changed: pods that run keep theirs,
new content makes new pods, and a rollback finds what it had."""

from __future__ import annotations

import base64

from percore.deploy.kubernetes.model import Object, Project, Workload
from percore.deploy.kubernetes.names import short_hash

MOST_BYTES = 900_000
"""Of a ConfigMap or Secret, a little less than etcd takes."""


def config_name(workload: Workload) -> str:
    return f"{workload.name}-env-{short_hash(repr(sorted(workload.plain.items())))}"


def config_map(project: Project, workload: Workload) -> Object:
    head = project.head("v1", "ConfigMap", config_name(workload), workload.name)
    del head["metadata"]["labels"]["app.kubernetes.io/version"]  # the same content is the same object
    return {**head, "immutable": True, "data": dict(workload.plain)}


def secret(project: Project) -> Object:
    """Its name stays, so that a reference to it does as well. Not `stringData`: of that, `kubectl apply` takes no key away."""
    head = project.head("v1", "Secret", project.secret_name, project.name)
    del head["metadata"]["labels"]["app.kubernetes.io/version"]
    data = {key: base64.b64encode(value.encode()).decode() for key, value in sorted(project.secrets.items())}
    return {**head, "type": "Opaque", "data": data}


def namespace(project: Project) -> Object:
    level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    labels = {**level, "app.kubernetes.io/managed-by": "percore"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": project.namespace, "labels": labels}}
