"""Users, and packages of the operating system."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping
from typing import Optional

from percore.errors import RolloutError
from percore.host.facts import find_program
from percore.host.resources.command import run
from percore.host.resources.resource import Resource

PACKAGE_SECONDS = 900.0


class User(Resource):
    """`name`, `home`, `shell`, `system`. Never removed again: files of theirs may remain."""

    def difference(self) -> Optional[str]:
        try:
            pwd.getpwnam(self.spec["name"])
        except KeyError:
            return f"create user {self.spec['name']}"
        return None

    def apply(self) -> None:
        argv = [
            "useradd",
            "--user-group",
            "--no-create-home",
            "--shell",
            str(self.spec.get("shell", "/usr/sbin/nologin")),
        ]
        if self.spec.get("system", True):
            argv.append("--system")
        if self.spec.get("home"):
            argv += ["--home-dir", str(self.spec["home"])]
        argv[0] = find_program("useradd") or "useradd"
        run([*argv, str(self.spec["name"])])


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
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        try:
            run(
                ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing],
                seconds=PACKAGE_SECONDS,
                env=env,
            )
        except RolloutError:
            # The package lists may be old or empty; once they are fresh the first error no longer counts.
            run(["apt-get", "update", "-q"], seconds=PACKAGE_SECONDS, env=env)
            run(
                ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing],
                seconds=PACKAGE_SECONDS,
                env=env,
            )


def _is_there(package: Mapping[str, str]) -> bool:
    name, program = package["name"], package.get("program")
    if program and find_program(program):
        return True
    try:
        reply = subprocess.run(["dpkg-query", "-W", "-f=${Status}", name], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return False
    return "install ok installed" in reply.stdout
