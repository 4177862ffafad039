"""The variable `kubernetes` of an inventory, checked and typed. An entry of `apps` wins for that app."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, get_type_hints

from percore.deploy import schema
from percore.deploy.kubernetes.amounts import LEAST_BYTES, cores, in_bytes, is_cpu, is_memory
from percore.deploy.plan.variables import Variables
from percore.deploy.schema import Kind, defaulting, matching, optional
from percore.errors import UsageError

VARIABLE = "kubernetes"
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = matching("a name of lower-case letters, digits and dashes", lambda text: re.fullmatch(_LABEL, text))
_DNS_NAME = matching("a name such as shop-tls", lambda text: re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", text))
_GATEWAY = matching(
    "the name of a Gateway, or NAMESPACE/NAME", lambda text: re.fullmatch(rf"({_LABEL}/)?{_LABEL}", text)
)
_CPU = Kind("an amount of CPU such as 500m, 1 or 1.5", lambda value: _to_cpu(value))
_MEMORY = matching(f"an amount of memory such as 512Mi, at least {LEAST_BYTES >> 20}Mi", is_memory)
_COUNT = schema.whole(least=1, most=1000)
_WORKERS = Kind(
    "a whole number from 1 to 512, or max",
    lambda value: "max" if value == "max" else schema.whole(1, 512).convert(value),
)
_PORT = Kind("a port from 1 to 65535, or none", lambda value: 0 if value == "none" else schema.PORT.convert(value))
_FLAG = defaulting(schema.FLAG, False)
_SECONDS = schema.whole(most=3600)
_AUTOSCALE = Kind("a mapping such as {min: 2, max: 10, cpu: 70}", lambda value: _to_autoscale(value))
_WRITABLE = Kind("an absolute path that hides neither the app nor what it runs with", lambda value: _to_writable(value))
_VOLUMES = Kind("a mapping of shared directories to claims", lambda value: _to_volumes(value))
_ANNOTATIONS = Kind("a mapping of annotations to texts", lambda value: _to_annotations(value))
_OF_IMAGE = ("/app", "/opt/percore/current", "/opt/node", "/usr/local/bin", "/usr/bin", "/usr/lib", "/lib", "/bin", "/etc",
             "/proc", "/sys", "/dev")  # fmt: skip
_ANNOTATION = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Autoscale:
    """Between so many pods, by the use of what they request. `cpu` is a percentage."""

    least: int
    most: int
    cpu: int


@dataclass(frozen=True)
class PodSettings:
    """Of each app; what is None is worked out from the process file. Amounts as Kubernetes writes them."""

    replicas: Annotated[int | None, optional(_COUNT)]
    workers_per_pod: Annotated[int | str | None, optional(_WORKERS)]
    port: Annotated[int | None, optional(_PORT)]  # 0: none
    cpu: Annotated[str | None, optional(_CPU)]
    cpu_limit: Annotated[str | None, optional(_CPU)]
    memory: Annotated[str | None, optional(_MEMORY)]
    memory_limit: Annotated[str | None, optional(_MEMORY)]
    autoscale: Annotated[
        Autoscale | None,
        optional(_AUTOSCALE),
    ]
    drain_seconds: Annotated[int | None, optional(_SECONDS)]
    writable: Annotated[tuple[str, ...], defaulting(schema.lists_of(_WRITABLE), ())]


@dataclass(frozen=True)
class KubernetesSettings:
    """Of the project. `secrets` names the Secret, `volumes` the claim of each shared directory."""

    pod: PodSettings
    apps: Mapping[str, PodSettings]
    namespace: Annotated[str | None, optional(_NAME)]
    create_namespace: Annotated[bool, _FLAG]
    image_pull_secret: Annotated[str | None, optional(_DNS_NAME)]
    secrets: Annotated[str | None, optional(_DNS_NAME)]
    volumes: Annotated[
        Mapping[str, str],
        defaulting(_VOLUMES, {}),
    ]
    expose: Annotated[str | None, optional(schema.choice("ingress", "gateway", "none"))]
    ingress_class: Annotated[str, defaulting(_NAME, "nginx")]
    ingress_annotations: Annotated[
        Mapping[str, str],
        defaulting(_ANNOTATIONS, {}),
    ]
    gateway: Annotated[str | None, optional(_GATEWAY)]
    tls_secret: Annotated[str | None, optional(_DNS_NAME)]
    cluster_issuer: Annotated[str | None, optional(_DNS_NAME)]
    metrics: Annotated[str, defaulting(schema.choice("annotations", "podmonitor", "none"), "annotations")]

    def of_app(self, names: Sequence[str], *, is_shared: bool) -> PodSettings:
        """What counts for the app that has one of these names. How many there are of a singleton, only its own entry says."""
        own = self.entry_of(names)
        known = (
            self.pod if is_shared else replace(self.pod, replicas=None, autoscale=None, workers_per_pod=None, port=None)
        )
        return _laid_over(known, own) if own else known

    def entry_of(self, names: Sequence[str]) -> PodSettings | None:
        """What `apps` says of the app that has one of these names."""
        return next((self.apps[name] for name in names if name in self.apps), None)


OF_PODS = tuple(each.name for each in fields(PodSettings))
KEYS = tuple(each.name for each in fields(KubernetesSettings) if each.name != "pod") + OF_PODS
"""Of the variable `kubernetes`."""


def read_kubernetes(variables: Variables) -> KubernetesSettings:
    """Raises UsageError that names the key and its place."""
    written = schema.MAPPING.read(variables.get(VARIABLE) or {}, f"variable '{VARIABLE}'", variables.where(VARIABLE))
    section = _Section(variables, VARIABLE, written)
    section.require(KEYS)
    apps = section.mapping("apps")
    own = {str(name): _read_pod(section.inner("apps", name, entry)) for name, entry in apps.items()}
    found = KubernetesSettings(_read_pod(section), own, **section.read(KubernetesSettings))
    if found.expose == "gateway" and not found.gateway:
        raise UsageError(
            f"{VARIABLE}.gateway is not set", where=section.where("expose"), next="name the Gateway: NAMESPACE/NAME"
        )
    _require_room(found.pod, section)
    for name, pod in own.items():
        _require_room(_laid_over(found.pod, pod), section.inner("apps", name, apps[name]))
    return found


def _require_room(pod: PodSettings, section: _Section) -> None:
    """A server refuses pods that request more than they may have."""
    for key, asked, limit, size in (
        ("cpu", pod.cpu, pod.cpu_limit, cores),
        ("memory", pod.memory, pod.memory_limit, in_bytes),
    ):
        if asked and limit and size(asked) > size(limit):
            raise UsageError(
                f"'{section.path}': {key} {asked} is more than {key}_limit {limit}",
                where=section.where(key if key in section.written else f"{key}_limit"),
                next=f"request at most the limit, or raise {key}_limit",
            )


def _read_pod(section: _Section) -> PodSettings:
    if section.path != VARIABLE:
        section.require(OF_PODS)
    return PodSettings(**section.read(PodSettings))


def _laid_over(pod: PodSettings, own: PodSettings) -> PodSettings:
    changed = {name: value for name in OF_PODS if (value := getattr(own, name)) is not None and value != ()}
    return replace(pod, **changed)


@dataclass(frozen=True)
class _Section:
    """A mapping of the inventory, with the names and places that errors tell."""

    variables: Variables
    path: str
    written: Mapping[str, Any]

    def where(self, key: str = "") -> str:
        place = self.variables.place(f"{self.path}.{key}") or self.variables.place(VARIABLE)
        return self.variables.where(place=place)

    def require(self, known: Sequence[str]) -> None:
        for key in self.written:
            schema.require_keys({key: None}, known, self.path, self.where(str(key)))

    def mapping(self, key: str) -> Mapping[str, Any]:
        return schema.MAPPING.read(self.written.get(key) or {}, f"'{self.path}.{key}'", self.where(key))

    def inner(self, key: str, name: object, entry: Any) -> _Section:
        path = f"{self.path}.{key}.{name}"
        return _Section(self.variables, path, schema.MAPPING.read(entry, f"'{path}'", self.where(key)))

    def read(self, made: Any) -> dict[str, Any]:
        """The values of its fields that are annotated with a kind."""
        hints = get_type_hints(made, include_extras=True)
        kinds = {name: kind for name, hint in hints.items() for kind in getattr(hint, "__metadata__", ())}
        return {
            name: kind.read(self.written.get(name), f"'{self.path}.{name}'", self.where(name))
            for name, kind in kinds.items()
        }


def _to_cpu(value: Any) -> str:
    text = str(value) if isinstance(value, float) else schema.TEXT.convert(value)
    if not is_cpu(text):
        raise ValueError
    return text


def _to_writable(value: Any) -> str:
    """What is mounted over a directory hides what the image has there."""
    path = posixpath.normpath(schema.SAFE_PATH.convert(value))
    if any(place == path or place.startswith(f"{path.rstrip('/')}/") for place in _OF_IMAGE):
        raise ValueError
    return path


def _to_autoscale(value: Any) -> Autoscale:
    written = schema.MAPPING.convert(value)
    if set(written) - {"min", "max", "cpu"} or "max" not in written:
        raise ValueError
    least, most = _COUNT.convert(written.get("min", 2)), _COUNT.convert(written["max"])
    if least > most:
        raise ValueError
    return Autoscale(least, most, schema.whole(1, 100).convert(written.get("cpu", 70)))


def _to_volumes(value: Any) -> dict[str, str]:
    return {
        schema.INNER_PATH.convert(at): _DNS_NAME.convert(name) for at, name in schema.MAPPING.convert(value).items()
    }


def _to_annotations(value: Any) -> dict[str, str]:
    found = {str(name): schema.ENVIRONMENT_VALUE.convert(text) for name, text in schema.MAPPING.convert(value).items()}
    if not all(map(_ANNOTATION.fullmatch, found)):
        raise ValueError
    return found
