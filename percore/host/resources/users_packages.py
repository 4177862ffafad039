"""Users, and packages of the operating system."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping
from typing import Optional

from percore.errors import RolloutError
from percore.host.facts import find_program
from percore.host.files import gid_of
from percore.host.resources import apt
from percore.host.resources.command import run
from percore.host.resources.resource import Resource

PACKAGE_SECONDS = 900.0


class User(Resource):
    """`name`, `home`, `shell`, `system`, `groups` besides its own, which may be there already. Never removed again: files of
    theirs may remain.
    """

    def difference(self) -> Optional[str]:
        name = self.spec["name"]
        if not self._is_there():
            return f"create user {name}"
        missing = self._missing_groups()
        return f"add user {name} to {', '.join(missing)}" if missing else None

    def _is_there(self) -> bool:
        try:
            pwd.getpwnam(self.spec["name"])
        except KeyError:
            return False
        return True

    def _missing_groups(self) -> list[str]:
        entry = pwd.getpwnam(self.spec["name"])
        own = set(os.getgrouplist(entry.pw_name, entry.pw_gid))
        return [group for group in self.spec.get("groups", []) if _gid_or_none(group) not in own]

    def apply(self) -> None:
        name, groups = str(self.spec["name"]), ",".join(map(str, self.spec.get("groups", [])))
        if self._is_there():
            run([find_program("usermod") or "usermod", "--append", "--groups", groups, name])
            return
        own_group = ["--user-group"] if _gid_or_none(name) is None else ["--gid", name]
        argv = [find_program("useradd") or "useradd", *own_group, "--no-create-home"]
        argv += ["--shell", str(self.spec.get("shell", "/usr/sbin/nologin"))]
        argv += ["--system"] if self.spec.get("system", True) else []
        argv += ["--home-dir", str(self.spec["home"])] if self.spec.get("home") else []
        argv += ["--groups", groups] if groups else []
        run([*argv, name])


class Packages(Resource):
    """`packages` of Debian, each a `name` and perhaps a `program`: where that is there already, any package will do.

    The missing ones are installed together; none is ever removed.
    """

    def missing(self) -> list[str]:
        return [entry["name"] for entry in self.spec["packages"] if not _is_there(entry)]

    def difference(self) -> Optional[str]:
        missing = self.missing()
        return f"install {' '.join(missing)}" if missing else None

    def apply(self) -> None:
        missing = self.missing()
        if find_program("apt-get") is None:
            raise RolloutError(
                f"packages are missing and there is no apt-get: {' '.join(missing)}", next="install them by hand"
            )
        if apt.is_interrupted():
            self._run(["dpkg", *apt.KEEP_FILES, "--configure", "-a"])
        install = ["apt-get", *apt.OPTIONS, "install", "-y", "-q", "--no-install-recommends", *missing]
        try:
            self._run(install)
        except RolloutError:
            # The package lists may be old or empty; once they are fresh the first error no longer counts.
            self._run(["apt-get", *apt.OPTIONS, "update", "-q"])
            self._run(install)

    def _run(self, argv: list[str]) -> None:
        apt.wait_for_lock(self.say)
        run(argv, seconds=PACKAGE_SECONDS, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def _gid_or_none(group: str) -> Optional[int]:
    try:
        return gid_of(str(group))
    except RolloutError:
        return None


def _is_there(package: Mapping[str, str]) -> bool:
    name, program = package["name"], package.get("program")
    if program and find_program(program):
        return True
    try:
        reply = subprocess.run(["dpkg-query", "-W", "-f=${Status}", name], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return False
    return "install ok installed" in reply.stdout
