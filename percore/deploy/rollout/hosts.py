"""The hosts of one run: loaded, connected, asked, and closed."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from percore.deploy.connection.address import read_address
from percore.deploy.connection.limits import allow_files, collect_rarely
from percore.deploy.inventory import Inventory, differences
from percore.deploy.inventory.patterns import select
from percore.deploy.masking import REDACTOR
from percore.deploy.plan.host_plan import make_host_plan
from percore.deploy.plan.roles import require_tags
from percore.deploy.plan.settings import read_host_settings, read_settings
from percore.deploy.plan.typos import find_typos
from percore.deploy.plan.variables import resolve_variables
from percore.deploy.report import Report, print_line
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.parallel import Faults, Outcome, on_all, stop_at
from percore.deploy.rollout.peers import find_monitored, find_peers
from percore.deploy.rollout.scope import Scope
from percore.errors import UsageError

T = TypeVar("T")

ONE = "one"
"""In `placement`: a single host of the fleet, whichever."""

LOAD_BALANCER = "loadbalancer"
"""The role of hosts that stand in front of the app's."""

PROMETHEUS = "prometheus"
"""The role of hosts that read the figures of those with the role monitoring."""

INTERRUPT_SECONDS = 60.0
"""How long Ctrl-C waits for the hosts to roll back what was not confirmed."""


def load_hosts(scope: Scope, *, also_without_app: bool = False) -> list[Host]:
    """The hosts of an environment, planned and checked; nothing is asked of them yet."""
    hosts, warnings = _plan_hosts(scope, also_without_app=also_without_app)
    allow_files(len(hosts))
    collect_rarely()
    require_tags(scope.selection, (role for host in hosts for role in host.plan.roles))
    for warning in dict.fromkeys(warnings):
        print_line(f"warning: {warning}")
    return hosts


def plan_hosts(scope: Scope, *, also_without_app: bool = False) -> list[Host]:
    """The same for a run that is about others, too: what there is to say was said of those."""
    return _plan_hosts(scope, also_without_app=also_without_app)[0]


def _plan_hosts(scope: Scope, *, also_without_app: bool) -> tuple[list[Host], list[str]]:
    """With warnings."""
    inventory = scope.load_inventory()
    names = select(inventory, scope.limit)
    if not names:
        raise UsageError(f"environment '{scope.env}' has no host", where=str(inventory.path), next="add one")
    planned = [_plan_host(name, inventory, scope) for name in names]
    servers = functools.cache(functools.partial(_find_servers, scope))
    for host in planned:
        host.fleet = len(planned)
        if host.plan.has_role(LOAD_BALANCER) or host.plan.has_role(PROMETHEUS):
            host.of_environment = servers
    hosts = [host for host in planned if also_without_app or host.app is not None]
    if not hosts:
        next_step = f"{scope.command('setup')} sets up the others"
        raise UsageError(f"no host of '{scope.env}' has the role 'app'", where="variable roles", next=next_step)
    typos = [typo for host in hosts for typo in find_typos(host.plan, host.variables.asked)]
    return hosts, [*differences(scope.project), *inventory.warnings, *inventory.files.warnings, *typos]


def _find_servers(scope: Scope) -> dict[str, Any]:
    """For a load balancer and for Prometheus: the environment's hosts, whatever the run is limited to."""
    hosts = plan_hosts(scope.everyone, also_without_app=True)
    return {"app_servers": find_peers(hosts), "monitored_hosts": find_monitored(hosts)}


def _plan_host(name: str, inventory: Inventory, scope: Scope) -> Host:
    plan = make_host_plan(name, inventory, env=scope.env, project=scope.project)
    variables = resolve_variables(plan)
    basics = read_host_settings(variables)
    address = read_address(name, variables)
    REDACTOR.hide([address.password, address.become_password])
    if not plan.has_app:
        return Host(scope, plan, variables, None, basics, address, frozenset())
    settings = read_settings(variables, plan.project)
    is_name = ONE in inventory.groups or ONE in inventory.hosts
    singles = {app for app, pattern in settings.placement.items() if pattern == ONE and not is_name}
    pinned = {app: pattern for app, pattern in settings.placement.items() if app not in singles}
    elsewhere = {app for app, pattern in pinned.items() if name not in select(inventory, pattern)}
    return Host(scope, plan, variables, settings, basics, address, frozenset(elsewhere), frozenset(singles))


def same_for_all(hosts: Sequence[Host], value_of: Callable[[Host], T], names: str, *, them: str = "it") -> T:
    """What `names` says of a whole rollout. Raises UsageError where two of its hosts differ."""
    first = hosts[0]
    for host in hosts:
        if value_of(host) != value_of(first):
            raise UsageError(
                f"{names} must be the same for all hosts of a rollout",
                where=f"hosts {first.name} and {host.name}",
                next=f"set {them} for the group 'all'",
            )
    return value_of(first)


@contextlib.contextmanager
def open_hosts(scope: Scope, report: Report, *, also_without_app: bool = False) -> Iterator[list[Host]]:
    """All hosts of a run, connected, and closed at the end. One that cannot be reached stops the run: nothing was touched."""
    hosts = load_hosts(scope, also_without_app=also_without_app)
    with closing_hosts(hosts):
        stop_at(connect_all(hosts), report)
        yield hosts


@contextlib.contextmanager
def closing_hosts(hosts: Sequence[Host], *, wait: bool = False) -> Iterator[None]:
    """Closes all connections at the end; `wait` until the hosts rolled back what was not confirmed."""
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


def hosts_of_app(hosts: Sequence[Host], app: str) -> list[Host]:
    """Those that have it, as others may; all of them where none has, to say so."""
    apps = on_all(hosts, apps_of).results
    return [host for host in hosts if app in apps.get(host.name, [app])] or list(hosts)


def apps_of(host: Host) -> list[str]:
    reply = host.ask("status")
    return [app["name"] for app in reply["status"]["apps"]]
