"""`release_command`: once for the whole fleet, in the staged release of one host, before any host switches.

Only a deploy runs it, and only for a release that no host runs yet: a rollback, `converge`, the repair of a host and a host that
was away find done what it does.
"""

from __future__ import annotations

from collections.abc import Sequence

from percore.deploy.connection.messages import CommandEnded
from percore.deploy.plan.settings import ReleaseCommand
from percore.deploy.report import Report
from percore.deploy.rollout.choose import Choice
from percore.deploy.rollout.host import Host, show_event
from percore.deploy.rollout.hosts import same_for_all
from percore.deploy.rollout.inspect import Seen
from percore.errors import PercoreError, PreflightError, UnreachableError, UsageError


def find_runner(seen: Sequence[Seen]) -> Seen | None:
    """The host on which the deploy runs the command: the first that differs and has the app; None where none is to run."""
    command = _command_of([one.host for one in seen])
    behind = [one for one in seen if not one.is_up_to_date and one.wanted.app is not None]
    if command is None or not behind or any(map(_has_it_live, seen)):
        return None
    able = [one for one in behind if _has_app(one, command.app)]
    if not able:
        raise UsageError(
            f"'release_command' names app '{command.app}', which no host of this run has"
            if command.app
            else "'release_command' needs an app, and no host of this run has one",
            next="see 'placement', and the names in the process file",
        )
    return able[0]


def _command_of(hosts: Sequence[Host]) -> ReleaseCommand | None:
    return same_for_all(hosts, lambda host: host.settings.release_command, "release_command")


def _has_it_live(seen: Seen) -> bool:
    """The host runs the wanted release and calls it good: the command was run before that."""
    release = seen.known_release
    return release is not None and release == seen.current and seen.reply["marks"][release]["mark"] == "good"


def _has_app(seen: Seen, name: str) -> bool:
    apps = seen.wanted.app.record["apps"] if seen.wanted.app else []
    return any(name in ("", app["name"]) for app in apps if app["name"] not in seen.host.absent_apps)


def announce(runner: Seen | None, report: Report) -> None:
    """For what is shown before it is done."""
    command = runner.host.settings.release_command if runner else None
    if runner and command:
        kind = "irreversible release command" if command.irreversible else "release command"
        report.host(runner.name, f"would run the {kind}, once: {command.run}")


def run_release_command(runner: Seen | None, choices: Sequence[Choice], report: Report) -> None:
    """PreflightError when it fails: nothing was switched."""
    choice = next((choice for choice in choices if runner and choice.host is runner.host), None)
    command = choice.host.settings.release_command if choice else None
    if choice is None or command is None:
        return
    report.phase("release", f"{command.run} (once, on {choice.name})")
    code, lines = _run(choice, command, report)
    if code != 0:
        report.host("all", "nothing was switched: what ran before still runs")
        raise PreflightError(
            f"the release command ended with exit code {code}: {command.run}",
            where=choice.name,
            next="fix it, then deploy again",
            detail="\n".join(lines) if report.is_quiet else "",
        )


def _run(choice: Choice, command: ReleaseCommand, report: Report) -> tuple[int, list[str]]:
    """Its exit code and its last lines, which were shown as they came."""
    lines: list[str] = []

    def on_event(event: dict[str, object]) -> None:
        if event["event"] == "line":
            lines[:] = [*lines[-19:], str(event["text"])]
        show_event(report, choice.name, event)

    try:
        reply: CommandEnded = choice.host.agent.ask(
            "release_command", target=choice.host.target(), on_event=on_event,
            release=choice.release, command=command.run, app=command.app,
        )  # type: ignore[assignment] # fmt: skip
    except UnreachableError as lost:
        raise UnreachableError(
            f"{lost.what}; the release command may still run there, and nothing was switched",
            where=lost.where,
            next=f"see how it ends: {choice.host.scope.command('history')}; then deploy again",
            detail=lost.detail,
        ) from None
    except PercoreError as error:
        raise PreflightError(error.what, where=error.where, next=error.next, detail=error.detail) from None
    return reply["code"], lines
