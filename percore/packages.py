"""Packages of the operating system: printed before they are installed, and only as root on Debian."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from percore.errors import PercoreError, PreflightError

REFUSE = "PERCORE_NO_INSTALL"
_APT = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=300")  # another run may be installing
# RUNLEVEL: Debian's scripts must not start the servers that a package brings.
_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
_TARGETS = (
    "apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT)", "Created-By: Packages", "Origin: Debian",
)  # fmt: skip


class Mirrors(NamedTuple):
    """Where this machine's own Debian packages come from; `security` is empty where it takes no updates."""

    main: str
    security: str


def can_install() -> bool:
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return is_root and shutil.which("apt-get") is not None and not os.environ.get(REFUSE)


def install_packages(packages: Sequence[str], purpose: str) -> None:
    """Raises PreflightError where `can_install` says no, or apt fails."""
    names = " ".join(packages)
    if not can_install():
        raise PreflightError(f"{purpose} needs what is missing here: {names}", next="install these packages")
    sys.stderr.write(f"{purpose}: installing with apt: {names} ({REFUSE}=1 refuses this)\n")
    sys.stderr.flush()
    for words in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        _run_apt(words)


def _run_apt(words: Sequence[str]) -> None:
    command, environment = [*_APT, *words], {**os.environ, **_ENVIRONMENT}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        detail = done.stderr.strip() or done.stdout.strip()
        raise PreflightError(f"'apt-get {' '.join(words)}' failed", next="try it by hand", detail=detail)


def debian_mirrors() -> Mirrors:
    """Raises PercoreError where this machine is no Debian."""
    found = _mirrors()
    if not found:
        _run_apt(["update"])  # who a source is from is known once its lists are here
        found = _mirrors()
    main = [uri for uri in found if "security" not in uri]
    if not main:
        raise PercoreError("this machine's apt names no Debian mirror", next="add one to /etc/apt/sources.list")
    return Mirrors(main[0], next((uri for uri in found if "security" in uri), ""))


def _mirrors() -> list[str]:
    targets = subprocess.run(_TARGETS, capture_output=True, text=True, check=False)
    pairs = [line.partition(" ") for line in targets.stdout.splitlines()]
    return [uri for uri, _, component in pairs if component == "main"]
