"""The tasks that read the project and ask no host."""

from __future__ import annotations

from invoke.context import Context

from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from percore.deploy.shipped import UsedFile, shipped_directory, used_files
from percore.tasks.decorators import local_scope, operator_task, project_of
from percore.tasks.environments import choose_environment


@operator_task
def build(context: Context, env: str = "") -> None:
    """Build the artifact and the load balancer's configuration, and touch no host."""
    from percore.deploy.rollout.verbs import rollout

    rollout.build_only(scope_of(context, env), Report())


@operator_task
def image(
    context: Context,
    env: str = "",
    format: str = "",
    output: str = "",
    push: bool = False,
    new_base: bool = False,
    json: bool = False,
) -> None:
    """Make a container image of what a deploy would send, with its interpreter: a tar of the OCI, or a Containerfile."""
    from percore.deploy.image.make import make_images
    from percore.deploy.image.write import ImageWish

    wish = ImageWish(output=output, format=format, push=push, new_base=new_base)
    make_images(scope_of(context, env), Report(quiet=json), wish, json=json)


@operator_task
def nginx(context: Context, env: str = "") -> None:
    """Write what a load balancer in front of the hosts needs, for NGINX and HAProxy, and show what changed. Asks no host."""
    from percore.deploy.rollout.edge.hand_off import hand_over

    hand_over(scope_of(context, env), Report())


@operator_task
def kube(
    context: Context,
    env: str = "",
    check: bool = False,
    with_secrets: bool = False,
    print_secret: bool = False,
    from_running: bool = False,
    seconds: int = 10,
) -> None:
    """Write the app as manifests for Kubernetes to build/kubernetes/ENV, and show what changed. Asks no host."""
    from percore.deploy.kubernetes import measured, verb

    scope, report = scope_of(context, env), Report()
    if print_secret:
        verb.print_secrets(scope)
        return
    uses = measured.measure(scope, report, seconds=max(1, seconds)) if from_running else {}
    measured.show_use(uses, report)
    verb.write_manifests(scope, report, check=check, with_secrets=with_secrets, uses=uses)


@operator_task
def inventory(
    context: Context, env: str = "", graph: bool = False, list: bool = False, host: str = "", limit: str = "all"
) -> None:
    """Show the hosts and groups of an environment, or with --list and --host their variables, as ansible-inventory does."""
    from percore.deploy.inventory import export, load_inventory
    from percore.deploy.inventory.patterns import select

    report, found = Report(), load_inventory(scope_of(context, env).inventory_path)
    hosts = select(found, limit)
    if host:
        report.json(export.show_host(found, host))
    elif list:
        report.json(export.list_inventory(found, hosts))
    else:
        for line in export.draw_graph(found, hosts):
            report.line(line)


@operator_task
def explain(context: Context, host: str, env: str = "", var: str = "", json: bool = False) -> None:
    """Show every layer that sets a host's variables, with file and line; the last one wins. Asks no host."""
    from percore.deploy.inventory import load_inventory
    from percore.deploy.plan import explain as explanation

    scope = scope_of(context, env)
    found = load_inventory(scope.inventory_path)
    explained = explanation.explain(found, host, scope.project, env=scope.env, variable=var or None)
    if json:
        Report().json(explained)
    else:
        explanation.show(explained, Report())


@operator_task
def roles(context: Context, json: bool = False) -> None:
    """Show the files of roles and templates that count: the project's own, or those that percore ships."""
    project = project_of(context)
    rows = [[file.path, _source(file)] for file in used_files(project)]
    if json:
        Report().json([{"path": path, "from": source} for path, source in rows])
        return
    Report().table(("file", "from"), rows)
    if project != shipped_directory():
        Report().line(
            f"percore's are in {shipped_directory()}; a file of the same path in {project} wins over one of them"
        )


def _source(file: UsedFile) -> str:
    if file.is_shipped:
        return "percore"
    return "project, instead of percore's" if file.replaces else "project"


def scope_of(context: Context, env: str) -> Scope:
    project = project_of(context)
    return local_scope(project, choose_environment(env, project, remote=False))
