"""Who a worker runs as."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

from percore.common.typing import NamedTuple, Optional
from percore.errors import PercoreError

_HIGHEST_ID = 2**32 - 2  # the one above means "no user in particular" to the kernel
_NO_GROUP = 65534  # the kernel's own number for it


class Identity(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...]
    variables: Mapping[str, str]  # what names the user in an environment


def identity_of(user: Optional[str], group: Optional[str]) -> Optional[Identity]:
    """The user and group that an app names; None where it names none, or where we may not choose: only root may.

    Raises PercoreError when there is no such user or group.
    """
    if os.geteuid() != 0 or not (user or group):
        return None
    entry = find_user(user) if user else pwd.getpwuid(0)
    gid = find_group(group) if group else entry.pw_gid
    return Identity(entry.pw_uid, gid, tuple(os.getgrouplist(entry.pw_name, gid)), variables_of(entry) if user else {})


def identity_or_none(user: Optional[str], group: Optional[str]) -> Optional[Identity]:
    """As `identity_of`; None also where there is no such user, whose files are then touched as those of any other user."""
    try:
        return identity_of(user, group)
    except PercoreError:
        return None


def uid_of(user: Optional[str], group: Optional[str]) -> int:
    """Whose processes those of an app are; -1 where that user is gone."""
    try:
        identity = identity_of(user, group)
    except PercoreError:
        return -1
    return identity.uid if identity else os.geteuid()


def variables_of(entry: pwd.struct_passwd) -> dict[str, str]:
    """What names the user in an environment."""
    return {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name, "SHELL": entry.pw_shell}


def find_user(user: str) -> pwd.struct_passwd:
    """The user of this name or number; raises PercoreError when there is none."""
    try:
        if not is_number(user):
            return pwd.getpwnam(user)
        if 0 <= (number := int(user)) <= _HIGHEST_ID:
            return _by_number(number)
        raise KeyError(user)
    except (KeyError, OverflowError, ValueError):
        raise PercoreError(f"there is no user '{user}' here", next="create the user, or change 'user'") from None


def _by_number(number: int) -> pwd.struct_passwd:
    """Containers have users without a name: such a one has no home, and the rights of no group."""
    try:
        return pwd.getpwuid(number)
    except KeyError:
        return pwd.struct_passwd((str(number), "x", number, _NO_GROUP, "", "/", "/bin/sh"))


def find_group(group: str) -> int:
    """The number of the group of this name or number; raises PercoreError when there is no such name."""
    import grp  # not before an app names a group

    try:
        number = int(group) if is_number(group) else grp.getgrnam(group).gr_gid
        if number <= _HIGHEST_ID:
            return number
        raise KeyError(group)
    except (KeyError, ValueError):
        raise PercoreError(f"there is no group '{group}' here", next="create the group, or change 'group'") from None


def is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
