"""`percore describe`, `env`, `pid`, `id`: one worker or app in detail."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from percore.common.app_names import names_of
from percore.common.printable import printable
from percore.errors import PercoreError
from percore.supervisor.base.environment import filter_environment
from percore.supervisor.client import as_selectors, select_workers
from percore.supervisor.commands.arguments import make_parser
from percore.supervisor.commands.output import duration, size, table
from percore.supervisor.commands.pm2_json import app_version, fields_of, node_version, pm2_env, shown_state
from percore.supervisor.config.options import ALWAYS, OPTIONS, WHERE_SET
from percore.supervisor.config.value_types import shown
from percore.supervisor.process.stop_signal import name_for


def describe_workers(arguments: list[str]) -> int:
    parser = make_parser("describe")
    parser.add_argument("selector", metavar="TARGET", help="name, id, namespace, /regex/ or all")
    options = parser.parse_args(arguments)
    try:
        workers = select_workers(*as_selectors([options.selector]))
    except PercoreError as error:
        # PM2's scripts ask with `describe` whether there is such an app: a check that failed.
        error.exit_code = min(error.exit_code, 1)
        raise
    for worker in workers:
        print(printable(f"worker {worker['id']} of {worker['name']}, slot {worker['slot']}"))
        print(table(["key", "value"], description_of(worker)))
    return 0


def description_of(worker: Mapping[str, Any]) -> list[tuple[str, str]]:
    config = {"kill_signal": name_for(worker["pid"]), **fields_of(worker)}
    state = shown_state(worker) + (f" ({worker['failure']})" if worker["failure"] else "")
    started = (
        time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(worker["started_time"])) if worker["started_time"] else "-"
    )
    return [
        ("status", state),
        ("name", worker["name"]),
        ("namespace", worker["namespace"]),
        ("version", app_version(worker) or "N/A"),
        ("restarts", str(worker["restarts"])),
        ("unstable restarts", str(worker["unstable_restarts"])),
        ("uptime", duration(worker["uptime_seconds"])),
        ("started at", started),
        ("last end", worker["last_end"] or "-"),
        ("exit code", str(worker["exit_code"])),
        ("pid", str(worker["pid"] or "-")),
        ("release", worker["release"] or "-"),
        ("node.js version", node_version(worker) or "N/A"),
        ("exec mode", f"{worker['mode']}_mode"),
        ("instances", str(worker["instances"])),
        ("listens on", ", ".join(worker["addresses"]) or "-"),
        ("port sharing", "; ".join([worker["sharing"], *worker.get("thieves", [])])),
        ("error log path", worker["error_file"]),
        ("out log path", worker["out_file"]),
        *([("combined log", worker["log_file"])] if worker["log_file"] else []),
        *_dropped(worker["log_dropped_bytes"]),
        *([("memory cap", memory_cap(worker))] if "memory_max" in config else []),
        *described_options(config),
        ("process file", config.get("source") or "-"),
        ("memory", size(worker["memory_bytes"])),
        ("cpu", f"{worker['cpu_percent']:.1f}%"),
        ("environment", ", ".join(config["env"]) or "-"),
    ]


def described_options(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for option in OPTIONS:
        if option.describe == ALWAYS or (option.describe == WHERE_SET and option.field in config):
            value = config.get(option.field, option.default)
            yield (
                option.title or option.key.replace("_", " "),
                shown(value) if isinstance(value, bool) else option.type.show(value),
            )


def _dropped(count: int) -> list[tuple[str, str]]:
    return [("log bytes dropped", f"{count} (the disk was nearly full)")] if count else []


def memory_cap(worker: Mapping[str, Any]) -> str:
    problem = worker.get("uncapped")
    return size(worker["config"]["memory_max"]) + (f", not enforced: {problem}" if problem else "")


def print_env(arguments: list[str]) -> int:
    parser = make_parser("env")
    parser.add_argument("selector", metavar="TARGET", help="id or name of a worker")
    for worker in select_workers(parser.parse_args(arguments).selector, with_env=True)[:1]:
        parts = tuple(worker["config"].get("filter_env", ()))
        for name, value in sorted({**filter_environment(worker["base_env"], parts), **pm2_env(worker)["env"]}.items()):
            line = f"{name}: {value}"
            print(printable(line) if sys.stdout.isatty() else line)
    return 0


def print_pids(arguments: list[str]) -> int:
    parser = make_parser("pid")
    parser.add_argument(
        "selector", metavar="TARGET", nargs="?", default="all", help="name, id, namespace, /regex/ or all"
    )
    for worker in select_workers(*as_selectors([parser.parse_args(arguments).selector])):
        print(worker["pid"])
    return 0


def print_ids(arguments: list[str]) -> int:
    parser = make_parser("id")
    parser.add_argument("selector", metavar="TARGET", help="name or namespace")
    selector = parser.parse_args(arguments).selector
    found = [(worker["id"], worker["name"], worker["namespace"]) for worker in select_workers()]
    ids = [id for id, name, namespace in found if selector in (namespace, *names_of(name, namespace))]
    print(f"[ {', '.join(map(str, ids))} ]" if ids else "[]")
    return 0
