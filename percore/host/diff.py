"""What would change here and why, and what was changed by hand: asked, never touched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Callable, Optional

from percore.common.records.diff import Side, app_changes, diff_text
from percore.host.files import read_file
from percore.host.messages import CompareRequest, Spec
from percore.host.release.change.handlers import describe
from percore.host.release.placement import record_here
from percore.host.release.plan import kept_contents, left_over, load_plan, plan_changes, plan_or_none
from percore.host.release.running import find_deviations
from percore.host.release.target import Target
from percore.host.replies import CompareReply, DriftReply, ShownChange
from percore.host.resources.registry import make
from percore.host.resources.resource import Contents, shown
from percore.host.resources.systemd import Unit
from percore.host.setup.placed import read_placed

Receive = Callable[[dict[str, int], list[str]], dict[str, bytes]]
"""Gives the contents of these SHA-256, from the control side, by their sizes."""


def compare(target: Target, request: CompareRequest, receive: Receive) -> CompareReply:
    """What a deploy would change and why, with diffs where asked for. Nothing is locked, nothing is touched."""
    changed = [(spec, text) for spec in request.resources if (text := make(spec).change())]
    wanted = [spec["sha256"] for spec, _ in changed if spec.get("sha256") in request.sizes]
    contents = receive(request.sizes, list(dict.fromkeys(wanted))) if request.diff else {}
    current = target.releases.current()
    former = _specs_of(target, current)
    changes = []
    for spec, text in changed:
        new = contents.get(spec.get("sha256", ""))
        changes.append(ShownChange(text, "" if new is None else _diff(spec, new, former)))
    reasons = _why(target, request, current) if request.record and current else []
    if request.activation and (plan := plan_or_none(target.releases, current) if current else None):
        gone = [text for spec in left_over(request.activation, plan) if (text := make(spec).change())]
        changes += [ShownChange(text, "") for text in gone]
    handlers = target.handlers.texts() + _would_run([spec for spec, _ in changed], request.handlers)
    return CompareReply(changes, reasons, handlers)


def _why(target: Target, request: CompareRequest, current: str) -> list[str]:
    """Why workers are replaced, and what else the release has otherwise."""
    record = json.loads(read_file(target.releases.record_path(current)))
    wanted = json.loads(json.dumps(request.record).replace(request.place, current))
    artifact = target.releases.marks.read().get(current, {}).get("artifact")
    reasons = [] if artifact in (None, request.artifact) else ["the app's files differ"]
    reasons += app_changes(record, wanted, request.places)
    plan = plan_or_none(target.releases, current)
    if plan is None or request.activation is None:
        return reasons
    if _health_paths(record) != _health_paths(wanted):  # it was said of each app
        plan = plan._replace(health={**plan.health, "path": request.activation.health.get("path")})
    return reasons + plan_changes(plan, request.activation, request.places)


def _health_paths(record: Mapping[str, Any]) -> list[Any]:
    return [app.get("health") for app in record["apps"]]


def compare_release(target: Target, release: str, absent: Optional[Collection[str]]) -> CompareReply:
    """What going to a release that is here would change and why, with diffs."""
    releases = target.releases
    current = releases.current()
    plan, contents = load_plan(releases, release), kept_contents(releases, release)
    changed = [(spec, text) for spec in plan.before + plan.after if (text := make(spec, contents).change())]
    former = _specs_of(target, current)
    record = json.dumps(record_here(releases, release, absent))
    reasons = []
    if current:
        here = json.loads(read_file(releases.record_path(current)))
        reasons = app_changes(here, json.loads(record.replace(release, current)))
    marks = releases.marks.read()
    same = current and marks.get(current, {}).get("artifact") == marks.get(release, {}).get("artifact")
    return CompareReply(
        changes=[ShownChange(text, _kept_diff(spec, contents, former)) for spec, text in changed],
        reasons=([] if same else ["the app's files differ"]) + reasons,
        handlers=_would_run([spec for spec, _ in changed], plan.handlers),
    )


def find_drift(target: Target) -> DriftReply:
    """Where this host differs from what its own release says: workers, and files that were edited by hand."""
    current = target.releases.current()
    status = target.status()
    if current is None:
        return DriftReply(None, status, [], [], target.handlers.texts())
    workers = find_deviations(target.releases, current, status)
    plan, contents = load_plan(target.releases, current), kept_contents(target.releases, current)
    files = []
    for spec in plan.before + plan.after:
        resource = make(spec, contents)
        if isinstance(resource, Unit):
            workers += filter(None, [resource.deviation()])
        elif spec["kind"] != "command" and (text := resource.change()):
            own = {spec["path"]: spec} if "path" in spec else {}
            files.append(ShownChange(text, _kept_diff(spec, contents, own, by_hand=True)))
    place = target.releases.path(current)
    files += [ShownChange(f"{verb} {place}/{name}", "") for verb, _, name in _split(target.edits(current))]
    return DriftReply(current, status, workers, files, target.handlers.texts())


def _split(edits: Sequence[str]) -> list[tuple[str, str, str]]:
    return [edit.partition(" ") for edit in edits]


def _specs_of(target: Target, release: Optional[str]) -> Optional[dict[str, Spec]]:
    """What lies where, by a release that is here, or by the set-up; None where its plan cannot be read."""
    if release is None:
        return read_placed(target.releases)
    plan = plan_or_none(target.releases, release)
    return None if plan is None else {spec["path"]: spec for spec in plan.before + plan.after if "path" in spec}


def _kept_diff(spec: Spec, contents: Contents, former: Optional[Mapping[str, Spec]], *, by_hand: bool = False) -> str:
    """Of a release that is here."""
    return _diff(spec, contents(spec["sha256"]), former, by_hand=by_hand) if spec.get("sha256") else ""


def _diff(spec: Spec, content: bytes, former: Optional[Mapping[str, Spec]], *, by_hand: bool = False) -> str:
    """From what is here, which the specs of `former` put there, to what is wanted; `by_hand` the other way round."""
    here, wanted = _side_here(spec, former), Side(content, spec.get("secret"))
    path = shown(spec, spec["path"])
    return diff_text(wanted, here, path) if by_hand else diff_text(here, wanted, path)


def _side_here(spec: Spec, former: Optional[Mapping[str, Spec]]) -> Side:
    """Which of its lines are secret is known of a file as we put it. Of any other, none is shown where one may be a secret."""
    content = _read_or_nothing(spec["path"])
    put = (former or {}).get(spec["path"])
    if put and put.get("sha256") == hashlib.sha256(content).hexdigest():
        return Side(content, put.get("secret"))
    is_free = former is not None and not any(each.get("secret", True) for each in (spec, put) if each)
    return Side(content, {} if is_free else None)


def _would_run(changed: Sequence[Spec], handlers: Sequence[Spec]) -> list[str]:
    """The handlers that these resources would notify, in their order."""
    notified = {name for spec in changed for name in spec.get("notify", ())}
    return [describe(handler) for handler in handlers if handler["name"] in notified]


def _read_or_nothing(path: str) -> bytes:
    try:
        return read_file(path)
    except OSError:
        return b""
