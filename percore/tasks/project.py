"""The tasks that read the project and ask no host."""

from __future__ import annotations

import os

from invoke.context import Context

from percore.deploy.inventory import export, find_inventory, load_inventory
from percore.deploy.inventory.patterns import select
from percore.deploy.plan import explain as explanation
from percore.deploy.report import Report
from percore.deploy.rollout import rollout
from percore.deploy.rollout.host import Scope
from percore.tasks.decorators import operator_task, project_of


@operator_task
def build(context: Context, env: str = "local") -> None:
    """Build the artifact and the load balancer's configuration, and touch no host."""
    rollout.build_only(Scope(env, project_of(context)), Report())


@operator_task
def inventory(
    context: Context, env: str = "local", graph: bool = False, list: bool = False, host: str = "", limit: str = "all"
) -> None:
    """Show the hosts and groups of an environment, or with --list and --host their variables, as ansible-inventory does."""
    report, found = Report(), load_inventory(find_inventory(env, _inventories(context)))
    hosts = select(found, limit)
    if host:
        report.json(export.show_host(found, host))
    elif list:
        report.json(export.list_inventory(found, hosts))
    else:
        for line in export.draw_graph(found, hosts):
            report.line(line)


@operator_task
def explain(context: Context, host: str, env: str = "local", var: str = "", json: bool = False) -> None:
    """Show every layer that sets a host's variables, with file and line; the last one wins. Asks no host."""
    found = load_inventory(find_inventory(env, _inventories(context)))
    explained = explanation.explain(found, host, project_of(context), env=env, variable=var or None)
    if json:
        Report().json(explained)
    else:
        explanation.show(explained, Report())


def _inventories(context: Context) -> str:
    return os.path.relpath(project_of(context) / "inventories")
