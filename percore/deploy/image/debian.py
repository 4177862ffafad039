"""Debian as a base: its essential packages and Python, and nothing that installs more, made by mmdebstrap and kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from percore.common.passwords import for_programs
from percore.deploy.whole import written_whole
from percore.errors import PreflightError
from percore.packages import debian_mirrors

PYTHONS = {"3.9": "bullseye", "3.11": "bookworm", "3.13": "trixie"}
"""The suite that has it."""

_NEWEST = "3.13"
_PACKAGES = ("python3-minimal", "libpython3-stdlib", "ca-certificates", "libstdc++6", "libatomic1", "netbase", "tzdata")
_MOMENT = "1577836800"
"""What is newer gets this time, so that two machines make the same bytes of the same packages."""

_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*")
_KEPT = "/usr/share/doc/*/copyright"
_USELESS = ("tmp/*", "run/*", "var/cache/*", "var/log/*", "var/lib/apt/lists/*", "var/lib/dpkg/*-old", "etc/*-",
            "etc/apt/sources.list*", "usr/share/bash-completion")  # fmt: skip
_CLEAR = f'cd "$1" && rm -rf {" ".join(_USELESS)}'


def debian_for(python: str | None) -> str:
    """The suite with this Python; without a wish the newest. Raises PreflightError where none has it."""
    wanted = python or _NEWEST
    if wanted not in PYTHONS:
        raise PreflightError(
            f"no Debian has Python {wanted} ({', '.join(f'{suite} {version}' for version, suite in PYTHONS.items())})",
            next=f"set image_base: python:{wanted}-slim@sha256:..., or another python_version",
        )
    return PYTHONS[wanted]


def can_make() -> bool:
    return sys.platform.startswith("linux") and shutil.which("mmdebstrap") is not None


def make_debian(suite: str, *, anew: bool = False) -> Path:
    """A tar of the root file system, from this machine's own mirror; half a minute the first time."""
    path = _path(suite)
    if path.is_file() and not anew:
        return path
    with written_whole(path) as unfinished:
        _bootstrap(suite, unfinished)
    return path


def _path(suite: str) -> Path:
    wish = hashlib.sha256(repr((_PACKAGES, _LEFT_OUT, _CLEAR, _MOMENT)).encode()).hexdigest()[:10]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "percore" / "image" / f"{suite}-{wish}.tar"


def _bootstrap(suite: str, path: Path) -> None:
    left_out = [f"--dpkgopt=path-exclude={place}" for place in _LEFT_OUT]
    words = [
        "mmdebstrap", "--quiet", "--variant=essential", "--skip=output/dev", f"--include={','.join(_PACKAGES)}", *left_out,
        f"--dpkgopt=path-include={_KEPT}", "--customize-hook=" + _CLEAR, suite, str(path), "-",
    ]  # fmt: skip
    done = subprocess.run(
        words, input=_sources(suite), capture_output=True, text=True, check=False,
        env=for_programs(SOURCE_DATE_EPOCH=_MOMENT),
    )  # fmt: skip
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise PreflightError(
            f"mmdebstrap could not make Debian {suite}: {lines[-1] if lines else 'no output'}",
            detail=done.stderr.strip(),
            next="see that Debian's mirror can be reached from here, or set image_base",
        )


def _sources(suite: str) -> str:
    """With what Debian mended since, where this machine knows its mirror."""
    mirrors = debian_mirrors()
    lines = [f"deb {mirrors.main} {suite} main"]
    if mirrors.security:
        lines.append(f"deb {mirrors.security} {suite}-security main")
    return "\n".join([*lines, ""])
