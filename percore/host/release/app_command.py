"""A command as an app of a release would run it: in the app's directory, as its user, with its environment.

The release's record belongs to the supervisor's user, who may change it: nothing in it gives more rights than that user has.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Optional

from percore.common import typed
from percore.common.typed import Line, between
from percore.errors import PercoreError, UsageError, nearest
from percore.host.files import read_file
from percore.host.supervisor.supervisor import Supervisor

_NO_VARIABLES: Mapping[str, str] = {}


class RecordedApp(NamedTuple):
    """What the release's record says of an app, as far as a command needs it."""

    name: Line
    cwd: Line
    env: Mapping[str, str] = _NO_VARIABLES
    port: Optional[Annotated[int, between(1, 65535)]] = None
    user: Optional[Line] = None
    group: Optional[Line] = None


class Record(NamedTuple):
    apps: Sequence[RecordedApp]


class AppCommand(NamedTuple):
    """`rights` are Popen's: none where it runs as we do."""

    app: str
    words: Sequence[str]
    directory: str
    env: Mapping[str, str]
    rights: Mapping[str, Any]

    def start(self, **streams: Any) -> subprocess.Popen[bytes]:
        """In a session of its own, so that it ends with all that it started."""
        try:
            return subprocess.Popen(
                self.words, cwd=self.directory, env=self.env, start_new_session=True, umask=0o022, **streams, **self.rights
            )  # fmt: skip
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise PercoreError(f"cannot run '{self.words[0]}': {reason}") from None


def make_app_command(supervisor: Supervisor, release: str, place: str, app: str, words: Sequence[str]) -> AppCommand:
    """`place` is the directory of the release; without the name of an app its first one counts, of a single word a shell."""
    found = _find_app(place, app)
    cwd = os.path.realpath(found.cwd)
    directory = cwd if cwd.startswith(f"{os.path.realpath(place)}/") and os.path.isdir(cwd) else place
    own, rights = _identity(supervisor, found)
    env = {**supervisor.env(), **own, **found.env, "PERCORE_APP": found.name, "PERCORE_RELEASE": release}
    if found.port is not None:
        env["PORT"] = str(found.port)
    env["PATH"] = ":".join([*_programs_of(place, directory, env), env.get("PATH", os.defpath)])
    line = ["/bin/sh", "-c", words[0]] if len(words) == 1 else list(words)
    return AppCommand(found.name, line, directory, env, rights)


def _find_app(place: str, name: str) -> RecordedApp:
    path = os.path.join(place, ".percore.json")
    try:
        apps: Sequence[RecordedApp] = typed.read(Record, json.loads(read_file(path))).apps
    except (typed.Wrong, ValueError) as error:
        raise PercoreError(f"makes no sense ({error})", where=path, next="deploy again") from None
    names = [app.name for app in apps]
    if not names:
        raise UsageError("the release has no app on this host", next="choose another host: --limit HOST")
    if name and name not in names:
        like = nearest(name, names)
        raise UsageError(
            f"no app '{name}' in the release",
            next=f"did you mean '{like}'?" if like else f"its apps: {', '.join(names)}",
        )
    return next(app for app in apps if name in ("", app.name))


def _programs_of(place: str, directory: str, env: Mapping[str, str]) -> list[str]:
    """Where the app's dependencies have their commands."""
    packages = [f"{path}/bin" for path in env.get("PYTHONPATH", "").split(":") if path.startswith(f"{place}/")]
    modules = [f"{path}/node_modules/.bin" for path in dict.fromkeys((directory, place))]
    return [path for path in (*packages, *modules) if os.path.isdir(path)]


def _identity(supervisor: Supervisor, app: RecordedApp) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    """(variables that name the user, the rights of a process of his). Only root's supervisor gives an app another user."""
    is_roots = supervisor.uid() == 0
    name = (app.user if is_roots else None) or supervisor.user
    group = app.group if is_roots else None
    if os.geteuid() != 0 or not (name or group):
        return {}, {}
    try:
        entry = _find_user(name or "0")
        gid = entry.pw_gid if group is None else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
        groups = os.getgrouplist(entry.pw_name, gid)
    except (KeyError, OverflowError):
        raise PercoreError(f"there is no user '{name}' or no group '{group}' here", next="deploy again") from None
    own = {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name, "SHELL": entry.pw_shell}
    return own if is_roots and app.user else {}, {"user": entry.pw_uid, "group": gid, "extra_groups": groups}


def _find_user(name: str) -> pwd.struct_passwd:
    return pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
