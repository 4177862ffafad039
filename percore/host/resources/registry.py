"""What a host should have, by kind: each resource compares, then changes, and can say what would bring back the present state."""

from __future__ import annotations

from percore.errors import PercoreError, RolloutError
from percore.host.messages import Spec
from percore.host.resources.command import Command
from percore.host.resources.files import Absent, Directory, File, Link
from percore.host.resources.nginx import AbsentSite, NginxReload, Site
from percore.host.resources.node import Node
from percore.host.resources.resource import Contents, Resource, Say, silent
from percore.host.resources.systemd import AbsentUnitFile, SystemdReload, Unit, UnitFile
from percore.host.resources.users_packages import Packages, User

KINDS: dict[str, type[Resource]] = {
    "file": File,
    "unit-file": UnitFile,
    "systemd-reload": SystemdReload,
    "absent": Absent,
    "absent-unit-file": AbsentUnitFile,
    "directory": Directory,
    "link": Link,
    "user": User,
    "packages": Packages,
    "node": Node,
    "unit": Unit,
    "site": Site,
    "absent-site": AbsentSite,
    "nginx-reload": NginxReload,
    "command": Command,
}


def no_contents(sha256: str) -> bytes:
    raise PercoreError(f"content {sha256[:12]} was not sent")


def make(spec: Spec, contents: Contents = no_contents, say: Say = silent) -> Resource:
    """Raises RolloutError for a kind that only another version knows."""
    kind = spec.get("kind")
    if kind not in KINDS:
        raise RolloutError(
            f"a resource of kind {ascii(kind)[:40]} is not known here", next="deploy with a newer percore"
        )
    return KINDS[kind](spec, contents, say)
