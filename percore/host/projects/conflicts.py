"""What a project would take from another one on this host: refused before anything is touched, with both named."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

from percore.common.names import UNIT
from percore.errors import PercoreError
from percore.host.files import read_file
from percore.host.messages import TargetPaths
from percore.host.projects.messages import PortsRequest
from percore.host.projects.owner import Owner, read_owner
from percore.host.projects.sites import app_of, find_clash
from percore.host.replies import ConflictFound

UNIT_FILE = f"/etc/systemd/system/{UNIT}"
_HOME_OF_UNIT = re.compile(r'^Environment="PERCORE_HOME=(.*)"$', re.MULTILINE)


def title_of(deploy_to: str) -> str:
    owner = read_owner(deploy_to)
    return f"{owner.title} ({deploy_to})" if owner else f"another project ({deploy_to})"


def taken_name(app: Mapping[str, Any]) -> ConflictFound:
    """It is called as one of ours, and is not ours."""
    name, source = app["name"], app["source"] or "a script"
    if app.get("release"):
        what = f"there is an app '{name}' of {title_of(source)} here, and this project has one, too"
        owner = read_owner(source)
        keep = f"deploy_to: {source}" + (f" and renamed_from: {owner.app}/{owner.env}" if owner else "")
        return ConflictFound(
            what,
            f"give one of them another name or a namespace; if it is the same project under a new name, set {keep}",
        )
    return ConflictFound(
        f"there is an app '{name}' here that was started from {source}, and this project would replace it",
        f"give one of them another name or a namespace, or end it on the host: percore delete {name}",
    )


def find_conflicts(
    paths: TargetPaths, others: Mapping[str, Mapping[str, str]], request: PortsRequest
) -> Iterator[ConflictFound]:
    """`others` are the deploy_to of other projects, with the files of their releases elsewhere, as the request has ours."""
    for other in others:
        yield from _other_files(paths, other, others[other], request.files)
        if _lies_in(paths.deploy_to, other) or _lies_in(other, paths.deploy_to):
            what = f"deploy_to {paths.deploy_to} and that of {title_of(other)} lie in one another"
            yield ConflictFound(what, "set a directory of its own")
    if paths.shared:
        yield from filter(None, (_other_home(paths), _other_settings(paths, [*others], paths.shared)))
    for site in request.sites:
        if (clash := find_clash(site.content, [site.path, site.link, *site.leaving])) is not None:
            yield _refused_site(paths, clash.name, clash.address, clash.file)


def _lies_in(path: str, other: str) -> bool:
    return path != other and f"{path}/".startswith(f"{other}/")


def _other_files(
    paths: TargetPaths, other: str, theirs: Mapping[str, str], ours: Mapping[str, str]
) -> Iterator[ConflictFound]:
    """percore's own are shared."""
    shared = {UNIT_FILE, paths.command[0], f"{paths.package}/current"}
    for path in sorted(ours.keys() & theirs.keys() - shared):
        if ours[path] != theirs[path]:
            yield ConflictFound(
                f"{path} is a file of {title_of(other)} as well, with another content",
                f"set another app_name, such as app_name: {paths.app}-{paths.env}, or another path in the role",
            )


def _other_home(paths: TargetPaths) -> Optional[ConflictFound]:
    """There is one unit on a host, and so one home."""
    with contextlib.suppress(OSError, PercoreError):
        found = _HOME_OF_UNIT.search(read_file(UNIT_FILE).decode(errors="replace"))
        home = found[1] if found else paths.home
        if home != paths.home and (others := _sources_in(home) - {paths.deploy_to}):
            what = f"{UNIT} on this host has percore_home {home}, for {title_of(min(others))}"
            advice = f"set percore_home: {home} here, and percore_user, package_path and launcher_path as there"
            return ConflictFound(f"{what}; this project sets {paths.home}", advice)
    return None


def _sources_in(home: str) -> set[str]:
    """Where the apps of a supervisor came from."""
    try:
        apps: Any = json.loads(read_file(os.path.join(home, "state.json")))["apps"]
        return {str(app["config"].get("source", "")) for app in apps} - {""}
    except (PercoreError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _other_settings(paths: TargetPaths, others: Sequence[str], shared: Mapping[str, str]) -> Optional[ConflictFound]:
    """The oldest project decides, so that a setting can be changed: there first, then in the others."""
    owners = [(owner, other) for other in others if (owner := read_owner(other))]
    oldest, place = min(owners, key=lambda pair: pair[0].since, default=(None, ""))
    ours = read_owner(paths.deploy_to)
    if oldest is None or (ours and ours.since <= oldest.since):
        return None
    differing = [name for name in sorted(shared) if oldest.shared.get(name, shared[name]) != shared[name]]
    if not differing:
        return None
    told = ", ".join(_told(name, oldest, shared) for name in differing)
    return ConflictFound(
        f"the supervisor of this host is shared with {oldest.title} ({place}), which sets it up otherwise: {told}",
        "set the same here, or deploy the change there first",
    )


def _told(name: str, owner: Owner, shared: Mapping[str, str]) -> str:
    """What a unit is given may be secret, and is compared by its hash."""
    return name if name.startswith("unit_") else f"{name} is {owner.shared[name]}, and {shared[name]} here"


def _refused_site(paths: TargetPaths, name: str, address: str, file: str) -> ConflictFound:
    app = app_of(file)
    whose = f"the site of '{app}' ({file})" if app else file
    port = address.rpartition(":")[2]
    if name:
        what = f"server_name {name or '_'} on port {port} is that of {whose}, and of '{paths.app}'"
        return ConflictFound(what, "set another server_name or nginx_port, or list the site's link in nginx_replaces")
    what = f"{whose} is the default server on port {port}, as '{paths.app}' would be"
    advice = "set server_name to the names of this site, or another nginx_port"
    if app and app != paths.app:
        advice += f"; if '{app}' was renamed to '{paths.app}', list its link in nginx_replaces"
    return ConflictFound(what, advice)
