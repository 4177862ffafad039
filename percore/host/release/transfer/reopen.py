"""Directories that an older percore made under a umask such as 077: the supervisor's user could not enter them."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Optional

from percore.errors import RolloutError
from percore.host.files import set_rights, uid_of

_OTHERS = 0o077


def reopen(app: str, releases: Sequence[str], package: str, user: Optional[str]) -> list[str]:
    """Those that were closed and are open now. What somebody else made, or opened to a group, is left as it is.

    `app` is the app's directory, `releases` are those of its releases, and `package` is that of percore.
    """
    if not _is_other(user):
        return []
    places = (os.path.dirname(package), app, os.path.join(app, "releases"), os.path.join(app, "shared"), *releases)
    inner = [path for path, _, _ in os.walk(package)] if _is_closed(package) else []
    closed = [path for path in (*places, *inner) if _is_closed(path)]
    for path in closed:
        set_rights(path, 0o755)
    return closed


def _is_other(user: Optional[str]) -> bool:
    """A user that is not there yet is another one; the directories are opened before he is."""
    try:
        return user is not None and uid_of(user) != os.geteuid()
    except RolloutError:
        return True


def _is_closed(path: str) -> bool:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & _OTHERS
