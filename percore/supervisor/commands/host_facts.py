"""Facts about this host, for `doctor`, `report` and `slist`, and the number and size of workers that suit it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import resource
import socket
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import psutil

from percore import __version__
from percore.common.cpus import usable_cores
from percore.common.procfs import command_line_of, environment_of
from percore.supervisor.base.home import Home
from percore.supervisor.commands.arguments import make_parser
from percore.supervisor.sockets.sharing import Mode, find_sharing

_MB = 1 << 20
_LEAST_RESERVE = 512 * _MB
_OWN_RESERVE = 48 * _MB
_RESERVED_SHARE = 0.2  # of the memory: for the system and its file cache
HEAP_SHARE = 0.75  # of a worker: the rest is code, stacks and buffers
_LARGEST_HEAP = 4096 * _MB  # beyond, collecting it stops the worker for longer than it helps
_SYS_PIDFD_GETFD = 438
_TIME_ERROR = 5
_COLLAPSE_RANGE = 0x08
_SPAN_SECONDS = 0.2  # over which `slist` measures the processor and the network


class Facts(NamedTuple):
    percore: str
    python: str
    system: str
    kernel: str
    machine: str
    cores: int
    cores_online: int
    memory_bytes: int
    memory_limit_bytes: Optional[int]  # of our cgroup
    available_bytes: int
    swap_bytes: int
    swap_used_bytes: int
    load: tuple[float, ...]
    disk_free_bytes: int
    disk_bytes: int
    open_files: int
    open_files_most: int
    somaxconn: int
    syn_backlog: int
    clock_is_synchronized: Optional[bool]
    has_steering: bool
    has_pidfd_getfd: bool
    has_fd_store: bool  # of systemd, which keeps the sockets of a supervisor that is its unit
    has_collapse_range: Optional[bool]  # of the file system that the logs are on
    has_bind_shim: bool
    inodes_free: Optional[int] = None  # None where the file system does not count them
    inodes: int = 0
    tasks: int = 0  # of the supervisor's unit, as are the next two
    tasks_most: Optional[int] = None
    oom_kills: int = 0
    is_container: bool = False

    @property
    def is_alone(self) -> bool:
        """The limit of a container is for what runs in it, and nothing of the system does."""
        return self.is_container and self.memory_limit_bytes is not None


class Sizing(NamedTuple):
    workers: int
    memory_bytes: int  # of one worker
    heap_bytes: int


def read_facts(home: Home, pids: Sequence[int] = ()) -> Facts:
    """`pids` of what runs, workers before their supervisor: their limits count, not those of this command."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    group = Cgroup(pids[-1] if pids else os.getpid())
    place = existing_part(home.path)
    disk = psutil.disk_usage(place)
    room = os.statvfs(place)
    soft, hard = min(map(_open_files, pids), default=_open_files(0))
    shim = os.path.join(
        os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "sockets", f"bindshim-{os.uname().machine}.so"
    )
    return Facts(
        percore=__version__, python=platform.python_version(), system=system_name(), kernel=platform.release(),
        machine=platform.machine(), cores=usable_cores(), cores_online=os.cpu_count() or 1, memory_bytes=memory.total,
        memory_limit_bytes=group.memory_limit(), available_bytes=memory.available,
        swap_bytes=swap.total, swap_used_bytes=swap.used,
        load=tuple(round(value, 2) for value in psutil.getloadavg()), disk_free_bytes=disk.free, disk_bytes=disk.total,
        open_files=soft, open_files_most=hard, somaxconn=read_number("/proc/sys/net/core/somaxconn"),
        syn_backlog=read_number("/proc/sys/net/ipv4/tcp_max_syn_backlog"), clock_is_synchronized=clock_is_synchronized(),
        has_steering=find_sharing().mode is Mode.STEERED, has_pidfd_getfd=has_pidfd_getfd(),
        has_fd_store=bool(pids) and has_fd_store(pids[-1]), has_collapse_range=has_collapse_range(place),
        has_bind_shim=os.path.exists(shim), inodes_free=room.f_favail if room.f_files else None, inodes=room.f_files,
        tasks=group.number("pids", "pids.current"), tasks_most=group.number("pids", "pids.max") or None,
        oom_kills=group.oom_kills() if pids else 0, is_container=is_container(),
    )  # fmt: skip


def recommend(memory_bytes: int, cores: int, others_bytes: int = 0, *, is_alone: bool = False) -> Sizing:
    """One worker per core, as long as each has 128 MB; `others_bytes` is what other programs need."""
    free = memory_bytes - reserve_of(memory_bytes, is_alone=is_alone) - others_bytes
    free = max(free, 64 * _MB)
    workers = max(1, min(cores, free // (128 * _MB)))
    share = free // workers
    return Sizing(workers, share, min(_LARGEST_HEAP, int(share * HEAP_SHARE)))


def reserve_of(memory_bytes: int, *, is_alone: bool = False) -> int:
    """What the system needs of it, or where there is none in the group, the supervisor and a command."""
    return _OWN_RESERVE if is_alone else max(_LEAST_RESERVE, int(memory_bytes * _RESERVED_SHARE))


def _open_files(pid: int) -> tuple[int, int]:
    try:
        return resource.prlimit(pid, resource.RLIMIT_NOFILE)
    except OSError:  # it ended, or belongs to another user
        return resource.getrlimit(resource.RLIMIT_NOFILE)


def has_fd_store(pid: int) -> bool:
    return any(variable.startswith(b"NOTIFY_SOCKET=") for variable in environment_of(pid))


def existing_part(path: str) -> str:
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def system_name() -> str:
    with contextlib.suppress(OSError), open("/etc/os-release") as file:
        for line in file:
            if line.startswith("PRETTY_NAME="):
                return line.partition("=")[2].strip().strip('"')
    return platform.system()


def read_number(path: str) -> int:
    """0 where there is none."""
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


class Cgroup:
    """What a process may use with those of its unit: control groups of version 2, and of version 1 (of a controller)."""

    def __init__(self, pid: int) -> None:
        self._paths: dict[str, str] = {}
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup") as file:
            for line in file:
                _, controllers, path = line.rstrip("\n").split(":", 2)
                self._paths.update(dict.fromkeys(controllers.split(","), path))

    def memory_limit(self) -> Optional[int]:
        """The smallest of its group and those above; None where there is none."""
        limits = [read_number(os.path.join(place, "memory.max")) for place in self._places("", "")]
        limits += [
            read_number(os.path.join(place, "memory.limit_in_bytes")) for place in self._places("memory", "memory")
        ]
        return min((limit for limit in limits if 0 < limit < 1 << 60), default=None)

    def number(self, controller: str, name: str) -> int:
        """0 where there is none, or it says `max`."""
        places = [*self._places("", ""), *self._places(controller, controller)]
        unit = [place for place in places if place.endswith((".service", ".scope"))]
        return next((number for place in unit if (number := read_number(os.path.join(place, name)))), 0)

    def oom_kills(self) -> int:
        for place in self._places("", ""):
            if place.endswith(".service"):
                with contextlib.suppress(OSError, ValueError), open(os.path.join(place, "memory.events")) as file:
                    return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
        return 0

    def _places(self, controller: str, below: str) -> list[str]:
        """The directories of the group and of all above it."""
        if controller not in self._paths:
            return []
        parts = [part for part in self._paths[controller].split("/") if part]
        return [os.path.join("/sys/fs/cgroup", below, *parts[:depth]) for depth in range(len(parts) + 1)]


def is_container() -> bool:
    """Where the clock, among others, is not the host's own."""
    marks = ("/run/systemd/container", "/.dockerenv", "/run/.containerenv")
    return any(map(os.path.exists, marks)) or b"percore.supervisor.container" in command_line_of(1)


def clock_is_synchronized() -> Optional[bool]:
    """What the kernel says (adjtimex(2)); None where the call is not allowed."""
    answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    return None if answer < 0 else bool(answer != _TIME_ERROR)


def has_pidfd_getfd() -> bool:
    """With it a supervisor that was killed finds its sockets in its workers again."""
    with socket.socket() as sock:
        try:
            pidfd = os.pidfd_open(os.getpid())
        except (OSError, AttributeError):
            return False
        taken: int = ctypes.CDLL(None, use_errno=True).syscall(_SYS_PIDFD_GETFD, pidfd, sock.fileno(), 0)
        os.close(pidfd)
    if taken >= 0:
        os.close(taken)
    return taken >= 0


def has_collapse_range(directory: str) -> Optional[bool]:
    """With it the files of rotated logs become shorter; without it they only look long. None where nothing can be written."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            block = os.fstatvfs(file.fileno()).f_bsize
            file.write(b"x" * (2 * block))
            file.flush()
            libc = ctypes.CDLL(None, use_errno=True)
            answer = libc.fallocate64(file.fileno(), _COLLAPSE_RANGE, ctypes.c_longlong(0), ctypes.c_longlong(block))
            return bool(answer == 0)
    except OSError:
        return None


# -- slist ------------------------------------------------------------------------------------------------------------


def print_snapshot(arguments: list[str]) -> int:
    parser = make_parser("slist")
    parser.add_argument("-t", "--tree", action="store_true", help="as text instead of JSON")
    if parser.parse_args(arguments).tree:
        print_tree(host_snapshot())
    else:
        print(json.dumps(host_snapshot(), indent=2))
    return 0


def host_snapshot() -> dict[str, Any]:
    before = psutil.net_io_counters(pernic=True)
    used_percent = psutil.cpu_percent(_SPAN_SECONDS)
    after = psutil.net_io_counters(pernic=True)
    memory, disk, name = psutil.virtual_memory(), psutil.disk_usage("/"), os.uname()
    return {
        "host": {
            "name": name.nodename,
            "system": f"{name.sysname} {name.release}",
            "machine": name.machine,
            "uptime_seconds": round(time.time() - psutil.boot_time()),
        },
        "cpu": {
            "cores": os.cpu_count(),
            "used_percent": used_percent,
            "load": [round(number, 2) for number in os.getloadavg()],
        },
        "memory": space(memory.total, memory.available),
        "disk": {"path": "/", **space(disk.total, disk.free)},
        "network": {
            nic: {
                "received_bytes_per_second": round((after[nic].bytes_recv - counts.bytes_recv) / _SPAN_SECONDS),
                "sent_bytes_per_second": round((after[nic].bytes_sent - counts.bytes_sent) / _SPAN_SECONDS),
            }
            for nic, counts in before.items()
            if nic in after and nic != "lo"
        },
    }


def space(total: int, available: int) -> dict[str, int]:
    return {"total": total, "available": available, "used_percent": round(100 * (1 - available / (total or 1)))}


def print_tree(value: dict[str, Any], indent: str = "") -> None:
    for key, item in value.items():
        if isinstance(item, dict):
            print(f"{indent}{key}")
            print_tree(item, indent + "  ")
        else:
            print(f"{indent}{key}: {item}")
