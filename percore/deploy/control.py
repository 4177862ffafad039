"""Starting, stopping and scaling apps on the fleet, and taking an app off its hosts. Nothing here makes a release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from percore.deploy.command_line import relative
from percore.deploy.connection.messages import Controlled, Removal, WithStatus
from percore.deploy.report import Report, describe_apps
from percore.deploy.rollout.diff import require_answer
from percore.deploy.rollout.edge.draining import open_load_balancers
from percore.deploy.rollout.edge.hand_off import directory_of
from percore.deploy.rollout.hooks import Hooks, run_of
from percore.deploy.rollout.host import Host, lock_owner
from percore.deploy.rollout.hosts import closing_hosts, load_hosts, open_hosts
from percore.deploy.rollout.inspect import connect_hosts
from percore.deploy.rollout.parallel import Outcome, all_or_stop, count_hosts, on_all, stop_at
from percore.deploy.rollout.placement import require_app
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.switch.switch import policy_of
from percore.errors import LockedError, PartialError, PercoreError, UsageError

_DONE = {"restart": "restarted", "reload": "reloaded", "stop": "stopped", "start": "started", "scale": "scaled"}


def restart(scope: Scope, report: Report, *, app: str) -> None:
    """End the workers and start them again: those of the canary hosts first, then `serial` hosts at a time."""
    _in_batches(scope, report, "restart", app)


def reload(scope: Scope, report: Report, *, app: str) -> None:
    """Replace worker by worker, each when the new one is ready, in the same batches."""
    _in_batches(scope, report, "reload", app)


def _in_batches(scope: Scope, report: Report, verb: str, app: str) -> None:
    """A batch that fails is the last one."""
    hosts = load_hosts(scope)
    done: list[Host] = []
    hooks = Hooks({}, run_of(hosts, report, verb))
    with closing_hosts(hosts), hooks.told_of_end(), open_load_balancers(scope, report) as balancers:
        connect_hosts(hosts, report)
        require_app(hosts, app)
        hooks.tell_hosts(hosts)
        report.phase(verb, count_hosts(hosts))
        for batch in policy_of(hosts).batches(hosts):
            balancers.drain([host.name for host in batch])
            _, faults = _control(batch, report, verb, app=app)
            done += [host for host in batch if host.name not in faults]
            if faults and len(done) + len(faults) < len(hosts):
                report.line(f"{_DONE[verb]} on {count_hosts(done)}; {len(hosts) - len(done) - len(faults)} not touched")
            stop_at(faults, report)
            balancers.undrain()
        hooks.run("after_confirm")
    report.finish(f"{_DONE[verb]} on {count_hosts(done)}")


def scale(scope: Scope, report: Report, *, app: str, workers: str) -> None:
    """Another number of workers, until the next deploy."""
    if not app or not workers:
        raise UsageError("scale needs an app and a number", next=scope.command("scale", "--app APP --workers +1"))
    hosts = load_hosts(scope)
    with closing_hosts(hosts):
        connect_hosts(hosts, report)
        require_app(hosts, app)
        stop_at(_control(hosts, report, "scale", app=app, count=workers).faults, report)
    report.finish(f"scaled on {count_hosts(hosts)}")
    report.line("the next deploy sets the number back -> change 'instances' in the process file")


def describe(scope: Scope, report: Report, *, app: str) -> None:
    """Everything about the workers, as `percore describe` on the hosts; of their variables only the names."""
    with open_hosts(scope, report) as hosts:
        require_app(hosts, app)
        outcome = on_all(hosts, lambda host: host.ask("control", report, verb="describe", app=app or None))
        stop_at(outcome.faults, report)


def start(scope: Scope, report: Report, *, app: str) -> None:
    """Start what should run and does not: everything of the release, or one app."""
    hosts = load_hosts(scope)
    with closing_hosts(hosts):
        connect_hosts(hosts, report)
        if app:
            require_app(hosts, app)
            stop_at(_control(hosts, report, "start", app=app).faults, report)
        else:
            all_or_stop(hosts, lambda host: _start_all(host, report), report)
    report.finish(f"started on {count_hosts(hosts)}")


def _start_all(host: Host, report: Report) -> None:
    reply: WithStatus = host.ask("start", report, owner=lock_owner(), unit=host.settings.unit)
    report.host(host.name, describe_apps(reply["status"]))


def stop_app(scope: Scope, report: Report, *, app: str) -> None:
    """Stop one app; the others run on."""
    hosts = load_hosts(scope)
    with closing_hosts(hosts):
        connect_hosts(hosts, report)
        require_app(hosts, app)
        stop_at(_control(hosts, report, "stop", app=app).faults, report)
    report.finish(f"stopped {app}")


def _control(hosts: Sequence[Host], report: Report, verb: str, *, app: str, count: str = "") -> Outcome[Controlled]:
    more: dict[str, Any] = {"count": count} if count else {}

    def ask(host: Host) -> Controlled:
        reply: Controlled = host.ask("control", report, verb=verb, owner=lock_owner(), app=app or None, **more)
        report.host(host.name, describe_apps(reply["status"]) if reply["apps"] else f"app {app} is not placed here")
        return reply

    return on_all(hosts, ask)


# -- taking an app off its hosts -------------------------------------------------------------------------------------------


def remove(scope: Scope, report: Report, *, data: bool) -> None:
    """First what would go from each host, then the question, then the work. Shared data stays unless `data`."""
    hosts = load_hosts(scope)
    with closing_hosts(hosts):
        connect_hosts(hosts, report)
        found: dict[str, Removal]
        found, faults = on_all(hosts, lambda host: host.ask("remove", data=data))
        stop_at(faults, report)
        having = [host for host in hosts if found[host.name]["steps"]]
        if not having:
            report.finish(f"nothing to remove on {count_hosts(hosts)}")
            return
        for host in having:
            _list_removal(host, found[host.name], report)
        question = f"remove {hosts[0].settings.name} from {count_hosts(having)} of {scope.env}?"
        require_answer(scope, report, question, "nothing was removed")
        faults = on_all(having, lambda host: host.ask("remove", report, owner=lock_owner(), data=data)).faults
        _stop_at_partial(faults, having, scope, report)
    report.finish(f"removed from {count_hosts(having)}")
    _name_load_balancer(hosts, report)


def _list_removal(host: Host, removal: Removal, report: Report) -> None:
    report.host(host.name, "this would go:")
    for text in removal["steps"]:
        report.change(text)
    if removal["data"]:
        report.step(f"stays: {removal['data']} (--data removes it too)")


def _stop_at_partial(faults: dict[str, PercoreError], hosts: Sequence[Host], scope: Scope, report: Report) -> None:
    if len(faults) == len(hosts) and all(isinstance(fault, LockedError) for fault in faults.values()):
        stop_at(faults, report)  # nothing is gone yet
    if not faults:
        return
    name, first = next(iter(faults.items()))
    for other, fault in list(faults.items())[1:]:
        report.host(other, str(fault).removeprefix(f"{other}: "))
    raise PartialError(
        f"{first.what}; not wholly removed from {', '.join(faults)}",
        where=first.where or name,
        next=scope.command("remove", f"--limit {','.join(faults)}"),
        detail=first.detail,
    )


def _name_load_balancer(hosts: Sequence[Host], report: Report) -> None:
    path = directory_of(hosts[0].scope)
    if path.is_dir():
        report.line(f"{relative(path)} still names the hosts: take them out of the load balancer")
