"""What keeps pods running: a Deployment for servers, a StatefulSet of one for what must never run twice."""

from __future__ import annotations

import math

from percore.deploy.kubernetes.model import SERVERS, SINGLE, Object, Project, Workload
from percore.deploy.kubernetes.objects.pods import pod_template

_LEAST_PROGRESS = 600
_HISTORY = 5
"""Of a StatefulSet, whatever the inventory keeps on hosts: before 1.33 it cannot be changed."""


def deployment(project: Project, workload: Workload) -> Object:
    """Never fewer than wanted: a new pod is ready before an old one goes. With an autoscaler the number is its own."""
    count = {} if workload.pod.autoscale and workload.replicas else {"replicas": workload.replicas}
    settled = math.ceil(project.settings.policy.soak_seconds)
    spec = {
        **count,
        "revisionHistoryLimit": max(1, project.settings.keep_releases),
        "minReadySeconds": settled,
        "progressDeadlineSeconds": max(_LEAST_PROGRESS, math.ceil(4 * workload.config.listen_timeout)) + settled,
        "selector": {"matchLabels": project.labels(workload.name)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
        "template": pod_template(project, workload),
    }
    return {**project.head("apps/v1", "Deployment", workload.name, workload.name), "spec": spec}


def stateful_set(project: Project, workload: Workload) -> Object:
    """The only controller that waits until a pod is gone for certain before it makes another one, whatever became of its node.

    Parallel: with OrderedReady, a release that never becomes ready would keep the next one from replacing it.
    """
    spec = {
        "replicas": workload.replicas,
        "serviceName": workload.name,  # required before 1.33, also where there is no port to serve
        "podManagementPolicy": "Parallel",
        "revisionHistoryLimit": _HISTORY,
        "selector": {"matchLabels": project.labels(workload.name)},
        "updateStrategy": {"type": "RollingUpdate"},
        "template": pod_template(project, workload),
    }
    return {**project.head("apps/v1", "StatefulSet", workload.name, workload.name), "spec": spec}


def controller(project: Project, workload: Workload) -> Object:
    return deployment(project, workload) if workload.kind == SERVERS else stateful_set(project, workload)


def autoscaler(project: Project, workload: Workload) -> Object | None:
    scale = workload.pod.autoscale
    if scale is None or workload.kind != SERVERS or not workload.replicas:
        return None
    target = {"type": "Utilization", "averageUtilization": scale.cpu}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload.name},
        "minReplicas": scale.least,
        "maxReplicas": scale.most,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    head = project.head("autoscaling/v2", "HorizontalPodAutoscaler", workload.name, workload.name)
    return {**head, "spec": spec}


def disruption_budget(project: Project, workload: Workload) -> Object | None:
    """None for a single pod: it would keep a node from being drained at all."""
    least = workload.pod.autoscale.least if workload.pod.autoscale and workload.replicas else workload.replicas
    if workload.kind == SINGLE or least < 2:
        return None
    spec = {
        "maxUnavailable": 1,
        # A pod that does not work may go: otherwise a broken release would keep nodes from being drained.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": project.labels(workload.name)},
    }
    return {**project.head("policy/v1", "PodDisruptionBudget", workload.name, workload.name), "spec": spec}
