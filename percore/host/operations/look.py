"""Operations that look: what is on this host, what differs from what is wanted, and what was done here."""

from __future__ import annotations

from typing import Optional

from percore.errors import PercoreError
from percore.host import diff, facts, replies
from percore.host import messages as m
from percore.host.ports import find_owners
from percore.host.projects.conflicts import find_conflicts, taken_name, title_of
from percore.host.projects.messages import PortsRequest
from percore.host.projects.owner import claim
from percore.host.projects.placed_files import files_of
from percore.host.release.change.journal import Journal
from percore.host.release.placement import names_of, once_of, read_holders
from percore.host.release.plan import plan_here, sites_here
from percore.host.release.releases import Releases
from percore.host.release.running import find_deviations, find_missing, ports_of_app
from percore.host.release.target import Target
from percore.host.resources.registry import make
from percore.host.session import Session


def inspect(session: Session, request: m.InspectRequest, target: Target) -> replies.InspectReply:
    """What is here now, and what would change; takes the lock when an `owner` asks for it."""
    if request.owner:
        session.take_lock(target, request.owner)
        claim(target.paths)
        session.roll_back_unfinished(target)
        target.releases.staging.clean()
    releases, status = target.releases, target.status()
    current = releases.current()
    search = facts.path_of_unit(request.unit) if request.unit and request.programs else None
    return replies.InspectReply(
        current=current,
        marks=releases.marks.read(),
        changes=[text for text in (make(spec).change() for spec in request.resources) if text],
        owed=target.handlers.texts(),
        unfinished=bool(Journal(releases.journal_path).read()),
        status=status,
        workers=find_deviations(releases, current, status),
        edits=target.edits_of(request.fingerprint) if request.fingerprint else {},
        disk_free_bytes=facts.free_bytes(releases.directory),
        inodes_free=facts.free_inodes(releases.directory),
        memory_free_bytes=facts.free_memory(),
        versions={name: facts.program_version(name, search) for name in request.programs},
        apps=names_of(releases, current),
        placement=read_holders(releases),
    )


def compare(session: Session, request: m.CompareRequest, target: Target) -> replies.CompareReply:
    return diff.compare(target, request, session.staging(target).receive_contents)


def compare_release(session: Session, request: m.CompareReleaseRequest, target: Target) -> replies.CompareReply:
    return diff.compare_release(target, request.release, request.absent)


def drift(session: Session, request: m.DriftRequest, target: Target) -> replies.DriftReply:
    return diff.find_drift(target)


def find(session: Session, request: m.FindRequest, target: Target) -> replies.FindReply:
    """The release to go back to: the named one, or the newest good one before the current."""
    releases = target.releases
    found = releases.find(request.release) if request.release else releases.previous_good()
    session.staging(target).verify(found)
    marks = releases.marks
    return replies.FindReply(found, releases.current(), marks.commit(found), marks.irreversible_after(found))


def status(session: Session, request: m.StatusRequest, target: Target) -> replies.CurrentReply:
    releases, found = target.releases, target.status()
    current = releases.current()
    return replies.CurrentReply(
        current, found, find_missing(releases, current, found), releases.marks.commit(current),
        names_of(releases, current), read_holders(releases), once_of(releases),
    )  # fmt: skip


def read_history(session: Session, request: m.HistoryRequest, target: Target) -> replies.HistoryReply:
    return replies.HistoryReply(target.releases.history.last(request.count))


def ports(session: Session, request: PortsRequest) -> replies.PortsReply:
    target = Target(request.target) if request.target else None
    home = target.supervisor.home if target else None
    found = find_owners(request.ports, user=_user_of(target), home=home)
    if target is None:
        return replies.PortsReply(found, [])
    foreign = [app for app in target.foreign_apps() if app.get("source")]
    for app in foreign:
        for port in ports_of_app(app) & {*request.ports}:
            found[str(port)] = f"app '{app['name']}' of {title_of(app['source'])}"
    sites = [site._replace(leaving=[*site.leaving, *_left_sites(target, request)]) for site in request.sites]
    taken = target.taken()
    conflicts = [taken_name(taken[name]) for name in request.apps if name in taken]
    others = {source: _files_here(Releases(source)) for source in sorted({app["source"] for app in foreign})}
    conflicts += find_conflicts(target.paths, others, request._replace(sites=sites))
    return replies.PortsReply(found, conflicts)


def _files_here(releases: Releases) -> dict[str, str]:
    plan = plan_here(releases)
    return files_of([*plan.before, *plan.after])


def _left_sites(target: Target, request: PortsRequest) -> list[str]:
    """Of the release that runs, those which the new one does not have."""
    wanted = {site.link for site in request.sites}
    return [link for link in sites_here(target.releases) if link not in wanted]


def _user_of(target: Optional[Target]) -> Optional[int]:
    """The supervisor's; None while that user is still to be made."""
    try:
        return target.supervisor.uid() if target else None
    except PercoreError:
        return None
