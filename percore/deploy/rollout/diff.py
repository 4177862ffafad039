"""What a deploy would do, shown before it is done: per host what changes, and why its workers are replaced."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from percore.common.records.diff import without_apps
from percore.deploy.connection.messages import Compared, FileChange
from percore.deploy.plan.host_state import HostState
from percore.deploy.plan.places import find_places
from percore.deploy.report import Report
from percore.deploy.rollout.choose import Move
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.inspect import Seen
from percore.deploy.rollout.parallel import all_or_stop, count_hosts
from percore.deploy.rollout.pending_setup import PendingSetup
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.wanted import PLACE, WantedApp
from percore.errors import PercoreError, PreflightError, UsageError


class Declined(PreflightError):
    """The operator was asked, and did not say yes."""


class ChangesPending(PercoreError):
    """A check found that a deploy would change something."""

    exit_code = 8


class Difference(NamedTuple):
    """JSON-ready by `_asdict`: each of the changes has `text` and `diff`; the handlers are those that would run; the reasons
    are why workers are replaced."""

    host: str
    release: str | None
    up_to_date: bool
    changes: list[FileChange]
    handlers: list[str]
    reasons: list[str]


def compare(
    seen: Sequence[Seen], report: Report, *, diff: bool, setup: Sequence[PendingSetup] = ()
) -> list[Difference]:
    """Ask every host that differs what it would change, its set-up first. Nothing is touched."""
    pending = {one.name: one for one in setup}
    return all_or_stop(seen, lambda one: _compare_both(one, pending.get(one.name), diff), report)


def _compare_both(seen: Seen, setup: PendingSetup | None, diff: bool) -> Difference:
    release = _compare_host(seen, diff)
    if setup is None:
        return release
    first = setup.compare(diff=diff)
    return release._replace(
        up_to_date=False, changes=first["changes"] + release.changes, handlers=first["handlers"] + release.handlers
    )


def _compare_host(seen: Seen, diff: bool) -> Difference:
    if seen.is_up_to_date:
        return Difference(seen.name, seen.current, True, [], [], [])
    wanted = seen.wanted
    parts = dict(wanted.selected.release_files())
    compared: Compared = seen.host.ask(
        "compare",
        parts=parts,
        resources=wanted.comparable(),
        place=PLACE,
        handlers=list(wanted.state.handlers),
        diff=diff,
        sizes={name: len(part) for name, part in parts.items()},
        **(_app_message(seen.host, wanted.state, wanted.app) if wanted.app else {}),
    )
    found = _difference(seen.name, seen.current, compared)
    return found if found.release is None else found._replace(reasons=_with_causes(seen, found))


def _app_message(host: Host, state: HostState, app: WantedApp) -> dict[str, Any]:
    """What of the app is compared, and where each of its values is set."""
    artifact, settings = app.artifact, host.settings
    places = find_places(settings, host.variables, os.path.relpath(settings.path / artifact.process_file))
    if any(each.get("health") not in (None, settings.health_path) for each in app.record["apps"]):
        del places["health"]  # the process file says it of some
    record = without_apps(app.record, host.absent_apps)
    return {"record": record, "artifact": artifact.sha256, "activation": state.activation(), "places": places}


def _with_causes(seen: Seen, found: Difference) -> list[str]:
    """With what the release that runs lacks; never empty where nothing else says why there is something to do."""
    edits = seen.reply.get("edits", {}).get(str(found.release), [])
    reasons = [*found.reasons, *seen.reply["workers"], *(f"edited by hand in the release: {edit}" for edit in edits)]
    if reasons or found.changes or found.handlers:
        return reasons
    mark = seen.reply["marks"].get(found.release) if found.release else None
    if mark is None or mark["mark"] != "good":
        return [f"release {seen.current} was never confirmed"]
    if seen.known_release is None and mark.get("fingerprint") == (seen.wanted.app and seen.wanted.app.fingerprint):
        return [f"another host has edited files of release {seen.current}"]
    return ["what the roles prepare (packages, users, directories), or the tags of the last deploy, differ"]


def compare_release(moves: Sequence[Move], report: Report) -> list[Difference]:
    """Ask every host what a release that it has would change."""

    def ask(move: Move) -> Difference:
        return _difference(
            move.name,
            move.current,
            move.host.ask("compare_release", release=move.release, absent=sorted(move.host.absent_apps)),
        )

    return all_or_stop(moves, ask, report)


def _difference(host: str, current: str | None, compared: Compared) -> Difference:
    reasons = ["nothing is deployed there yet"] if current is None else compared["reasons"]
    return Difference(host, current, False, compared["changes"], compared["handlers"], reasons)


def show(differences: Sequence[Difference], report: Report) -> None:
    """What is the same on several hosts is shown once."""
    alike: list[tuple[Difference, list[str]]] = []
    for one in differences:
        names = next((names for other, names in alike if other[1:] == one[1:]), None)
        if names is None:
            alike.append((one, [one.host]))
        else:
            names.append(one.host)
    for one, names in alike:
        _show_one(one, ", ".join(names), report)


def _show_one(one: Difference, title: str, report: Report) -> None:
    if one.up_to_date:
        report.host(title, f"nothing to change, on {one.release}")
        return
    report.host(title, f"on {one.release or 'no release'}; this would change:")
    for reason in one.reasons:
        report.step(f"because {reason}")
    show_changes(one.changes, one.handlers, report)


def show_changes(changes: Sequence[FileChange], handlers: Sequence[str], report: Report) -> None:
    for change in changes:
        report.change(change["text"], change["diff"])
    for handler in handlers:
        report.step(f"then {handler}")


def to_json(differences: Iterable[Difference]) -> list[dict[str, Any]]:
    return [one._asdict() for one in differences]


# -- the question ----------------------------------------------------------------------------------------------------


def require_terminal(hosts: Sequence[Host]) -> None:
    """Where ask_before_switch is set, a rollout without a terminal needs --yes; found out before anything is done."""
    if must_ask(hosts) and not sys.stdin.isatty():
        raise UsageError(
            f"ask_before_switch is set for environment '{hosts[0].scope.env}', and there is no terminal to ask at",
            next="add --yes",
        )


def require_yes(hosts: Sequence[Host], report: Report) -> None:
    """Where ask_before_switch is set, the operator reads what would change, and confirms it."""
    if must_ask(hosts) and not report.ask(f"change {count_hosts(hosts)} of {hosts[0].scope.env}?"):
        raise Declined("the answer was not yes; nothing was touched")


def require_answer(scope: Scope, report: Report, question: str, otherwise: str) -> None:
    """Where --yes was not given; `otherwise` says what was not done."""
    if scope.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"there is no terminal to ask at; {otherwise}", next="add --yes")
    if not report.ask(question):
        raise PreflightError(f"the answer was not yes; {otherwise}")


def must_ask(hosts: Sequence[Host]) -> bool:
    return not hosts[0].scope.yes and any(host.basics.ask_before_switch for host in hosts)
