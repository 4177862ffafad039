"""Setting up hosts: what their roles ask for beside the app, batch by batch; all that changed is kept, or rolled back.

Before anything is kept, each host is reached over a new connection: what shuts the operator out, a firewall or a
setting of sshd, is rolled back over the one that is still open.
"""

from __future__ import annotations

from collections.abc import Sequence

from percore.deploy.connection.messages import Changed
from percore.deploy.plan.host_state import HostState
from percore.deploy.report import Report
from percore.deploy.rollout.diff import ChangesPending, must_ask, require_terminal, require_yes, show_changes
from percore.deploy.rollout.hooks import Hooks, run_of
from percore.deploy.rollout.host import Host, lock_owner
from percore.deploy.rollout.hosts import closing_hosts, load_hosts
from percore.deploy.rollout.inspect import connect_hosts
from percore.deploy.rollout.parallel import Faults, all_or_stop, count_hosts, on_all, try_one
from percore.deploy.rollout.pending_setup import PendingSetup, find_pending
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.switch.roll_back import error_after, find_uncertain, not_certain_to_keep
from percore.deploy.rollout.switch.switch import policy_of
from percore.deploy.rollout.verbs.node_builds import NodeBuilds, fetched_builds
from percore.deploy.rollout.verbs.renewal import renew_certificates
from percore.errors import PercoreError, RolloutError, UnreachableError

NO_PACKAGE = "none"
"""Instead of the id of percore's own package: only a release has it."""


def setup(scope: Scope, report: Report, *, check: bool = False, diff: bool = False, as_json: bool = False) -> None:
    """Everything of the roles that does not belong to a release, on every host of the environment."""
    hosts = load_hosts(scope, also_without_app=True)
    if not check:
        require_terminal(hosts)
        renew_certificates(hosts, report)
    hooks = Hooks({}, run_of(hosts, report, "setup", is_told=not check), hosts=" ".join(host.name for host in hosts))
    with closing_hosts(hosts, wait=True), hooks.told_of_end():
        connect_hosts(hosts, report)
        pending = find_pending([(host, _render(host)) for host in hosts], report, with_app=False)
        if check and pending:
            _preview(hosts, pending, report, diff=diff, as_json=as_json)
        changed = set_up(pending, report, diff=diff) if pending else {}
        if pending:
            hooks.run("after_confirm")
    if as_json:
        report.json([{"host": host.name, "changed": changed.get(host.name, [])} for host in hosts])
    elif pending:
        report.finish(f"set up: {count_hosts(pending)}")
    else:
        report.finish(f"nothing to set up: {count_hosts(hosts)}")


def _render(host: Host) -> HostState:
    state = try_one(host, lambda each: each.render(NO_PACKAGE))
    if isinstance(state, PercoreError):
        raise state
    return state


def _preview(
    hosts: Sequence[Host], pending: Sequence[PendingSetup], report: Report, *, diff: bool, as_json: bool
) -> None:
    """Raises ChangesPending."""
    if as_json:
        report.json(all_or_stop(pending, lambda one: {"host": one.name, **one.compare(diff=diff)}, report))
    else:
        report.phase("plan", count_hosts(hosts))
        _show(pending, report, diff=diff)
    raise ChangesPending(
        f"{len(pending)} of {count_hosts(hosts)} would be set up further; nothing was touched",
        next=hosts[0].scope.command("setup"),
    )


def _show(pending: Sequence[PendingSetup], report: Report, *, diff: bool) -> None:
    compared = all_or_stop(pending, lambda one: one.compare(diff=diff), report)
    for one, found in zip(pending, compared, strict=True):
        report.host(one.name, "to be set up:")
        show_changes(found["changes"], found["handlers"], report)


def set_up(
    pending: Sequence[PendingSetup], report: Report, *, diff: bool = False, verb: str = "setup"
) -> dict[str, list[str]]:
    """All of them, or none. Returns what is different now, by host; `verb` is for their histories.

    Raises RolloutError when every change was rolled back, PartialError when that is not certain, or that all keep theirs.
    """
    hosts = [one.host for one in pending]
    if diff or must_ask(hosts):
        _show(pending, report, diff=diff)
    require_yes(hosts, report)
    all_or_stop(hosts, _lock, report)
    batches = policy_of(hosts).batches(pending)
    changed: dict[str, list[str]] = {}
    with fetched_builds(pending, report) as builds:
        for number, batch in enumerate(batches, 1):
            report.phase("set up", ", ".join(one.name for one in batch) + (f" ({number} of {len(batches)})"))
            found, faults = on_all(batch, lambda one: _set_up_host(one, builds, report, verb))
            changed.update(found)
            faults.update(on_all([one.host for one in batch if one.name in found], _reach_again).faults)
            if faults:
                raise _roll_back([host for host in hosts if host.name in changed], faults, report)
    faults = on_all(hosts, lambda host: host.ask("keep", target=host.setup_target(), verb=verb)).faults
    if faults:
        raise not_certain_to_keep(
            "what was set up", faults, next="do the same again; hosts that kept it stay as they are"
        )
    return changed


def _lock(host: Host) -> None:
    """Its app as well: a deploy, or a person with `invoke lock`, keeps us away from the whole host."""
    for target in host.targets():
        host.ask("inspect", target=target, owner=lock_owner(), resources=[])


def _set_up_host(one: PendingSetup, builds: NodeBuilds, report: Report, verb: str) -> list[str]:
    specs = [builds.completed(spec, one.host) for spec in one.specs]
    parts = {**one.state.contents_of(specs), **builds.parts_of(specs)}
    reply: Changed = one.host.ask(
        "set_up",
        report,
        target=one.host.setup_target(),
        parts=parts,
        resources=specs,
        handlers=list(one.state.handlers),
        sizes={sha256: len(part) for sha256, part in parts.items()},
        owner=lock_owner(),
        run=one.host.scope.run,
        verb=verb,
    )
    return reply["changed"]


def _reach_again(host: Host) -> None:
    if host.address.local:
        return
    try:
        host.new_connection().close()
    except UnreachableError as error:
        raise RolloutError(
            f"no new connection is possible since it was set up: {error.what}",
            where=host.name,
            next="see the rules of its firewall (firewall_ssh_port, firewall_ssh_from)",
        ) from None


def _roll_back(done: Sequence[Host], faults: Faults, report: Report) -> PercoreError:
    """A host that failed did so by itself; the others are told."""
    report.phase("roll back", f"{len(faults)} failed; {len(done)} to roll back")
    not_back = on_all(done, lambda host: host.ask("revert", target=host.setup_target(), verb="setup")).faults
    first, *_ = faults.values()
    for name, error in list(faults.items())[1:]:
        report.host(name, str(error).removeprefix(f"{name}: "))
    lost = find_uncertain(faults, not_back)
    advice = "look at these hosts, then set them up again" if lost else "fix it and set up again"
    return error_after(
        first,
        f"not certain to be as before: {', '.join(lost)}" if lost else "",
        done="files and services are as before",
        next=first.next or advice,
    )
