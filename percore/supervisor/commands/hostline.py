"""The host in figures, read from /proc: for the line below the list, and for `slist`."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from percore.supervisor.commands.asking import take_none

_SPAN_SECONDS = 0.2


def host_line() -> str:
    memory, disk = memory_of_host(), disk_of("/")
    load = " ".join(f"{number:.2f}" for number in os.getloadavg())
    return (
        f"host: load {load} on {os.cpu_count()} cores, memory {memory['used_percent']}% of {memory['total'] / 2**30:.1f}gb used, "
        f"disk {disk['used_percent']}% of {disk['total'] / 2**30:.0f}gb used"
    )


def print_snapshot(arguments: list[str]) -> int:
    if arguments in (["-t"], ["--tree"]):
        print_tree(host_snapshot())
        return 0
    take_none("slist", arguments)
    print(json.dumps(host_snapshot(), indent=2))
    return 0


def host_snapshot() -> dict[str, Any]:
    before, received = cpu_ticks(), network_bytes()
    time.sleep(_SPAN_SECONDS)
    after, received_after = cpu_ticks(), network_bytes()
    total = max(1, sum(after) - sum(before))
    idle = after[3] + after[4] - before[3] - before[4]
    load = os.getloadavg()
    name = os.uname()
    return {
        "host": {"name": name.nodename, "system": f"{name.sysname} {name.release}", "machine": name.machine,
                 "uptime_seconds": round(float(first_line("/proc/uptime").split()[0]))},
        "cpu": {"cores": os.cpu_count(), "used_percent": round(100 * (1 - idle / total), 1),
                "load": [round(number, 2) for number in load]},
        "memory": memory_of_host(),
        "disk": disk_of("/"),
        "network": {
            name: {"received_bytes_per_second": round((received_after[name][0] - counts[0]) / _SPAN_SECONDS),
                   "sent_bytes_per_second": round((received_after[name][1] - counts[1]) / _SPAN_SECONDS)}
            for name, counts in received.items() if name in received_after
        },
    }  # fmt: skip


def print_tree(value: dict[str, Any], indent: str = "") -> None:
    for key, item in value.items():
        if isinstance(item, dict):
            print(f"{indent}{key}")
            print_tree(item, indent + "  ")
        else:
            print(f"{indent}{key}: {item}")


def first_line(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.readline()


def cpu_ticks() -> list[int]:
    return [int(number) for number in first_line("/proc/stat").split()[1:9]]


def memory_of_host() -> dict[str, Any]:
    sizes = {}
    with open("/proc/meminfo", encoding="utf-8") as file:
        for line in file:
            key, _, rest = line.partition(":")
            sizes[key] = int(rest.split()[0]) * 1024
    total, available = sizes["MemTotal"], sizes["MemAvailable"]
    return {"total": total, "available": available, "used_percent": round(100 * (total - available) / total)}


def disk_of(path: str) -> dict[str, Any]:
    found = os.statvfs(path)
    total, available = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    return {
        "path": path,
        "total": total,
        "available": available,
        "used_percent": round(100 * (1 - available / (total or 1))),
    }


def network_bytes() -> dict[str, tuple[int, int]]:
    """(received, sent) so far, by interface."""
    counts = {}
    with open("/proc/net/dev", encoding="utf-8") as file:
        for line in file:
            name, colon, rest = line.partition(":")
            if colon and name.strip() != "lo":
                fields = rest.split()
                counts[name.strip()] = (int(fields[0]), int(fields[8]))
    return counts
