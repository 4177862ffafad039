"""Which release each host goes to: of a deploy, of a rollback, and of a host that was away."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from percore.deploy.build.git import describe_commit
from percore.deploy.command_line import to_type
from percore.deploy.connection.messages import CommitFacts, FoundRelease, Inspected, Mark, Status
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host, HostValue, lock_owner
from percore.deploy.rollout.inspect import Seen, is_made_of
from percore.deploy.rollout.parallel import all_or_stop
from percore.deploy.rollout.wanted import WantedApp
from percore.errors import PreflightError, UnreachableError, UsageError

RELEASE_PART = re.compile(r"[0-9a-f-]{1,23}", re.ASCII)
"""An id, its beginning, or its hash."""


@dataclass(frozen=True)
class Move(HostValue):
    """A host, the release it runs, and the one it goes to."""

    release: str
    current: str | None
    status: Status = field(repr=False)
    gives_up_app: bool  # it runs an app that another host is to run from now on
    commit: CommitFacts | None = field(default=None, kw_only=True, repr=False)  # as the host knows it


@dataclass(frozen=True)
class Choice(Move):
    """A move of a deploy. `reason` is why no new release is made; empty for a new one."""

    seen: Seen = field(repr=False)
    is_staged: bool
    reason: str


def choose(behind: Sequence[Seen], seen: Sequence[Seen]) -> list[Choice]:
    """Give the hosts that differ a release: one they have already, the one the others run, or a new one."""
    app = behind[0].wanted.app
    if app is None:
        return [_choice(one, str(one.current), "it runs there") for one in behind]
    release, reason = _choose_release(app, behind, seen)
    return [_choice(one, release, reason) for one in behind]


def _choice(seen: Seen, release: str, reason: str) -> Choice:
    return Choice(
        **_move_of(seen.host, seen.current, seen.reply),
        release=release,
        seen=seen,
        is_staged=seen.known_release == release,
        reason=reason,
    )


def _move_of(host: Host, current: str | None, reply: Inspected) -> dict[str, Any]:
    """What every move says of its host."""
    status = reply["status"]
    return {"host": host, "current": current, "status": status, "gives_up_app": host.gives_up_app(status)}


def _choose_release(app: WantedApp, behind: Sequence[Seen], seen: Sequence[Seen]) -> tuple[str, str]:
    running = {one.current for one in seen if one.is_up_to_date and one.current is not None}
    known = {one.known_release for one in behind}
    if len(known) == 1 and None not in known and running <= known:
        return str(known.pop()), "it is staged already"
    if len(running) == 1 and not any(running & set(one.reply["marks"]) for one in behind):
        return running.pop(), "the other hosts run it"
    return make_release_id(app.artifact.digest, {name for one in seen for name in one.reply["marks"]}), ""


def make_release_id(digest: str, taken: set[str]) -> str:
    """UTC time and the beginning of the artifact's digest; a second later when that one is taken."""
    moment = datetime.now(timezone.utc)
    while True:
        release = f"{moment:%Y%m%d%H%M%S}-{digest[:8]}"
        if release not in taken:
            return release
        moment += timedelta(seconds=1)


# -- back to a former release ----------------------------------------------------------------------------------------


def find_release(hosts: Sequence[Host], release: str | None, report: Report) -> list[Move]:
    """Settle on the release that all hosts can go back to; takes the lock."""
    if release is not None and not RELEASE_PART.fullmatch(release):
        raise UsageError(
            f"{release!a} is no release id, nor a part of one", where="--release", next=f"see: {to_type('history')}"
        )
    report.phase("find", release or "the good release before the current one")

    commits, irreversible = set(), set()

    def find(host: Host) -> Move:
        reply: Inspected = host.ask("inspect", owner=lock_owner())
        found = _find_on(host, release)
        commits.add(describe_commit(found.get("commit")))
        irreversible.update(found.get("irreversible", []))
        return Move(**_move_of(host, found["current"], reply), release=found["release"], commit=found.get("commit"))

    moves = all_or_stop(hosts, find, report)
    if len({move.release for move in moves}) > 1:
        choices = ", ".join(f"{move.name} to {move.release}" for move in moves)
        raise UsageError(f"the hosts would go back to different releases: {choices}", next="name one: --release ID")
    commit = ", ".join(sorted(commits - {""}))
    report.step(f"{moves[0].current} -> {moves[0].release}{f', commit {commit}' if commit else ''}")
    for name in sorted(irreversible):
        report.warn(
            f"the release command of {name} is irreversible: what it changed stays, and may not fit {moves[0].release}"
        )
    return moves


def _find_on(host: Host, release: str | None) -> FoundRelease:
    """The release of this name on the host; one that answers with another is not believed."""
    found: FoundRelease = host.ask("find", release=release)
    name = found["release"]
    if release is not None and not (name.startswith(release) or name.endswith(f"-{release}")):
        raise UnreachableError(f"its agent was asked for release '{release}' and answered '{name}'", where=host.name)
    return found


# -- to the release of the environment -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing(HostValue):
    """What a host runs, and whether that counts as the release of the environment."""

    current: str | None
    is_good: bool
    is_unfinished: bool
    runs_well: bool
    is_misplaced: bool = False

    def is_behind(self, release: str) -> bool:
        """A host that died in its switch has the former release still linked, and perhaps runs the other one."""
        return self.current != release or self.is_unfinished or self.is_misplaced or not self.runs_well


def find_standings(hosts: Sequence[Host], report: Report) -> list[Standing]:
    report.phase("find", "the release of the environment")
    return all_or_stop(hosts, _find_standing, report)


def _find_standing(host: Host) -> Standing:
    reply: Inspected = host.ask("inspect")
    current = reply["current"]
    mark = None if current is None else reply["marks"].get(current)
    is_good = current is not None and mark is not None and mark["mark"] == "good" and _is_of_artifact(current, mark)
    is_unfinished = reply["unfinished"] or bool(reply["owed"])
    misplaced = host.is_misplaced(reply["status"], reply.get("apps", []))
    return Standing(host, current, is_good, is_unfinished, not reply["workers"], misplaced)


def common_release(standings: Sequence[Standing]) -> str:
    """The release that most of the hosts run and call good, the newest of those of which as many do.

    What one host says decides little: the hosts that are behind go there only where they have that release themselves, made of
    the same artifact (`require_release`).
    """
    good = [one.current for one in standings if one.is_good and one.current is not None]
    if not good:
        raise UsageError("no host runs a release that is known to be good", next=to_type("deploy"))
    return max(set(good), key=lambda release: (good.count(release), release))


def require_release(hosts: Sequence[Host], release: str, report: Report) -> list[Move]:
    """Lock the hosts and have each verify that it has the release."""

    def find(host: Host) -> Move:
        reply: Inspected = host.ask("inspect", owner=lock_owner())
        if not _is_of_artifact(release, reply["marks"].get(release)):
            raise PreflightError(
                f"its release {release} is made of another artifact", where=host.name, next=host.scope.command("deploy")
            )
        try:
            found = _find_on(host, release)
        except UsageError as error:
            raise UsageError(
                error.what, where=error.where, next=f"{host.scope.command('deploy')} brings it there"
            ) from None
        return Move(**_move_of(host, reply["current"], reply), release=found["release"], commit=found.get("commit"))

    moves = all_or_stop(hosts, find, report)
    report.step(", ".join(f"{move.name}: {move.current or 'nothing'} -> {release}" for move in moves))
    return moves


def _is_of_artifact(release: str, mark: Mark | None) -> bool:
    """Where the mark names no artifact, the release's own hash has to do."""
    digest = (mark.get("digest") or mark.get("artifact")) if mark else None
    return is_made_of(release, digest or release[15:])
