"""Whose a deploy_to is: a project is an app_name with its environment, noted beside its releases."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import NamedTuple, Optional

from percore.common import typed
from percore.common.names import is_release_id
from percore.common.typed import Line
from percore.errors import PercoreError, PreflightError
from percore.host.files import read_file, write_file
from percore.host.messages import NOTHING, TargetPaths

PROJECT_FILE = "project.json"


class Owner(NamedTuple):
    """`shared` are its settings of what it shares with other projects; the oldest project decides about those."""

    app: Line
    env: Line
    since: float
    shared: Mapping[Line, Line] = NOTHING

    @property
    def title(self) -> str:
        return f"'{self.app}' in environment '{self.env}'"


def read_owner(deploy_to: str) -> Optional[Owner]:
    """None where an older version deployed, or nobody."""
    try:
        owner: Owner = typed.read(Owner, json.loads(read_file(os.path.join(deploy_to, PROJECT_FILE))))
    except (OSError, ValueError, PercoreError):
        return None
    return owner


def refuse_other_project(paths: TargetPaths) -> None:
    """Raises PreflightError where the directory is that of another project, or of this one in another environment."""
    owner = read_owner(paths.deploy_to) if paths.app and paths.env else None
    if owner is None or is_own(owner, paths) or not _has_releases(paths.deploy_to):
        return
    raise PreflightError(
        f"{paths.deploy_to} belongs to {owner.title}, and this is '{paths.app}' in environment '{paths.env}'",
        next=f"set another deploy_to here; if it was renamed, set renamed_from: {owner.app}/{owner.env}",
    )


def _has_releases(deploy_to: str) -> bool:
    """A first deploy that was refused leaves none."""
    directory = os.path.join(deploy_to, "releases")
    return os.path.isdir(directory) and any(map(is_release_id, os.listdir(directory)))


def is_own(owner: Owner, paths: TargetPaths) -> bool:
    """`renamed_from` is the former app_name, or `app_name/environment`."""
    app, _, env = (paths.renamed_from or "").partition("/")
    return (owner.app, owner.env) in {(paths.app, paths.env), (app, env or paths.env)}


def claim(paths: TargetPaths, *, with_settings: bool = False) -> None:
    """From the first deploy on it is ours, also under a new name. `with_settings`: those of ours are in effect."""
    if not paths.app or not paths.env:
        return
    known = read_owner(paths.deploy_to) or Owner("", "", time.time(), {})
    shared = dict(paths.shared) if with_settings else known.shared
    owner = Owner(paths.app, paths.env, known.since, shared)
    if owner != known:
        content = json.dumps(owner._asdict(), indent=1, sort_keys=True).encode()
        write_file(os.path.join(paths.deploy_to, PROJECT_FILE), content, mode=0o600)
