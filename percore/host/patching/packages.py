"""Upgrades of Debian's packages: which there are, and bringing them in. Nothing is ever removed for them."""

from __future__ import annotations

import os
import re
from typing import Callable, NamedTuple

from percore.errors import PreflightError
from percore.host.facts import find_program
from percore.host.resources import apt
from percore.host.resources.command import run

UPGRADE_SECONDS = 3600.0
_PLAN = re.compile(r"^Inst (\S+) (?:\[(\S+)\] )?\((\S+) (.*?)(?: \[\S+\])?\)", re.MULTILINE)
_ENV = {
    "DEBIAN_FRONTEND": "noninteractive",
    "LC_ALL": "C.UTF-8",
    "NEEDRESTART_SUSPEND": "1",  # what has to start again is told, and done when the operator says so
    "APT_LISTCHANGES_FRONTEND": "none",
}


class Upgrade(NamedTuple):
    name: str
    former: str  # empty where it is new, as a kernel is
    version: str
    origin: str

    @property
    def is_security(self) -> bool:
        return "security" in self.origin.lower()

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def find_upgrades(say: Callable[[str], None], *, security: bool, fresh: bool) -> list[Upgrade]:
    """`fresh`: the lists are fetched first."""
    if find_program("apt-get") is None:
        raise PreflightError("there is no apt-get: patch knows Debian's packages only", next="upgrade it by hand")
    if fresh:
        _apt_get(say, "update", "-q")
    found = read_plan(_apt_get(say, "--simulate", "--with-new-pkgs", "upgrade"))
    return [upgrade for upgrade in found if upgrade.is_security and upgrade.former] if security else found


def read_plan(said: str) -> list[Upgrade]:
    """Of `apt-get --simulate`."""
    return [Upgrade(name, former or "", version, origin) for name, former, version, origin in _PLAN.findall(said)]


def bring_in(upgrades: list[Upgrade], say: Callable[[str], None], *, security: bool) -> None:
    if apt.is_interrupted():
        apt.wait_for_lock(say)
        run(["dpkg", *apt.KEEP_FILES, "--configure", "-a"], seconds=UPGRADE_SECONDS, env={**os.environ, **_ENV})
    names = [upgrade.name for upgrade in upgrades]
    words = ["install", *names] if security else ["--with-new-pkgs", "upgrade"]
    _apt_get(say, "-y", "-q", "--no-remove", *words)


def _apt_get(say: Callable[[str], None], *words: str) -> str:
    apt.wait_for_lock(say)
    return run(["apt-get", *apt.OPTIONS, *words], seconds=UPGRADE_SECONDS, env={**os.environ, **_ENV})
