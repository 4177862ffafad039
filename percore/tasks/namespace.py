"""The operator's tasks for one project, as invoke finds them in its tasks.py."""

from __future__ import annotations

from pathlib import Path

from invoke.collection import Collection

from percore.tasks import apps, completion, hosts, init, load, maintenance, project, secrets
from percore.tasks.mistyped import tell_mistyped_words

HOST_TASKS = (
    hosts.setup,
    hosts.deploy,
    hosts.plan,
    hosts.rollback,
    hosts.converge,
    hosts.lock,
    hosts.unlock,
    hosts.drain,
    hosts.undrain,
    hosts.patch,
    hosts.history,
    hosts.facts,
    hosts.drift,
    hosts.doctor,
    hosts.run,
    hosts.status,
    hosts.jobs,
    hosts.watch,
    hosts.alert,
    hosts.logs,
    hosts.flush,
    hosts.web,
    apps.start,
    apps.stop,
    apps.restart,
    apps.reload,
    apps.scale,
    apps.describe,
    load.loadtest,
    apps.remove,
    apps.startup,
    apps.unstartup,
)
PROJECT_TASKS = (
    project.build,
    project.image,
    project.nginx,
    project.kube,
    project.inventory,
    project.explain,
    project.roles,
    init.init,
    completion.completion,
)
SECRET_TASKS = (
    secrets.encrypt,
    secrets.decrypt,
    secrets.view,
    secrets.edit,
    secrets.rekey,
    secrets.encrypt_string,
)


def make_namespace(tasks_file: str) -> Collection:
    """All tasks, for the project that `tasks_file` lies in: `namespace = make_namespace(__file__)`."""
    directory = Path(tasks_file).resolve().parent
    tell_mistyped_words(directory)
    namespace = Collection(*HOST_TASKS, *PROJECT_TASKS)
    namespace.add_task(hosts.execute, name="exec")
    namespace.add_task(hosts.top)
    namespace.add_collection(Collection("secrets", *SECRET_TASKS))
    namespace.add_collection(Collection("maintenance", maintenance.on, maintenance.off))
    namespace.configure({"percore": {"project": str(directory)}})
    return namespace
