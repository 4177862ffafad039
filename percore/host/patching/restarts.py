"""What runs with files that an upgrade replaced, and why this host needs a reboot."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from percore.common.procfs import all_pids

_FLAGS = ("/run/reboot-required", "/var/run/reboot-required")
_PACKAGES = "/run/reboot-required.pkgs"
_CODE = ("/usr/", "/lib", "/bin/", "/sbin/")
_GONE = " (deleted)"
_MOST_PACKAGES = 20


def reasons_to_reboot() -> list[str]:
    reasons = []
    if any(map(os.path.exists, _FLAGS)):
        packages = _lines(_PACKAGES)[:_MOST_PACKAGES]
        reasons.append(f"asked for by {', '.join(dict.fromkeys(packages))}" if packages else "an upgrade asks for it")
    newest = newest_kernel(os.uname().release, _entries("/boot"))
    if newest:
        reasons.append(f"kernel {newest} is installed, and {os.uname().release} runs")
    if uses_replaced_code(1):
        reasons.append("the init process runs with files that were replaced")
    return reasons


def newest_kernel(running: str, names: list[str]) -> str:
    """Empty where the running one is the newest, or is none of this host's (a container)."""
    installed = [name[len("vmlinuz-") :] for name in names if name.startswith("vmlinuz-")]
    if running not in installed:
        return ""
    newest = max(installed, key=_version_key)
    return newest if _version_key(newest) > _version_key(running) else ""


def _version_key(version: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|[^\d.-]+", version)]


def units_with_replaced_code() -> list[str]:
    """Services some process of which has a program or a library mapped that is no longer there."""
    found = {unit_of(pid) for pid in all_pids() if pid > 1 and uses_replaced_code(pid)}
    return sorted(found - {""})


def uses_replaced_code(pid: int) -> bool:
    return any(line.startswith(_CODE) and line.endswith(_GONE) for line in _mapped_code(pid))


def _mapped_code(pid: int) -> Iterator[str]:
    """Paths of what it may execute. Files of apps that were deployed anew are none of an upgrade's."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", errors="replace") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(maxsplit=5)
            if len(fields) == 6 and "x" in fields[1] and "bindshim-" not in fields[5]:
                yield fields[5]


def unit_of(pid: int) -> str:
    """The service that a process belongs to; empty for a user's session, or where it belongs to none."""
    for line in _lines(f"/proc/{pid}/cgroup"):
        names = [part for part in line.rpartition(":")[2].split("/") if part.endswith(".service")]
        if names and "user.slice" not in line:
            return names[0]
    return ""


def _lines(path: str) -> list[str]:
    try:
        with open(path, errors="replace") as file:
            return file.read(1 << 16).splitlines()
    except OSError:
        return []


def _entries(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
