"""What the objects are made from: the `Project`, and a `Workload` for each app of its process file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from percore.deploy.kubernetes.names import label_value, object_name
from percore.deploy.kubernetes.settings import KubernetesSettings, PodSettings
from percore.deploy.plan.settings import AppSettings
from percore.supervisor.config.app import AppConfig

Object = dict[str, Any]
"""Of Kubernetes, as YAML writes it."""

SERVERS, SINGLE, TIMED, ONCE = "servers", "single", "timed", "once"
"""Kinds of workloads: a Deployment, a StatefulSet of one, a CronJob, a Job."""

APP_DIRECTORY = "/app"
USER = 10001
SUPERVISOR_HOME = "/run/percore"
"""What the image promises (docs/how-to/image.md)."""


@dataclass(frozen=True)
class Resources:
    """Of a pod, as Kubernetes writes amounts."""

    cpu: str
    cpu_limit: str
    memory: str
    memory_limit: str
    is_guess: bool = False  # nobody has said or measured it


@dataclass(frozen=True)
class Project:
    """One app of the inventory with its environment."""

    settings: AppSettings
    wished: KubernetesSettings
    env: str
    release: str
    image: str
    secrets: Mapping[str, str]  # what the Secret holds, by key

    @property
    def name(self) -> str:
        return object_name(self.settings.name)

    @property
    def namespace(self) -> str:
        return self.wished.namespace or self.name

    @property
    def secret_name(self) -> str:
        return self.wished.secrets or f"{self.name}-secrets"

    def labels(self, name: str) -> dict[str, str]:
        """Those that never change: selectors cannot."""
        instance = label_value(f"{self.settings.name}-{self.env}")
        return {"app.kubernetes.io/name": name, "app.kubernetes.io/instance": instance}

    def all_labels(self, name: str) -> dict[str, str]:
        return {
            **self.labels(name),
            "app.kubernetes.io/part-of": label_value(self.settings.name),
            "app.kubernetes.io/managed-by": "percore",
            "app.kubernetes.io/version": self.release,
        }

    def head(self, api: str, kind: str, name: str, app: str, annotations: Mapping[str, str] | None = None) -> Object:
        """How an object begins."""
        noted = {"annotations": dict(annotations)} if annotations else {}
        meta = {"name": name, "namespace": self.namespace, "labels": self.all_labels(app), **noted}
        return {"apiVersion": api, "kind": kind, "metadata": meta}


@dataclass(frozen=True)
class Workload:
    """One app: what it is, and what its pods get. `port` is the one that its Service leads to."""

    config: AppConfig
    name: str
    kind: str
    replicas: int
    workers: int | str
    port: int | None
    more_ports: tuple[int, ...]
    is_port_known: bool  # otherwise it is PORT, which it may not use
    pod: PodSettings
    resources: Resources
    plain: Mapping[str, str]
    secret_keys: Mapping[str, str]  # the key in the Secret, by variable
    arguments: tuple[str, ...]
    waits_for: tuple[str, ...] = ()  # HOST:PORT of Services

    @property
    def all_ports(self) -> tuple[int, ...]:
        return (self.port, *self.more_ports) if self.port else ()

    @property
    def drain_seconds(self) -> int:
        """Between the end of new requests, which takes a moment to reach every node, and SIGTERM."""
        if self.pod.drain_seconds is not None:
            return self.pod.drain_seconds
        return 5 if self.port else 0

    @property
    def runs_all_the_time(self) -> bool:
        return self.kind in (SERVERS, SINGLE)
