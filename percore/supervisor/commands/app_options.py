"""The keys of a process file as options of the command line: each key is one, `--max-memory-restart` for `max_memory_restart`."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Mapping
from typing import Any, Callable

from percore.errors import UsageError
from percore.supervisor.commands.arguments import Parser
from percore.supervisor.config.options import BY_NAME, KEYS, MODIFIERS, Key, count, flag, milliseconds, numbers, whole
from percore.supervisor.config.records import recorded_as

# Spellings of PM2's command line that are no aliases in a process file.
_SHORT = {"name": "-n", "instances": "-i", "out_file": "-o", "error_file": "-e", "log_file": "-l", "pid_file": "-p",
          "cron_restart": "-c", "kill_timeout": "-k", "execute_command": "-x"}  # fmt: skip
# Of PM2's own agent and tools: taken without a word, as their keys are.
_WITHOUT_MEANING = ("automation", "deep-monitoring", "disable-source-map-support", "disable-trace", "event-loop-inspector",
                    "pmx", "trace", "v8", "vizion", "write")  # fmt: skip
_SHOWN = {"instances": "N|max|-N", "port": "PORT", "max_memory_restart": "SIZE", "memory_max": "SIZE",
          "log_max_size": "SIZE", "args": "TEXT",
          "node_args": "TEXT", "watch": "PATHS", "ignore_watch": "PATHS", "exec_mode": "fork|cluster",
          "stop_exit_codes": "CODES"}  # fmt: skip
_UNITS: dict[Callable[[Any], Any], str] = {whole: "N", count: "N", milliseconds: "MS"}
# Their value may be left out.
_SWITCHES = ("watch", "log_file", "filter_env")
# Several values in one text.
_LISTS = ("watch", "ignore_watch", "filter_env", "depends_on", "env_file")
_TOLD = {
    "name": "call it so; otherwise the script's name", "namespace": "a second selector for commands",
    "cwd": "working folder; otherwise this one", "args": "its arguments; more readable: behind --",
    "interpreter": "program that runs the script; none: the script itself", "node_args": "arguments of the interpreter",
    "instances": "number of workers; max: one per core", "exec_mode": "cluster: workers share their port",
    "share_port": "workers of a cluster bind one port together", "port": "sets PORT, and opens the shared port early",
    "health": "path that a worker must answer", "wait_ready": "ready when the program says so",
    "listen_timeout": "not ready within this time has failed", "kill_timeout": "time between the stop signal and SIGKILL",
    "kill_signal": "the stop signal", "shutdown_with_message": "send Node the message 'shutdown' instead",
    "treekill": "the signal goes to the whole group", "autostart": "start it now", "autorestart": "start it again when it ends",
    "stop_exit_codes": "exit codes that end it for good", "min_uptime": "a shorter life counts as a quick failure",
    "max_restarts": "give up after so many quick failures", "restart_delay": "wait before each restart",
    "exp_backoff_restart_delay": "first wait of one that grows", "max_memory_restart": "replace it above this size",
    "memory_max": "the kernel kills it above this size",
    "cron_restart": "restart it at these times", "watch": "restart it when files change (here, or these paths)",
    "ignore_watch": "paths that are not watched", "watch_delay": "seconds between a change and the restart",
    "out_file": "file of standard output", "error_file": "file of standard error", "log_file": "one more file with both",
    "log_date_format": "date before each line, such as YYYY-MM-DD", "log_type": "json", "merge_logs": "one log for all workers",
    "disable_logs": "write no logs", "pid_file": "file with the worker's pid", "filter_env": "variables that it does not get",
    "depends_on": "apps that must be ready first", "user": "run as this user", "group": "run with this group",
}  # fmt: skip


def option_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def add_app_options(parser: Parser) -> None:
    group = parser.add_argument_group("the app", "every key of a process file: docs/reference/process-file.md")
    for key in KEYS:
        if key.name != "script":
            _add_key(group, key)
    for name in sorted(MODIFIERS):
        short = (_SHORT[name],) if name in _SHORT else ()
        group.add_argument(*short, option_of(name), dest=f"key_{name}", action="store_const", const=True)
    group.add_argument(
        "--time", dest="key_log_date_format", action="store_const", const=True, help="date before each line"
    )
    for name in _WITHOUT_MEANING:
        group.add_argument(f"--{name}", f"--no-{name}", action="store_true", dest="ignored", help=argparse.SUPPRESS)
    group.add_argument("-w", action="store_true", dest="ignored", help=argparse.SUPPRESS)


def _add_key(group: Any, key: Key) -> None:
    spellings = [option_of(name) for name in (key.name, *key.aliases) if name != "time"]
    spellings = [_SHORT[key.name], *spellings] if key.name in _SHORT else spellings
    settings: dict[str, Any] = {"dest": f"key_{key.name}", "help": _TOLD.get(key.name, "as in a process file")}
    negations = [f"--no-{option[2:]}" for option in spellings if option.startswith("--")]
    if key.read is flag:
        group.add_argument(*spellings, action="store_const", const=True, **settings)
        group.add_argument(*negations, action="store_const", const=False, dest=f"key_{key.name}", help="the opposite")
        return
    settings["metavar"] = _SHOWN.get(key.name) or _UNITS.get(key.read) or key.name.rpartition("_")[2].upper()
    if key.name in _SWITCHES:
        group.add_argument(*spellings, nargs="?", const=True, **settings)
        if key.name == "watch":
            group.add_argument(
                *negations, action="store_const", const=False, dest=f"key_{key.name}", help="the opposite"
            )
        return
    group.add_argument(*spellings, **settings)


def join_codes(arguments: list[str]) -> list[str]:
    """`--stop-exit-codes 1 2` is one option with two values, as in PM2."""
    joined: list[str] = []
    for word in arguments:
        if len(joined) > 1 and joined[-2] == "--stop-exit-codes" and re.fullmatch(r"-?\d+", word):
            joined[-1] += f",{word}"
        else:
            joined.append(word)
    return joined


def written_keys(options: Any, command: str) -> dict[str, Any]:
    """What the options say, as a process file would. Raises UsageError for a value that the key does not take."""
    written: dict[str, Any] = {}
    for dest, value in vars(options).items():
        name = dest[len("key_") :]
        if not dest.startswith("key_") or value is None:
            continue
        written[name] = _as_written(name, value)
        if name in BY_NAME:
            read_key(name, written[name], command)
    return written


def _as_written(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if name == "watch_delay" and re.fullmatch(r"[\d.]+", value):
        return f"{value}s"  # PM2 counts seconds here, and milliseconds in a file
    if name in BY_NAME and BY_NAME[name].read is numbers:
        return re.findall(r"[^,\s]+", value)
    return _split_at_blanks(value) if name in _LISTS else value


def _split_at_blanks(value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError:
        return [value]


def read_key(name: str, value: Any, command: str) -> Any:
    try:
        return BY_NAME[name].read(value)
    except (ValueError, TypeError) as error:
        wanted = str(error) if isinstance(error, ValueError) else "another kind of value"
        raise UsageError(f"{option_of(name)} must be {wanted}, not '{value}'", where=command) from None


def changed_fields(written: Mapping[str, Any], worker: Mapping[str, Any], command: str) -> dict[str, Any]:
    """The options as changes of the config that `worker` runs with."""
    changes: dict[str, Any] = {}
    for name, value in written.items():
        if name in MODIFIERS or name == "instances":
            hint = f"percore scale {worker['name']} {value}" if name == "instances" else "percore delete, then start"
            raise UsageError(f"{option_of(name)} does not change an app that is known", where=command, next=hint)
        changes[recorded_as(BY_NAME[name].field)] = read_key(name, value, command)
    if isinstance(changes.get("watch"), bool):
        # PM2's restart --watch is a switch: on, then off again.
        is_on = changes["watch"] and not worker["config"].get("watch")
        changes["watch"] = (worker["cwd"],) if is_on else ()
    if "cwd" in changes:
        changes["cwd"] = os.path.abspath(changes["cwd"])
    return changes
