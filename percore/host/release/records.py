"""What a release keeps beside the app's own files: its plan, its records, and the contents of the files of roles."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any, Optional

from percore.common import typed
from percore.common.records.diff import without_apps
from percore.host.files import read_file, write_file
from percore.host.messages import AmendRequest, Plan, StageRequest, TagChoice
from percore.host.release.placement import encode
from percore.host.release.plan import load_plan
from percore.host.release.releases import Releases
from percore.host.tags import Selection


def write_release_files(
    releases: Releases, request: StageRequest, received: dict[str, bytes], *, user: Optional[str]
) -> None:
    """Put the records beside the app's own files: for the supervisor one, for activation the other."""
    staging = releases.staging.path(request.release)
    directory = os.path.join(staging, ".percore")
    os.makedirs(os.path.join(directory, "files"), mode=0o700)
    os.chmod(directory, 0o700)
    plan = _merged(releases, request.activation, request.selection)
    wanted = {*request.files, *(spec["sha256"] for spec in plan.before + plan.after if "sha256" in spec)}
    _write_contents(os.path.join(directory, "files"), wanted, received, kept_files(releases))
    _write_json(os.path.join(directory, "activation.json"), typed.as_json(plan))
    _write_json(os.path.join(directory, "record.json"), request.record)
    _write_json(os.path.join(staging, ".percore.json"), without_apps(request.record, request.absent), owner=user)


def write_amendment(
    releases: Releases, release: str, request: AmendRequest, received: dict[str, bytes], kept: dict[str, str]
) -> None:
    """Put the other contents and the other plan beside those of the release that runs."""
    _write_contents(releases.files_path(release), request.files, received, kept)
    plan = _merged(releases, request.activation, request.selection)
    _write_json(releases.plan_path(release, amended=True), typed.as_json(plan))


def _merged(releases: Releases, plan: Plan, tags: TagChoice) -> Plan:
    """The wanted plan; what the run is not about stays as the release that runs has it."""
    current = releases.current()
    selection = Selection(*tags)
    if selection.is_everything:
        return plan
    present = load_plan(releases, current) if current else Plan([], [])
    names = {handler["name"] for handler in plan.handlers}
    return plan._replace(
        before=selection.merge(plan.before, present.before),
        after=selection.merge(plan.after, present.after),
        handlers=[*(handler for handler in present.handlers if handler["name"] not in names), *plan.handlers],
    )


def _write_contents(directory: str, wanted: Collection[str], received: dict[str, bytes], kept: dict[str, str]) -> None:
    for sha256 in wanted:
        content = received[sha256] if sha256 in received else read_file(kept[sha256])
        write_file(os.path.join(directory, sha256), content, mode=0o600)


def _write_json(path: str, content: dict[str, Any], *, owner: Optional[str] = None) -> None:
    write_file(path, encode(content), mode=0o600, owner=owner)


def kept_files(releases: Releases) -> dict[str, str]:
    """Contents of earlier releases that are here already: by hash, where."""
    found: dict[str, str] = {}
    for release in releases.names():
        directory = releases.files_path(release)
        if os.path.isdir(directory):
            found.update({name: os.path.join(directory, name) for name in os.listdir(directory)})
    return found
