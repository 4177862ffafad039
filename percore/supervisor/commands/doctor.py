"""`percore doctor`: what this host is, what suits it, and what is wrong with it or its workers, each with what to type.
`percore report`: what a bug report needs, without secrets.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import psutil

from percore.common.finding import ERROR, NOTE, WARNING, Finding, are_well
from percore.common.printable import printable
from percore.supervisor.base.home import Home
from percore.supervisor.client import ask_or_nothing
from percore.supervisor.commands.arguments import make_parser
from percore.supervisor.commands.diagnosis.apps import AppFacts, apps_of
from percore.supervisor.commands.diagnosis.host import about_host
from percore.supervisor.commands.diagnosis.memory import about_heaps, about_leaks, about_memory
from percore.supervisor.commands.diagnosis.ports import about_ports
from percore.supervisor.commands.diagnosis.reloads import about_reloads
from percore.supervisor.commands.diagnosis.workers import about_workers
from percore.supervisor.commands.host_facts import Facts, Sizing, read_facts, recommend
from percore.supervisor.commands.list import print_list
from percore.supervisor.commands.output import short_size
from percore.supervisor.commands.version import difference
from percore.supervisor.logs.files import last_lines

_MB = 1 << 20
_LOG_LINES = 20
_ORDER = (ERROR, WARNING, NOTE)
_SHOWN = {ERROR: "!", WARNING: "!", NOTE: "-"}
_HIDDEN = "[hidden]"
_SECRETS = (
    (re.compile(r"(://[^/\s:@]*:)[^@\s/]+(@)"), rf"\1{_HIDDEN}\2"),
    (re.compile(r"(\bBearer\s+|\bBasic\s+)\S+", re.IGNORECASE), rf"\1{_HIDDEN}"),
    (
        re.compile(
            # Each name is looked at once, from its beginning on: a long word must not be tried from each of its characters.
            r"""(?<![\w.-])(?=[\w.-]*(?:secret|token|passw(?:or)?d|pwd|passphrase|credential|api_?key|private_?key|auth))"""
            r"""([\w.-]+["']?\s*[=:]\s*)("[^"]*"|'[^']*'|\S+)""",
            re.IGNORECASE,
        ),
        rf"\1{_HIDDEN}",
    ),
)


def examine(arguments: list[str]) -> int:
    parser = make_parser("doctor")
    parser.add_argument("--json", action="store_true", help="print facts, sizing and findings as JSON")
    options = parser.parse_args(arguments)
    home = Home.of_user()
    answer = ask_or_nothing("describe", selector="all")
    faults = answer.get("faults") if answer else None
    workers = answer["workers"] if answer else []
    running = ask_or_nothing("ping")
    supervisor = int(running["pid"]) if running else 0
    facts = read_facts(home, pids_of(workers, supervisor))
    limit = min(facts.memory_bytes, facts.memory_limit_bytes or facts.memory_bytes)
    own = sum(worker["memory_bytes"] for worker in workers)
    others = 0 if facts.is_alone else max(0, facts.memory_bytes - facts.available_bytes - own)
    sizing = recommend(limit, facts.cores, others_bytes=others, is_alone=facts.is_alone)
    findings = [
        *about_host(facts),
        *about_version(running),
        *about_faults(faults, home),
        *about_apps(apps_of(workers), facts),
    ]
    if options.json:
        print(
            json.dumps(
                {
                    "facts": facts._asdict(),
                    "sizing": sizing._asdict(),
                    "findings": [each._asdict() for each in findings],
                }
            )
        )
    else:
        for line in (*describe(facts, home, supervisor), "", *advise(sizing, workers), ""):
            print(printable(line))
        for finding in sorted(findings, key=lambda each: _ORDER.index(each.severity)):
            print(printable(f"{_SHOWN[finding.severity]} {finding.what} -> {finding.next}"))
        if are_well(findings):
            print("no problems found")
    return 0 if are_well(findings) else 1


def about_apps(apps: Sequence[AppFacts], facts: Facts) -> Iterator[Finding]:
    yield from about_memory(apps, facts)
    for check in (about_workers, about_ports, about_reloads, about_heaps, about_leaks):
        yield from check(apps)


def pids_of(workers: Sequence[dict[str, Any]], supervisor: int) -> list[int]:
    return [pid for pid in (*(worker["pid"] for worker in workers), supervisor) if pid]


def describe(facts: Facts, home: Home, pid: int) -> Iterator[str]:
    """The facts, one a line."""
    limit = f", limited to {short_size(facts.memory_limit_bytes)}" if facts.memory_limit_bytes else ""
    clock = {True: "synchronized", False: "not synchronized", None: "unknown"}[facts.clock_is_synchronized]
    features = {
        "steering of connections": facts.has_steering,
        "bind shim": facts.has_bind_shim,
        "pidfd_getfd": facts.has_pidfd_getfd,
        "COLLAPSE_RANGE": facts.has_collapse_range,
    }
    words = {True: "yes", False: "no", None: "unknown"}
    running = (
        f"supervisor {short_size(psutil.Process(pid).memory_info().rss)}, pid {pid}" if pid else "no supervisor runs"
    )
    rows = {
        "percore": f"{facts.percore}, Python {facts.python}; {running}; home {home.path}",
        "host": f"{facts.system}, Linux {facts.kernel} {facts.machine}",
        "cores": f"{facts.cores} usable of {facts.cores_online}; load {' '.join(map(str, facts.load))}",
        "memory": f"{short_size(facts.memory_bytes)}{limit}, {short_size(facts.available_bytes)} available; "
        f"swap {short_size(facts.swap_used_bytes)} used of {short_size(facts.swap_bytes)}",
        "disk": f"{short_size(facts.disk_free_bytes)} free of {short_size(facts.disk_bytes)}",
        "limits": f"open files {facts.open_files} (at most {facts.open_files_most}), somaxconn {facts.somaxconn}, "
        f"tcp_max_syn_backlog {facts.syn_backlog}",
        "clock": clock,
        "kernel": ", ".join(f"{name}: {words[value]}" for name, value in features.items()),
    }
    return (f"{name:<8} {text}" for name, text in rows.items())


def advise(sizing: Sizing, workers: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield (
        f"sizing   for one clustered app on this host: instances {sizing.workers}, "
        f"max_memory_restart {sizing.memory_bytes // _MB}M, node_args --max-old-space-size={sizing.heap_bytes // _MB}"
    )
    for name in sorted({worker["name"] for worker in workers if worker["mode"] == "cluster"}):
        own = [worker for worker in workers if worker["name"] == name]
        used = max(worker["memory_bytes"] for worker in own)
        yield f"         {name} has {len(own)} workers, of which the largest uses {short_size(used)}"


def about_version(running: Optional[dict[str, Any]]) -> Iterator[Finding]:
    if running and (text := difference(running)):
        what, _, advice = text.partition(" -> ")
        yield Finding(what, advice, "supervisor")


def about_faults(faults: Optional[dict[str, Any]], home: Home) -> Iterator[Finding]:
    """Unexpected errors of the supervisor since its start; an older version counts none."""
    if faults and faults["count"]:
        times = "once" if faults["count"] == 1 else f"{faults['count']} times"
        yield Finding(
            f"the supervisor had an unexpected error {times}; nothing else was affected; the last: {faults['last']}",
            f"report it with the traceback in {home.daemon_log}",
            "supervisor",
        )


# -- the report ---------------------------------------------------------------------------------------------------------


def print_report(_: list[str]) -> int:
    home = Home.of_user()
    answer = ask_or_nothing("ping")
    print("--- versions and host")
    pid = int(answer["pid"]) if answer else 0
    for line in describe(read_facts(home, pids_of([], pid)), home, pid):
        print(printable(redact(line)))
    print(f"user     uid {os.geteuid()}, gid {os.getegid()}")
    if answer:
        print(f"running  supervisor of version {answer['version']}")
    print("--- workers")
    print_list()
    print(f"--- the last {_LOG_LINES} lines of {home.daemon_log}")
    for line in last_lines(home.daemon_log, _LOG_LINES):
        print(printable(redact(line)))
    return 0


def redact(line: str) -> str:
    """Without what looks like a secret: values of telling names, passwords in addresses, credentials of HTTP."""
    for pattern, replacement in _SECRETS:
        line = pattern.sub(replacement, line)
    return line
