"""`percore describe`, `env`, `pid`, `id`: one worker, or one app, looked at closely."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from percore.common.printable import printable
from percore.errors import PercoreError
from percore.supervisor.client import select_workers
from percore.supervisor.commands.arguments import make_parser
from percore.supervisor.commands.output import duration, size, table
from percore.supervisor.commands.pm2_json import app_version, node_version, pm2_env, shown_state, watched
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.records import field_of
from percore.supervisor.user import filter_environment

_DEFAULTS = AppConfig._field_defaults
# Shown where the app sets them: the field, and what its value is.
_WHERE_SET = (
    ("cron_restart", "cron restart", str),
    ("max_memory_restart", "max memory", size),
    ("log_file", "combined log", str),
    ("pid_file", "pid file", str),
    ("health", "health check", str),
    ("stop_exit_codes", "stop exit codes", lambda codes: ", ".join(map(str, codes))),
    ("max_restarts", "max restarts", str),
    ("restart_delay", "restart delay", lambda seconds: f"{seconds:g} s"),
    ("exp_backoff_restart_delay", "first back-off", lambda seconds: f"{seconds:g} s"),
    ("depends_on", "depends on", ", ".join),
    ("user", "user", str),
    ("group", "group", str),
)


def describe_workers(arguments: list[str]) -> int:
    parser = make_parser("describe")
    parser.add_argument("selector", help="name, id, namespace, /regex/ or all")
    options = parser.parse_args(arguments)
    try:
        workers = select_workers(options.selector)
    except PercoreError as error:
        # PM2's scripts ask with `describe` whether there is such an app: a check that failed.
        error.exit_code = min(error.exit_code, 1)
        raise
    for worker in workers:
        print(printable(f"worker {worker['id']} of {worker['name']}, slot {worker['slot']}"))
        print(table(["key", "value"], description_of(worker)))
    return 0


def description_of(worker: Mapping[str, Any]) -> list[tuple[str, str]]:
    config = {field_of(key): value for key, value in worker["config"].items()}
    wished = {**_DEFAULTS, **config}
    state = shown_state(worker) + (f" ({worker['failure']})" if worker["failure"] else "")
    started = (
        time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(worker["started_time"])) if worker["started_time"] else "-"
    )
    return [
        ("status", state),
        ("name", worker["name"]), ("namespace", worker["namespace"]), ("version", app_version(worker) or "N/A"),
        ("restarts", str(worker["restarts"])), ("unstable restarts", str(worker["unstable_restarts"])),
        ("uptime", duration(worker["uptime_seconds"])), ("started at", started),
        ("last end", worker["last_end"] or "-"), ("exit code", str(worker["exit_code"])),
        ("pid", str(worker["pid"] or "-")), ("release", worker["release"] or "-"),
        ("script path", config["script"]), ("script args", " ".join(wished["args"]) or "-"), ("exec cwd", worker["cwd"]),
        ("interpreter", wished["interpreter"]), ("interpreter args", " ".join(wished["interpreter_args"]) or "-"),
        ("node.js version", node_version(worker) or "N/A"), ("exec mode", f"{worker['mode']}_mode"),
        ("instances", str(worker["instances"])),
        ("listens on", ", ".join(worker["addresses"]) or "-"),
        ("port sharing", "; ".join([worker["sharing"], *worker.get("thieves", [])])),
        ("error log path", worker["error_file"]), ("out log path", worker["out_file"]),
        *_dropped(worker["log_dropped_bytes"]),
        *((title, shown(config[field])) for field, title, shown in _WHERE_SET if field in config),
        *([("memory cap", memory_cap(worker))] if "memory_max" in config else []),
        ("stop signal", wished["kill_signal"]), ("kill timeout", f"{wished['kill_timeout']:g} s"),
        ("autorestart", "yes" if wished["autorestart"] else "no"),
        ("watch & reload", shown_watch(wished["watch"], worker["cwd"])),
        ("process file", wished["source"] or "-"),
        ("memory", size(worker["memory_bytes"])), ("cpu", f"{worker['cpu_percent']:.1f}%"),
        ("environment", ", ".join(config["env"]) or "-"),
    ]  # fmt: skip


def _dropped(count: int) -> list[tuple[str, str]]:
    return [("log bytes dropped", f"{count} (the disk was nearly full)")] if count else []


def memory_cap(worker: Mapping[str, Any]) -> str:
    problem = worker.get("uncapped")
    return size(worker["config"]["memory_max"]) + (f", not enforced: {problem}" if problem else "")


def shown_watch(paths: Any, cwd: str) -> str:
    found = watched(paths, cwd)
    return ", ".join(found) if isinstance(found, list) else "yes" if found else "no"


def print_env(arguments: list[str]) -> int:
    parser = make_parser("env")
    parser.add_argument("selector", help="id or name of a worker")
    for worker in select_workers(parser.parse_args(arguments).selector, with_env=True)[:1]:
        parts = tuple(worker["config"].get("filter_env", ()))
        for name, value in sorted({**filter_environment(worker["base_env"], parts), **pm2_env(worker)["env"]}.items()):
            line = f"{name}: {value}"
            print(printable(line) if sys.stdout.isatty() else line)
    return 0


def print_pids(arguments: list[str]) -> int:
    parser = make_parser("pid")
    parser.add_argument("selector", nargs="?", default="all", help="name, id, namespace, /regex/ or all")
    for worker in select_workers(parser.parse_args(arguments).selector):
        print(worker["pid"])
    return 0


def print_ids(arguments: list[str]) -> int:
    parser = make_parser("id")
    parser.add_argument("selector", help="name or namespace")
    selector = parser.parse_args(arguments).selector
    ids = [worker["id"] for worker in select_workers() if selector in (worker["name"], worker["namespace"])]
    print(f"[ {', '.join(map(str, ids))} ]" if ids else "[]")
    return 0
