"""What runs and ends: a CronJob at its times, a Job once with each release."""

from __future__ import annotations

import math

from percore.deploy.kubernetes.cron import kubernetes_schedule
from percore.deploy.kubernetes.model import APP_DIRECTORY, Object, Project, Workload
from percore.deploy.kubernetes.names import job_name
from percore.deploy.kubernetes.objects.pods import command_pod, literal, pod_template, secret_variables

_KEPT_SECONDS = 7 * 86400
_LATE_SECONDS = 120
"""Without it, a CronJob that missed a hundred times would never run again; a time that passed is not made up for."""

_ZONE = "Etc/UTC"
"""Said always: otherwise the schedule would be in the zone of the cluster's controller, whichever that is."""

_HOOKS = {
    "argocd.argoproj.io/hook": "PreSync",
    "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
    "helm.sh/hook": "pre-install,pre-upgrade",
    "helm.sh/hook-delete-policy": "before-hook-creation",
}


def cron_job(project: Project, workload: Workload) -> Object | None:
    """None where Kubernetes cannot say its times."""
    schedule = schedule_of(workload)
    if schedule is None:
        return None
    spec = {
        "schedule": schedule,
        "timeZone": workload.config.job_timezone or _ZONE,
        "concurrencyPolicy": "Forbid" if workload.config.is_job else "Replace",
        "startingDeadlineSeconds": _LATE_SECONDS,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": {
            "metadata": {"labels": project.all_labels(workload.name)},
            "spec": _job_spec(project, workload),
        },
    }
    return {**project.head("batch/v1", "CronJob", workload.name, workload.name), "spec": spec}


def schedule_of(workload: Workload) -> str | None:
    return kubernetes_schedule(workload.config.job_cron or workload.config.cron_restart or "")


def _job_spec(project: Project, workload: Workload) -> Object:
    """A run that fails has failed: it is not repeated."""
    timeout = workload.config.job_timeout
    limited = {"activeDeadlineSeconds": math.ceil(timeout)} if timeout else {}
    return {"backoffLimit": 0, **limited, "template": pod_template(project, workload)}


def once_job(project: Project, workload: Workload) -> Object:
    """Of this release."""
    spec = {"ttlSecondsAfterFinished": _KEPT_SECONDS, **_job_spec(project, workload)}
    name = job_name(workload.name, project.release, repr(spec))
    return {**project.head("batch/v1", "Job", name, workload.name), "spec": spec}


def release_job(project: Project, workload: Workload) -> Object:
    """The release command. It brings its variables along, since it runs before anything else of the release is there."""
    command = project.settings.release_command
    assert command  # asked for only where there is one
    line = f'PATH="{APP_DIRECTORY}/node_modules/.bin:{APP_DIRECTORY}/python_packages/bin:$PATH"; {command.run}'
    plain = [{"name": name, "value": literal(value)} for name, value in workload.plain.items()]
    env = [*plain, {"name": "PERCORE_RELEASE", "value": project.release}, *secret_variables(project, workload)]
    name = f"{project.name}-release"
    pod = command_pod(project, ["/bin/sh", "-c", line], env, workload)
    template = {"metadata": {"labels": project.all_labels(name)}, "spec": pod}
    spec = {"backoffLimit": 0, "ttlSecondsAfterFinished": _KEPT_SECONDS, "template": template}
    title = job_name(name, project.release, repr(spec))
    return {**project.head("batch/v1", "Job", title, name, _HOOKS), "spec": spec}
