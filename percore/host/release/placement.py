"""Which apps of a release this host runs: the record of the whole fleet, and the supervisor's without those of other hosts.

`placement.json` beside the releases says which host held each app of which the fleet has one.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Collection, Mapping
from typing import Any, Optional

from percore.common.records.diff import without_apps
from percore.host.files import read_file, write_file
from percore.host.messages import Spec
from percore.host.release.releases import Releases


def encode(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, indent=1).encode()


def whole_record_path(releases: Releases, release: str) -> str:
    return os.path.join(releases.path(release), ".percore", "record.json")


def whole_record(releases: Releases, release: str) -> dict[str, Any]:
    """Of a release that an older version staged only what it placed here is known."""
    try:
        content = read_file(whole_record_path(releases, release))
    except FileNotFoundError:
        content = read_file(releases.record_path(release))
    record: dict[str, Any] = json.loads(content)
    return record


def record_here(releases: Releases, release: str, absent: Optional[Collection[str]]) -> dict[str, Any]:
    """What the supervisor is given; None: as it was placed before."""
    if absent is not None:
        return without_apps(whole_record(releases, release), absent)
    record: dict[str, Any] = json.loads(read_file(releases.record_path(release)))
    return record


def record_resource(releases: Releases, release: str, absent: Collection[str], user: Optional[str]) -> Spec:
    """The file with the supervisor's record, as a resource."""
    content = base64.b64encode(encode(record_here(releases, release, absent))).decode()
    owner = {"owner": user} if user else {}
    return {"kind": "file", "path": releases.record_path(release), "content": content, "mode": "0600", **owner}


def names_of(releases: Releases, release: Optional[str]) -> list[str]:
    """The apps of a release, wherever they run."""
    return [app["name"] for app in _apps_of(releases, release)] if release else []


def once_of(releases: Releases) -> list[str]:
    """The jobs that one host of the fleet runs, by any of the releases here: a rollback may go to each."""
    here = [name for name in releases.names() if releases.exists(name)]
    return sorted({app["name"] for name in here for app in _apps_of(releases, name) if app.get("job_where") == "one"})


def _apps_of(releases: Releases, release: str) -> list[dict[str, Any]]:
    """None where the record makes no sense: the supervisor's user may have written it."""
    try:
        apps = whole_record(releases, release)["apps"]
        return [app for app in apps if isinstance(app["name"], str)]
    except (ValueError, LookupError, TypeError):
        return []


def read_holders(releases: Releases) -> dict[str, str]:
    try:
        holders: dict[str, str] = json.loads(read_file(releases.placement_path))
    except (FileNotFoundError, ValueError):
        return {}
    return holders


def note_holders(releases: Releases, holders: Mapping[str, str]) -> None:
    if holders != read_holders(releases):
        write_file(releases.placement_path, json.dumps(dict(holders)).encode(), mode=0o600)
