"""The hosts of one run: their plans and their open connections."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from percore.deploy.connection.address import Address, read_address
from percore.deploy.connection.agent import Event, Remote, connect
from percore.deploy.inventory import Inventory, find_inventory, load_inventory
from percore.deploy.inventory.patterns import select
from percore.deploy.masking import REDACTOR
from percore.deploy.plan.host_plan import HostPlan, make_host_plan
from percore.deploy.plan.host_state import HostState
from percore.deploy.plan.render import render_plan
from percore.deploy.plan.roles import RELEASE_TAG
from percore.deploy.plan.settings import AppSettings, read_settings
from percore.deploy.plan.variables import Variables, resolve_variables
from percore.deploy.report import Report, print_line
from percore.deploy.rollout.parallel import Faults, Outcome, on_all, stop_at
from percore.deploy.schema import suggest
from percore.errors import UnreachableError, UsageError
from percore.host.tags import Selection

FORKS = 32
"""Hosts worked on at the same time."""

INTERRUPT_SECONDS = 60.0
"""How long Ctrl-C waits for the hosts to roll back what was not confirmed."""


@dataclass(frozen=True)
class Scope:
    """What a run is about: the environment, a pattern of its hosts, what of them; how many at once. `run` names it."""

    env: str
    project: Path
    limit: str = "all"
    forks: int = FORKS
    selection: Selection = field(default_factory=Selection)
    yes: bool = False  # no question is asked
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def brings_the_app(self) -> bool:
        """A release is made and switched to; otherwise the one that runs gets other files and units."""
        return self.selection.covers([RELEASE_TAG])


@dataclass(eq=False)
class Host:
    """One host of the run: its plan, its variables and settings, resolved once, and its connection."""

    scope: Scope
    plan: HostPlan
    variables: Variables
    settings: AppSettings
    address: Address
    absent_apps: frozenset[str]  # pinned to other hosts
    remote: Remote | None = None

    @property
    def name(self) -> str:
        return self.plan.host

    @property
    def forks(self) -> int:
        return self.scope.forks

    def connect(self) -> None:
        self.remote = connect(self.address, project=self.scope.project, package_path=self.settings.package_path)

    @property
    def agent(self) -> Remote:
        if self.remote is None:
            raise UnreachableError("there is no connection", where=self.name)
        return self.remote

    @property
    def url_host(self) -> str:
        return "localhost" if self.address.local else self.address.address

    def render(self, package_id: str) -> HostState:
        """What it should be, now that its facts are known."""
        facts = self.agent.facts
        known = {"facts": facts, "python_path": facts["python_path"], "package_id": package_id}
        return render_plan(self.plan, self.variables.knowing(known), self.settings)

    def target(self) -> dict[str, Any]:
        """How the agent finds the app and the supervisor on this host."""
        settings = self.settings
        return {
            "deploy_to": settings.deploy_to,
            "command": [settings.launcher_path],
            "home": settings.percore_home,
            "user": settings.percore_user,
            "package": settings.package_path,
            "confirm_seconds": settings.confirm_seconds,
        }

    def ask(self, op: str, report: Report | None = None, **message: Any) -> Any:
        """One message to this host's agent, its progress shown when a report is given. The reply is typed (`messages`)."""
        on_event = None if report is None else lambda event: show_event(report, self.name, event)
        return self.agent.ask(op, target=self.target(), on_event=on_event, **message)


@dataclass(frozen=True)
class HostValue:
    """Base of what the phases of a run find out about one host."""

    host: Host = field(repr=False)

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def forks(self) -> int:
        return self.host.forks


def load_hosts(scope: Scope) -> list[Host]:
    """The hosts of an environment, planned and checked; nothing is asked of them yet."""
    inventory = load_inventory(find_inventory(scope.env, os.path.relpath(scope.project / "inventories")))
    names = select(inventory, scope.limit)
    if not names:
        raise UsageError(f"environment '{scope.env}' has no host", where=f"inventories/{scope.env}", next="add one")
    hosts = [_plan_host(name, inventory, scope) for name in names]
    _require_tags(scope.selection, hosts)
    for warning in inventory.files.warnings:
        print_line(f"warning: {warning}")
    return hosts


def _require_tags(selection: Selection, hosts: list[Host]) -> None:
    known = {tag for host in hosts for role in host.plan.roles for tag in role.all_tags()} | {RELEASE_TAG}
    for tag in [*selection.tags, *selection.skip]:
        if tag not in known:
            advice = suggest(tag, sorted(known), f"known tags: {', '.join(sorted(known))}")
            raise UsageError(f"no role of these hosts has the tag '{tag}'", next=advice)


def _plan_host(name: str, inventory: Inventory, scope: Scope) -> Host:
    plan = make_host_plan(name, inventory, env=scope.env, project=scope.project)
    variables = resolve_variables(plan)
    address = read_address(name, variables)
    REDACTOR.hide([address.password, address.become_password])
    settings = read_settings(variables, plan.project)
    elsewhere = {app for app, pattern in settings.placement.items() if name not in select(inventory, pattern)}
    return Host(scope, plan, variables, settings, address, frozenset(elsewhere))


@contextlib.contextmanager
def open_hosts(scope: Scope, report: Report) -> Iterator[list[Host]]:
    """All hosts of a run, connected, and let go at the end. One that cannot be reached stops the run: nothing was touched."""
    hosts = load_hosts(scope)
    with closing_hosts(hosts):
        stop_at(connect_all(hosts), report)
        yield hosts


@contextlib.contextmanager
def closing_hosts(hosts: Sequence[Host], *, wait: bool = False) -> Iterator[None]:
    """Lets go at the end of what was connected; `wait` until the hosts rolled back what was not confirmed."""
    try:
        yield
    finally:
        close_all(hosts, wait=wait)


def connect_all(hosts: Sequence[Host]) -> Faults:
    """Open every connection; returns the faults by host."""
    return on_all(hosts, lambda host: host.connect()).faults


def ask_all(scope: Scope, op: str, **message: Any) -> tuple[list[Host], Outcome[Any]]:
    """One question to all hosts; those that give no answer are among the faults."""
    hosts = load_hosts(scope)
    with closing_hosts(hosts):
        unreachable = connect_all(hosts)
        results, faults = on_all(
            [host for host in hosts if host.name not in unreachable], lambda h: h.ask(op, **message)
        )
    return hosts, Outcome(results, {**unreachable, **faults})


def close_all(hosts: Iterable[Host], *, wait: bool = False) -> None:
    threads = [
        threading.Thread(target=host.remote.close, kwargs={"wait": wait}, daemon=True) for host in hosts if host.remote
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(INTERRUPT_SECONDS)


def show_event(report: Report, host: str, event: Event) -> None:
    """The agent's progress as a line of ours; the events are read (`replies`)."""
    if event["event"] == "progress":
        report.host(host, event["text"])
    elif event["event"] == "sent":
        report.host(host, f"{event['bytes'] / 1e6:.0f} of {event['total'] / 1e6:.0f} MB sent")
    elif event["event"] == "worker" and event["state"] == "running":
        report.host(host, f"{event['app']} {event['slot']}: running (pid {event.get('pid')})")
    elif event["event"] == "worker" and event.get("failure") and event["state"] in ("backoff", "fatal"):
        report.host(host, f"{event['app']} {event['slot']}: {event['failure']}")
    elif event["event"] == "line":
        report.log(host, event["text"])


def lock_owner() -> str:
    """The lock's owner as others will read it: `ann@laptop (pid 1234)`."""
    user = "unknown"
    with contextlib.suppress(KeyError, OSError):
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()} (pid {os.getpid()})"
