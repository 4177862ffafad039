"""One host of a run."""

from __future__ import annotations

import contextlib
import functools
import getpass
import hashlib
import os
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from percore.common.worker_status import is_wanted
from percore.deploy.connection.address import HostAddress
from percore.deploy.connection.agent import Remote, connect
from percore.deploy.connection.messages import Status
from percore.deploy.connection.stream import Event
from percore.deploy.plan.host_plan import HostPlan
from percore.deploy.plan.host_state import HostState
from percore.deploy.plan.render import render_plan
from percore.deploy.plan.settings import AppSettings, HostSettings
from percore.deploy.plan.variables import Variables
from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from percore.errors import LockedError, UnreachableError, UsageError
from percore.host.drained import KEPT

_SHARED = ("percore_user", "percore_home", "package_path", "launcher_path", "startup")
_HOSTS_A_SECOND = 2
"""A machine that is as busy as its hosts tells at least so many of them in a second that it is there."""


@dataclass(eq=False)
class Host:
    """One host of the run: its plan, its variables and settings, resolved once, and its connection."""

    scope: Scope
    plan: HostPlan
    variables: Variables
    app: AppSettings | None  # None where the host has no app
    basics: HostSettings
    address: HostAddress
    absent_apps: frozenset[str]  # other hosts run them; those of `single_apps` once that is settled (`placement`)
    single_apps: frozenset[str] = frozenset()  # of which the fleet has one
    holders: Mapping[str, str] = field(default_factory=dict)  # of the single apps, once they are known
    remote: Remote | None = None
    of_environment: Callable[[], Mapping[str, Any]] = dict  # values of its templates that the whole environment gives
    fleet: int = 1  # how many hosts the run has

    @property
    def name(self) -> str:
        return self.plan.host

    @property
    def forks(self) -> int:
        return self.scope.forks

    @property
    def settings(self) -> AppSettings:
        """Of the app; only hosts that have it come to where they are asked for."""
        if self.app is None:
            raise UsageError("this host has no app", where=self.name, next="give it the role 'app'")
        return self.app

    def connect(self) -> None:
        self.remote = self.new_connection()

    def new_connection(self) -> Remote:
        return connect(self.address, project=self.scope.project, package_path=self.basics.package_path)

    @property
    def agent(self) -> Remote:
        if self.remote is None:
            raise UnreachableError("there is no connection", where=self.name)
        return self.remote

    @property
    def url_host(self) -> str:
        return "localhost" if self.address.local else self.address.address

    def gives_up_app(self, status: Status) -> bool:
        """It runs an app that another host is to run from now on."""
        return any(is_wanted(app) and app["name"] in self.absent_apps for app in status["apps"])

    def is_misplaced(self, status: Status, known: Iterable[str]) -> bool:
        """It runs what another host should, or lacks one of its apps; `known` are those of its release."""
        here = {app["name"] for app in status["apps"]}
        return self.gives_up_app(status) or not here.issuperset(set(known) - self.absent_apps)

    def render(self, package_id: str, drained: Collection[str] | None = None) -> HostState:
        """What it should be, now that its facts are known. `drained` are other names of hosts than those that are kept so."""
        facts = self.agent.facts
        known = {"facts": facts, "python_path": facts["python_path"], "package_id": package_id}
        known |= self.of_environment()
        known["drained"] = names_kept_drained(facts) if drained is None else list(drained)
        return render_plan(self.plan, self.variables.knowing(known), self.app)

    def target(self) -> dict[str, Any]:
        """How the agent finds the app and the supervisor on this host."""
        if self.app is None:
            return self.setup_target()
        settings = self.app
        return {
            "deploy_to": settings.deploy_to,
            "command": [settings.launcher_path],
            "home": settings.percore_home,
            "user": settings.percore_user,
            "package": settings.package_path,
            "confirm_seconds": confirm_seconds(self),
            "app": settings.name,
            "env": settings.env_name,
            "renamed_from": settings.renamed_from,
            "shared": self.shared_settings,
        }

    @functools.cached_property
    def shared_settings(self) -> dict[str, str]:
        """Of the supervisor, where other projects on the host have the same one. A unit may be given secrets: hashed."""
        if not self.settings.has_systemd:
            return {}
        variables = self.variables.knowing({"facts": self.agent.facts})
        plain = {name: str(variables[name]) for name in _SHARED}
        unit = {name: repr(variables[name]) for name in variables if name.startswith("unit_")}
        return {**plain, **{name: hashlib.sha256(value.encode()).hexdigest()[:12] for name, value in unit.items()}}

    def setup_target(self) -> dict[str, Any]:
        """How the agent finds the host's set-up, which has no supervisor."""
        path, none = self.basics.setup_path, f"{self.basics.setup_path}/none"
        places = {"deploy_to": path, "home": path, "package": path, "command": [none], "user": None}
        return {**places, "confirm_seconds": confirm_seconds(self)}

    def targets(self) -> list[dict[str, Any]]:
        """Of its set-up, and of the app where there is one."""
        return [self.setup_target(), *([self.target()] if self.app else [])]

    def ask(
        self, op: str, report: Report | None = None, *, target: Mapping[str, Any] | None = None, **message: Any
    ) -> Any:
        """One message to this host's agent, its progress shown when a report is given. The reply is typed (`messages`)."""
        on_event = None if report is None else lambda event: show_event(report, self.name, event)
        try:
            return self.agent.ask(op, target=target or self.target(), on_event=on_event, **message)
        except LockedError as error:  # the host cannot know what the environment is called here
            error.next = error.next.replace("invoke unlock --env ENV", self.scope.command("unlock"))
            raise


def confirm_seconds(host: Host) -> int:
    """So long it waits for a word from us. With many hosts, each hears from us less often."""
    return (host.app or host.basics).confirm_seconds + host.fleet // _HOSTS_A_SECOND


def names_kept_drained(facts: Mapping[str, Any]) -> list[str]:
    """Of the hosts that a person drained at this load balancer, in every form."""
    return [name for entry in facts.get("drained", ()) if entry["verb"] == KEPT for name in entry["names"]]


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
