"""A command of root in a home of another user continues as that user: root trusts nothing that another user wrote.

What runs is still root's program text, and a process that dropped its rights cannot be traced by the user it changed to.
"""

from __future__ import annotations

import os
import pwd
import stat
import sys

from percore.common.typing import Optional
from percore.errors import PercoreError
from percore.supervisor.base.environment import clean_environment
from percore.supervisor.base.home import Home
from percore.supervisor.base.user import variables_of
from percore.supervisor.base.user_files import user_with

# Also passed on: how a command behaves, and what a service manager passes to a supervisor.
_KEPT = ("PERCORE_DEBUG", "PERCORE_RUNTIME_PLAN", "PM2_SILENT", "TERM", "NO_COLOR", "COLUMNS", "LINES", "NOTIFY_SOCKET",
         "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")  # fmt: skip
_MOST_LINKS = 40
_ANY_USER = -1


def find_home() -> Home:
    """The home of this process, which goes on as the user it belongs to. Ends with a sentence where that cannot be."""
    try:
        home = Home.of_user()
        go_on_as_owner(home)
    except PercoreError as error:
        raise SystemExit(f"percore: {error}") from None
    return home


def go_on_as_owner(home: Home) -> None:
    """Raises PercoreError where the home belongs to another user and we cannot change to that user."""
    uid, gid = _owner_of(home)
    if uid in (0, os.geteuid()):
        return
    if os.geteuid() != 0:
        raise PercoreError(f"{home.path} belongs to another user", next=_as_user(uid))
    owner = user_with(uid, gid)
    os.setgroups(owner.groups)
    os.setgid(owner.gid)
    os.setuid(owner.uid)
    kept = {name: value for name, value in os.environ.items() if name in _KEPT}
    kept.update(clean_environment(os.environ), **_variables(owner.uid), PERCORE_HOME=home.path)
    os.environ.clear()
    os.environ.update(kept)
    if not all(os.access(place, os.R_OK) for place in (__file__, os.__file__, sys.executable)):
        raise PercoreError(
            f"{home.path} belongs to user {_name_of(owner.uid)}, who cannot read this percore ({os.path.dirname(__file__)})",
            next=f"install it where every user can read it, then: {_as_user(owner.uid)}",
        )


def _owner_of(home: Home) -> tuple[int, int]:
    """The numbers of its user and group. Raises PercoreError where others could put another directory in its place."""
    entry, changers = _look_along(home.path)
    uid = entry.st_uid if entry else os.geteuid()
    if entry and entry.st_mode & 0o002:
        changers[_ANY_USER] = home.path
    others = {changer: place for changer, place in changers.items() if changer not in (0, uid)}
    if os.geteuid() == 0 and others:
        changer, place = next(iter(others.items()))
        who = "other users" if changer == _ANY_USER else f"user {_name_of(changer)}"
        raise PercoreError(
            f"root does not use the home {home.path}: {place} can be changed by {who}",
            next=f"set PERCORE_HOME to a directory that only root can change, or: {_as_user(uid or changer)}",
        )
    return uid, entry.st_gid if entry else os.getegid()


def _look_along(path: str) -> tuple[Optional[os.stat_result], dict[int, str]]:
    """What is at the path (None: nothing), and by user, where that user could replace a part of the path."""
    changers: dict[int, str] = {}
    place, left, links = "/", _names(path), 0
    directory: Optional[os.stat_result] = os.stat(place)
    while left and directory:
        name = left.pop(0)
        if name == "..":
            place = os.path.dirname(place)
            directory = os.stat(place)
            continue
        inside = os.path.join(place, name)
        entry = _entry_at(inside)
        _note_changers(changers, place, directory, entry)
        if entry and stat.S_ISLNK(entry.st_mode) and links < _MOST_LINKS:
            links += 1
            target = os.readlink(inside)
            left = _names(target) + left
            place = "/" if target.startswith("/") else place
            directory = os.stat(place)
        else:
            place, directory = inside, entry
    return directory, changers


def _note_changers(
    changers: dict[int, str], place: str, directory: os.stat_result, entry: Optional[os.stat_result]
) -> None:
    changers.setdefault(directory.st_uid, place)
    if directory.st_mode & stat.S_ISVTX:
        if entry:  # only its owner can move it
            changers.setdefault(entry.st_uid, place)
    elif directory.st_mode & 0o002 or (directory.st_mode & 0o020 and directory.st_gid != 0):
        changers.setdefault(_ANY_USER, place)


def _entry_at(path: str) -> Optional[os.stat_result]:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _variables(uid: int) -> dict[str, str]:
    try:
        return variables_of(pwd.getpwuid(uid))
    except KeyError:
        return {}


def _name_of(uid: int) -> str:
    return _variables(uid).get("USER", f"#{uid}")


def _as_user(uid: int) -> str:
    """The line to type."""
    return f"sudo -u {'USER' if uid == _ANY_USER else _name_of(uid)} percore {' '.join(sys.argv[1:])}".rstrip()
