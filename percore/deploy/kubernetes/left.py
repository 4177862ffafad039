"""What has no counterpart in a cluster, or another meaning there: one sentence each, told with every run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from percore.deploy.kubernetes.amounts import in_bytes
from percore.deploy.kubernetes.apps import AppOfFile, is_reached
from percore.deploy.kubernetes.cron import seconds_left_out
from percore.deploy.kubernetes.mapping import KEYS, VARIABLES
from percore.deploy.kubernetes.model import ONCE, SERVERS, SINGLE, TIMED, Project, Workload
from percore.deploy.kubernetes.objects.exposed import GATEWAY, INGRESS, left_names, way_in
from percore.deploy.kubernetes.objects.ingress import CLASS
from percore.deploy.kubernetes.objects.jobs import schedule_of
from percore.deploy.kubernetes.quantities import workers_in
from percore.supervisor.config.address import parse_address
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.cron import parse
from percore.supervisor.config.kinds import EACH, QUEUE
from percore.supervisor.config.options import OPTIONS

_BY_ANNOTATION = (
    "nginx_body_size", "nginx_rate_limits", "nginx_connect_timeout", "nginx_read_timeout", "nginx_sticky",
)  # fmt: skip
"""Variables that only ingress-nginx knows."""

_TAKEN_ROLES = ("app", "percore", "nginx", "base", "node", "python")
"""Roles of which an image has what an app needs, or the mapping says the rest."""


def what_is_left(
    project: Project,
    apps: Sequence[AppOfFile],
    workloads: Sequence[Workload],
    variables: Sequence[str],
    roles: Iterable[str],
) -> list[str]:
    """`variables` are those that the inventory sets."""
    by_name = {app.config.name: app for app in apps}
    found = [*_image(project), *_keys(apps), *_variables(project, variables, roles), *_secrets_in_file(project, apps)]
    for workload in workloads:
        app = by_name[workload.config.name]
        found += [f"{workload.config.name}: {text}" for text in (*_of_app(app, workload), *_of_times(app, workload))]
        found += [f"{workload.config.name}: {text}" for text in _of_needs(workload, workloads)]
    return list(dict.fromkeys([*found, *_guesses(workloads)]))


def _keys(apps: Sequence[AppOfFile]) -> Iterator[str]:
    """Keys of the process file that become nothing, with the apps that have them."""
    for option in OPTIONS:
        row = KEYS[option.key]
        names = [app.config.name for app in apps if _is_set(app.raw, option.field)]
        if row.is_left and names:
            yield f"{option.key} of {', '.join(names)}: {row.difference}"


def _is_set(config: AppConfig, field: str) -> bool:
    return bool(getattr(config, field) != AppConfig._field_defaults.get(field))


def _variables(project: Project, names: Sequence[str], roles: Iterable[str]) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for name in names:
        if name in VARIABLES and VARIABLES[name].is_left and not name.startswith("ansible_") and name != "roles":
            groups.setdefault(VARIABLES[name].difference, []).append(name)
    yield from (f"{', '.join(known)}: {why}" for why, known in groups.items())
    way = way_in(project)
    annotated = [name for name in names if name in _BY_ANNOTATION]
    if annotated and (way == GATEWAY or (way == INGRESS and project.wished.ingress_class != CLASS)):
        what = "the Gateway API" if way == GATEWAY else f"an Ingress of the class '{project.wished.ingress_class}'"
        yield f"{', '.join(annotated)}: {what} has nothing for it that percore knows"
    yield from _way_in(project)
    if words := left_names(project.settings.server_name):
        yield f"server_name {' '.join(words)}: only names of hosts can be rules"
    if others := [role for role in roles if role not in _TAKEN_ROLES]:
        yield f"roles {', '.join(others)}: {VARIABLES['roles'].difference}"


def _way_in(project: Project) -> Iterator[str]:
    """Settings under `kubernetes` that are for another way in than that of this project."""
    way, wished = way_in(project), project.wished
    if way != INGRESS and (wished.ingress_annotations or wished.ingress_class != CLASS):
        yield f"ingress_annotations, ingress_class: no Ingress is written (expose: {way})"
    if way != GATEWAY and wished.gateway:
        yield f"gateway: no route is written (expose: {way})"
    if way == GATEWAY and wished.cluster_issuer:
        yield "cluster_issuer: a certificate belongs to the Gateway's listener -> annotate the Gateway for cert-manager"


def _image(project: Project) -> Iterator[str]:
    """A name without a registry is somebody else's there."""
    if not project.settings.image_repository:
        yield f"nodes look for the image '{project.name}' in their default registry -> set image_repository"


def _secrets_in_file(project: Project, apps: Sequence[AppOfFile]) -> Iterator[str]:
    names = sorted(
        {
            name
            for app in apps
            for name in app.raw.env
            if name in project.secrets and app.raw.env[name] == project.secrets[name]
        }
    )
    if names:
        yield f"{', '.join(names)}: written in the process file, and so in the image as well -> move it to the inventory"


def _of_app(app: AppOfFile, workload: Workload) -> Iterator[str]:
    config, pods = workload.config, workload.replicas
    if workload.kind == SINGLE and app.hosts > 1 and not app.is_single:
        advice = f"kubernetes.apps.{config.name}.replicas makes more"
        yield f"runs on each of {app.hosts} hosts today, and once in the cluster -> {advice}"
    if not config.autostart and workload.kind in (SERVERS, SINGLE) and not pods:
        yield f"has no pods, as autostart is false -> kubectl scale, or kubernetes.apps.{config.name}.replicas"
    if not config.autostart and workload.kind == ONCE:
        yield "no Job is written, as autostart is false"
    if config.app_metrics and workers_in(workload.workers, workload.resources.cpu_limit) > 1:
        yield f"a scrape of app_metrics reaches one worker of a pod -> kubernetes.apps.{config.name}.workers_per_pod: 1"
    if workload.port and not workload.is_port_known:
        where = f"kubernetes.apps.{config.name}.port"
        yield f"is taken to listen on {workload.port}, and is not restarted if it does not -> {where}, or none"
    if unreachable := [each for each in config.listen if not is_reached(parse_address(each))]:
        yield f"listen {', '.join(unreachable)}: reached in the pod alone"
    if config.user or config.group:
        yield f"user and group: {KEYS['user'].difference}"
    if workload.kind == SERVERS and pods > 1 and config.cron_restart:
        yield f"cron_restart: all {pods} pods at the same times, in UTC"
    most = config.max_memory_restart or 0
    count = workers_in(workload.workers, workload.resources.cpu_limit)
    if most and in_bytes(workload.resources.memory_limit) <= count * most:
        limit = workload.resources.memory_limit
        yield f"the pod's limit {limit} is reached before max_memory_restart of {count} workers: the kernel kills first"


def _of_times(app: AppOfFile, workload: Workload) -> Iterator[str]:
    config = workload.config
    times = config.job_cron or config.cron_restart or ""
    if workload.kind != TIMED:
        return
    if schedule_of(workload) is None:
        yield f"no CronJob is written, Kubernetes cannot say '{times}' -> use five fields without L and #"
        return
    if seconds_left_out(times):
        yield "begins at the minute: Kubernetes knows no seconds"
    if not config.job_timezone and not parse(times).is_hourly:
        yield "its times are in UTC, and not in the time zone of hosts" + " -> set timezone" * config.is_job
    if config.job_overlap == QUEUE:
        yield f"overlap: {KEYS['jobs: overlap'].difference}"
    if config.is_job and config.job_where == EACH and app.hosts > 1 and not app.is_single:
        yield f"runs on each of {app.hosts} hosts today, and once in the cluster"
    if not config.is_job and config.autostart:
        yield "starts at its times alone, and not with each release"


def _of_needs(workload: Workload, workloads: Sequence[Workload]) -> Iterator[str]:
    by_name = {each.config.name: each for each in workloads}
    for name in workload.config.depends_on:
        need = by_name.get(name)
        if need and need.runs_all_the_time and not need.port:
            yield f"does not wait for {name}, which has no port"


def _guesses(workloads: Sequence[Workload]) -> Iterator[str]:
    if names := [each.config.name for each in workloads if each.resources.is_guess]:
        yield (
            f"cpu and memory of {', '.join(names)} are percore's own guess -> set kubernetes.cpu and kubernetes.memory,"
            " or add --from-running where they run already"
        )
