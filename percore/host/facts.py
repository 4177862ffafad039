"""What a host is now: the values that roles may ask about and that preflight compares."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
import time
from typing import Any, Optional

from percore.common.cpus import usable_cores
from percore.host.drained import read_drained

_SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def gather(*, disk_path: str = "/") -> dict[str, Any]:
    """JSON-ready facts. Sizes in bytes; `time` in seconds since the epoch, UTC."""
    release = _os_release()
    return {
        "hostname": socket.gethostname(),
        "system": platform.system(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "os": release.get("ID", platform.system().lower()),
        "os_version": release.get("VERSION_ID", ""),
        "os_codename": release.get("VERSION_CODENAME", ""),
        "python": platform.python_version(),
        "python_path": sys.executable,
        "libc": _libc(),
        "uid": os.getuid(),
        "user": os.environ.get("USER", ""),
        "cores": usable_cores(),
        "memory_bytes": memory_bytes(),
        "systemd": os.path.isdir("/run/systemd/system"),
        "nginx": find_program("nginx"),
        "nginx_version": _nginx_version(),
        "node": find_program("node"),
        "disk_free_bytes": free_bytes(disk_path),
        "drained": read_drained(),
        "time": time.time(),
    }


def find_program(name: str) -> Optional[str]:
    """Absolute path of a program; the sbin directories count too, which an ordinary user's PATH often leaves out."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SERVICE_PATH}")


def path_of_unit(unit: str) -> str:
    """The PATH of its processes: that of a login, where nvm and its like put theirs, is another one."""
    words = ["systemctl", "show", "--property=Environment", "--value", unit]
    try:
        reply = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False)
        found = [word[5:] for word in shlex.split(reply.stdout) if word.startswith("PATH=")]
    except (OSError, ValueError, subprocess.TimeoutExpired):
        found = []
    return found[-1] if found else _SERVICE_PATH


def program_version(name: str, search: Optional[str] = None) -> str:
    """The last word of `NAME --version`, without a leading v; empty when it does not run. `search` is a PATH."""
    path = find_program(name) if search is None else shutil.which(name, path=search)
    if path is None:
        return ""
    words = _told_by(path, "--version", "stdout").split()
    return words[-1].lstrip("v") if words else ""


def _nginx_version() -> str:
    """Empty where there is none."""
    path = find_program("nginx")
    return _told_by(path, "-v", "stderr").strip().rpartition("/")[2].partition(" ")[0] if path else ""


def _told_by(path: str, option: str, stream: str) -> str:
    """What a program says on this stream; empty when it does not run."""
    try:
        reply = subprocess.run([path, option], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return str(getattr(reply, stream))


def free_bytes(path: str) -> int:
    """Free space for an ordinary user below `path`, or below its nearest parent that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path) or "/"
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize


def free_inodes(path: str) -> Optional[int]:
    """None where the file system does not count them."""
    while not os.path.exists(path):
        path = os.path.dirname(path) or "/"
    room = os.statvfs(path)
    return room.f_favail if room.f_files else None


def free_memory() -> Optional[int]:
    """Bytes that programs can still have without swapping, by the kernel's own estimate."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None


def _libc() -> str:
    """The version of glibc, which decides what wheels run here; `musl` where that is the C library."""
    name, version = platform.libc_ver()
    if name == "glibc":
        return version
    return "musl" if any(entry.startswith("ld-musl-") for entry in os.listdir("/lib")) else ""


def memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def _os_release() -> dict[str, str]:
    values: dict[str, str] = {}
    try:
        with open("/etc/os-release", encoding="utf-8") as lines:
            for line in lines:
                key, sign, value = line.strip().partition("=")
                if sign:
                    values[key] = value.strip("\"'")
    except OSError:
        pass
    return values
