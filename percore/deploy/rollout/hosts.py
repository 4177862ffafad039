"""The hosts of one run: their plans, their open connections, and doing something on all of them at once."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from percore.common.printable import printable
from percore.deploy.connection.address import Address, read_address
from percore.deploy.connection.agent import Remote, connect
from percore.deploy.inventory import Inventory, find_inventory, load_inventory
from percore.deploy.inventory.patterns import select
from percore.deploy.masking import REDACTOR
from percore.deploy.plan.host_plan import AppSettings, HostPlan, HostState, make_host_plan
from percore.deploy.plan.render import render_plan
from percore.deploy.plan.roles import RELEASE_TAG
from percore.deploy.plan.settings import plan_settings
from percore.deploy.plan.variables import resolve_variables
from percore.deploy.report import Report, print_line
from percore.errors import PartialError, PercoreError, UnreachableError, UsageError, nearest
from percore.host.tags import Selection

FORKS = 32
"""Hosts worked on at the same time."""

INTERRUPT_SECONDS = 60.0
"""How long Ctrl-C waits for the hosts to take back what was not confirmed."""

T = TypeVar("T")


@dataclass(frozen=True)
class Scope:
    """What a run is about: the environment, a pattern of its hosts, what of them; how many at once. `run` names it."""

    env: str
    project: Path
    limit: str = "all"
    forks: int = FORKS
    selection: Selection = field(default_factory=Selection)
    yes: bool = False  # nobody is asked
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def brings_the_app(self) -> bool:
        """A release is made and switched to; otherwise the one that runs gets other files and units."""
        return self.selection.covers([RELEASE_TAG])


@dataclass
class Host:
    """One host of the run, and what became known of it on the way."""

    scope: Scope
    plan: HostPlan
    settings: AppSettings
    address: Address
    remote: Remote | None = None
    state: HostState | None = None
    absent_apps: frozenset[str] = frozenset()  # pinned to other hosts
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.plan.host

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

    @property
    def selected(self) -> HostState:
        """What this run is about."""
        assert self.state is not None
        return self.state.select(self.scope.selection)

    def target(self) -> dict[str, Any]:
        return target_of(self.settings)

    def ask(self, op: str, report: Report | None = None, **message: Any) -> dict[str, Any]:
        """One message to this host's agent, its progress shown when a report is given."""
        on_event = None if report is None else lambda event: show_event(report, self.name, event)
        return self.agent.ask(op, target=self.target(), on_event=on_event, **message)


def target_of(settings: AppSettings) -> dict[str, Any]:
    """How the agent finds the app and the supervisor on its host."""
    return {
        "deploy_to": settings.deploy_to,
        "command": [settings.launcher_path],
        "home": settings.percore_home,
        "user": settings.percore_user,
        "package": settings.package_path,
        "confirm_seconds": settings.confirm_seconds,
    }


def load_fleet(scope: Scope) -> list[Host]:
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
            guess = nearest(tag, sorted(known))
            advice = f"did you mean '{guess}'?" if guess else f"known tags: {', '.join(sorted(known))}"
            raise UsageError(f"no role of these hosts has the tag '{tag}'", next=advice)


def _plan_host(name: str, inventory: Inventory, scope: Scope) -> Host:
    plan = make_host_plan(name, inventory, env=scope.env, project=scope.project)
    address = read_address(name, resolve_variables(plan))
    REDACTOR.hide([address.password, address.become_password])
    settings = plan_settings(plan)
    elsewhere = {app for app, pattern in settings.placement.items() if name not in select(inventory, pattern)}
    return Host(scope, plan, settings, address, absent_apps=frozenset(elsewhere))


def connect_all(hosts: list[Host]) -> dict[str, PercoreError]:
    """Open every connection; returns the faults by host."""

    def open_one(host: Host) -> None:
        host.connect()

    return on_all(hosts, open_one)


def require_all(hosts: list[Host], report: Report) -> None:
    """Open every connection or stop: nothing has been touched yet."""
    stop_at(connect_all(hosts), report)


def count_hosts(hosts: Sequence[object]) -> str:
    return f"{len(hosts)} {'host' if len(hosts) == 1 else 'hosts'}"


def render_state(host: Host, package_id: str) -> HostState:
    facts = host.agent.facts
    known = {"facts": facts, "python_path": facts["python_path"], "package_id": package_id}
    return render_plan(host.plan, known=known)


def on_all(hosts: Iterable[Host], work: Callable[[Host], object]) -> dict[str, PercoreError]:
    """Do the work on all hosts, many at once; returns the faults by host, in the hosts' order.

    What nobody expected fails the one host it happened with. An interrupt ends the connections, upon which each host takes
    back what was not confirmed, and is passed on.
    """
    hosts = list(hosts)
    faults: dict[str, PercoreError] = {}
    gate = threading.Semaphore(hosts[0].scope.forks if hosts else 1)

    def run(host: Host) -> None:
        with gate:
            fault = try_one(host, work)
            if fault is not None:
                faults[host.name] = fault

    threads = [threading.Thread(target=run, args=(host,), daemon=True, name=host.name) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {host.name: faults[host.name] for host in hosts if host.name in faults}


def try_one(host: Host, work: Callable[[Host], object]) -> PercoreError | None:
    """The fault of a host, whatever happened while it was worked on."""
    try:
        work(host)
    except PercoreError as error:
        return error
    except Exception as error:
        return PercoreError(
            f"unexpected {type(error).__name__}: {printable(str(error))[:1000]}", where=host.name,
            next="this is a fault of percore: please report it", detail=traceback.format_exc() if _is_debugging() else "",
        )  # fmt: skip
    return None


def _is_debugging() -> bool:
    return bool(os.environ.get("PERCORE_DEBUG")) or "--debug" in sys.argv


def stop_at(faults: Mapping[str, PercoreError], report: Report) -> None:
    """Raise the gravest of several faults after naming the others."""
    if not faults:
        return
    ranked = sorted(faults.items(), key=lambda pair: not isinstance(pair[1], PartialError))
    for name, error in ranked[1:]:
        report.host(name, str(error).removeprefix(f"{name}: "))
    raise ranked[0][1]


def close_all(hosts: Iterable[Host], *, wait: bool = False) -> None:
    threads = [
        threading.Thread(target=host.remote.close, kwargs={"wait": wait}, daemon=True) for host in hosts if host.remote
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(INTERRUPT_SECONDS)


def show_event(report: Report, host: str, event: Mapping[str, Any]) -> None:
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


def who_am_i() -> str:
    """The lock's owner as others will read it: `ann@laptop (pid 1234)`."""
    user = "unknown"
    with contextlib.suppress(KeyError, OSError):
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()} (pid {os.getpid()})"
