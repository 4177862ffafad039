"""From the apps of a process file to workloads: which kind each is, how many pods and workers, and its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from percore.common.app_names import names_of, selector_of
from percore.deploy.kubernetes.environment import Environment
from percore.deploy.kubernetes.model import ONCE, SERVERS, SINGLE, TIMED, Project, Workload
from percore.deploy.kubernetes.names import names_of_apps
from percore.deploy.kubernetes.quantities import find_resources
from percore.deploy.kubernetes.settings import VARIABLE, PodSettings
from percore.errors import UsageError
from percore.supervisor.config.address import Address, parse_address
from percore.supervisor.config.app import AppConfig, port_in
from percore.supervisor.config.kinds import CLUSTER


@dataclass(frozen=True)
class AppOfFile:
    """An app as the process file has it, and as this environment wants it; on so many hosts it runs today."""

    raw: AppConfig
    config: AppConfig
    hosts: int
    is_single: bool  # `placement` says so, or the job's `where`


def make_workloads(
    project: Project, apps: Sequence[AppOfFile], environments: Mapping[str, Environment]
) -> list[Workload]:
    names = names_of_apps((app.config.name for app in apps), project.name)
    found = [_make(project, app, names[app.config.name], apps, environments[app.config.name]) for app in apps]
    by_name = {workload.config.name: workload for workload in found}
    return [_with_needs(workload, by_name) for workload in found]


def _make(project: Project, app: AppOfFile, name: str, apps: Sequence[AppOfFile], environment: Environment) -> Workload:
    config = app.config
    if config.name.startswith("-"):
        raise UsageError(f"app '{config.name}' cannot be named by --only", next="give it a name that begins otherwise")
    pod = project.wished.of_app(names_of(config.name, config.namespace), is_shared=config.mode == CLUSTER)
    ports = find_ports(app, apps, pod)
    workers = _workers(config, pod)
    kind = kind_of(app, pod, ports)
    _require_fit(project, app, kind)
    return Workload(
        config=config,
        name=name,
        kind=kind,
        replicas=_replicas(app, pod, kind),
        workers=workers,
        port=ports[0] if ports else None,
        more_ports=ports[1:],
        is_port_known=bool(ports) and is_port_known(app, apps, pod),
        pod=pod,
        resources=find_resources(config, pod, workers),
        plain=environment.plain,
        secret_keys=environment.secret_keys,
        arguments=arguments_of(app, apps, kind, workers),
    )


def _require_fit(project: Project, app: AppOfFile, kind: str) -> None:
    """What its own entry wishes would have no effect. Raises UsageError."""
    config = app.config
    own = project.wished.entry_of(names_of(config.name, config.namespace))
    unfit: tuple[str, ...] = ("replicas", "autoscale") if kind != SERVERS else ()
    unfit += ("port", "drain_seconds") if kind in (TIMED, ONCE) else ()
    wished = [key for key in unfit if own and getattr(own, key) not in (None, 0, 1)]
    if wished:
        why = "the app runs and ends" if kind in (TIMED, ONCE) else "'placement' says that the app runs once"
        raise UsageError(f"'{VARIABLE}.apps.{config.name}.{wished[0]}' cannot be set: {why}", next="take it out")


def is_timed(config: AppConfig) -> bool:
    """It runs at its times and ends."""
    return config.is_job or (config.cron_restart is not None and not config.autorestart)


def kind_of(app: AppOfFile, pod: PodSettings, ports: Sequence[int]) -> str:
    config = app.config
    if is_timed(config):
        return TIMED
    if not config.autorestart:
        return ONCE
    if app.is_single:
        return SINGLE
    is_wanted_often = pod.replicas is not None or pod.autoscale is not None or (bool(ports) and app.hosts > 1)
    return SERVERS if config.mode == CLUSTER or is_wanted_often else SINGLE


def _replicas(app: AppOfFile, pod: PodSettings, kind: str) -> int:
    if not app.config.autostart and not pod.replicas:
        return 0
    return (pod.replicas or max(2, app.hosts)) if kind == SERVERS else 1


def has_port_each(config: AppConfig) -> bool:
    """Its workers have ports of their own: a Service reaches one port of a pod."""
    return config.port_per_worker or config.increment_var == "PORT"


def _workers(config: AppConfig, pod: PodSettings) -> int | str:
    if pod.workers_per_pod is not None:
        return pod.workers_per_pod
    return 1 if has_port_each(config) else config.instances


def find_ports(app: AppOfFile, apps: Sequence[AppOfFile], pod: PodSettings) -> tuple[int, ...]:
    """Where it listens. PORT is given to every app, so it says something only of those that share one, or name it."""
    config = app.config
    if pod.port is not None:
        return (pod.port,) if pod.port else ()
    if not _stays(app):
        return ()
    is_only = sum(map(_stays, apps)) == 1
    known = config.port or port_in(config.env.get("PORT", ""))
    listens = [address.port for address in map(parse_address, config.listen) if is_reached(address)]
    first = [known] if known and (config.mode == CLUSTER or _says_so(app) or is_only) else []
    return tuple(dict.fromkeys([*first, *listens]))


def is_port_known(app: AppOfFile, apps: Sequence[AppOfFile], pod: PodSettings) -> bool:
    """Of several clusters that all get PORT, some may listen nowhere, and only wait for their queue."""
    clusters = [other for other in apps if _stays(other) and other.config.mode == CLUSTER]
    return pod.port is not None or _says_so(app) or bool(app.config.listen) or clusters in ([], [app])


def _says_so(app: AppOfFile) -> bool:
    raw = app.raw
    return bool(raw.port or raw.env.get("PORT") or raw.health or raw.app_metrics)


def _stays(app: AppOfFile) -> bool:
    return app.config.autorestart and not is_timed(app.config)


def is_reached(address: Address) -> bool:
    """From other pods: not a Unix socket, and not the loopback."""
    return address.port != 0 and not ip_address(address.host).is_loopback


# -- arguments -----------------------------------------------------------------------------------------------------------


def arguments_of(app: AppOfFile, apps: Sequence[AppOfFile], kind: str, workers: int | str) -> tuple[str, ...]:
    """What follows the image's entry point: this app alone, and what this environment wants otherwise than the file."""
    raw, config = app.raw, app.config
    found = ["--only", selector_of(config._asdict(), [other.config._asdict() for other in apps])]
    found += ["--run-jobs"] if kind == TIMED else []
    found += ["--json"] if config.log_type == "json" else []
    found += [f"--instances={workers}"] if workers != raw.instances else []
    found += [f"--health={config.health}"] if config.health and config.health != raw.health else []
    if config.health_host and config.health_host != raw.health_host:
        found.append(f"--health-host={config.health_host}")
    found += ["--autostart"] if not config.autostart else []  # whoever starts the pod wants it
    found += ["--depends-on=null"] if config.depends_on else []  # they run in pods of their own
    found += ["--heap-snapshots=0"] if config.heap_snapshots else []  # the home is in the pod's memory
    found += ["--no-watch"] if config.watch else []  # the files of an image stay as they are
    return tuple(found)


def _with_needs(workload: Workload, others: Mapping[str, Workload]) -> Workload:
    """It waits for the Services of what it depends on; others are started before, or cannot be waited for."""
    needs = [others[name] for name in workload.config.depends_on if name in others]
    return replace(workload, waits_for=tuple(f"{need.name}:{need.port}" for need in needs if need.port))
