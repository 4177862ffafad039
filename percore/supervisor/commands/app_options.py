"""The options of an app on the command line: `--max-memory-restart` for the key `max_memory_restart` of a process file."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import Any

from percore.errors import UsageError
from percore.supervisor.commands.arguments import APP_SECTION, Parser
from percore.supervisor.config.app_reader import paths_at_home
from percore.supervisor.config.options import BY_NAME, MODIFIER_BY_NAME, MODIFIERS, OPTIONS, Option, option_of
from percore.supervisor.config.process_file import absolute
from percore.supervisor.config.records import recorded_as
from percore.supervisor.config.value_types import (
    ADDRESSES,
    ARGUMENTS,
    CODES,
    FLAG,
    NAMES,
    PATTERNS,
    SCHEDULE,
    SIZE,
    VARIABLES,
)

# Of PM2's own agent and tools: accepted silently, as their keys are.
_WITHOUT_MEANING = (
    *("automation", "deep-monitoring", "disable-trace", "event-loop-inspector"),
    *("pmx", "trace", "v8", "vizion", "write"),
)
# As PM2's users take a value back: `--node-args=null`.
_NOTHING = "null"
_REMOVABLE = (ARGUMENTS, NAMES, PATTERNS, SIZE, SCHEDULE, CODES, ADDRESSES, VARIABLES)


def add_app_options(parser: Parser) -> None:
    group = parser.add_argument_group(APP_SECTION, "every key of a process file: docs/reference/process-file.md")
    for option in (*OPTIONS, *MODIFIERS):
        if option.is_typed:
            _add(group, option)
    group.add_argument(
        "--time", dest="key_log_date_format", action="store_const", const=True, help="date before each line"
    )
    for name in _WITHOUT_MEANING:
        group.add_argument(f"--{name}", f"--no-{name}", action="store_true", dest="ignored", help=argparse.SUPPRESS)
    group.add_argument("-w", action="store_true", dest="ignored", help=argparse.SUPPRESS)


def add_replace_option(parser: Parser) -> None:
    parser.add_argument(
        "--replace", action="store_true", help="also apps of the same name that another project started"
    )


def _add(group: Any, option: Option) -> None:
    spellings = [option_of(name) for name in (option.key, *option.aliases) if name != "time"]
    negations = [f"--no-{spelling[2:]}" for spelling in spellings]
    spellings = [option.short, *spellings] if option.short else spellings
    dest = f"key_{option.key}"
    if option.type is FLAG:
        group.add_argument(*spellings, action="store_const", const=True, dest=dest, help=option.help)
    else:
        unit = option.unit or option.type.unit or option.key.rpartition("_")[2].upper()
        value: dict[str, Any] = {"nargs": "?", "const": True} if option.is_switch else {}
        group.add_argument(*spellings, dest=dest, metavar=unit, help=option.help, **value)
    if option.type is FLAG or option.key == "watch":
        group.add_argument(*negations, action="store_const", const=False, dest=dest, help="the opposite")


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
        key = dest[len("key_") :]
        if not dest.startswith("key_") or value is None:
            continue
        option = BY_NAME.get(key)
        if option and value == _NOTHING and option.type in _REMOVABLE:
            written[key] = None
            continue
        written[key] = option.type.split(value) if option and isinstance(value, str) else value
        if option:
            read_key(option, written[key], command)
    return written


def read_key(option: Option, value: Any, command: str) -> Any:
    try:
        return option.type.read(value)
    except (ValueError, TypeError) as error:
        wanted = str(error) if isinstance(error, ValueError) else "another kind of value"
        raise UsageError(f"{option_of(option.key)} must be {wanted}, not '{value}'", where=command) from None


def changed_fields(written: Mapping[str, Any], worker: Mapping[str, Any], command: str) -> dict[str, Any]:
    """The options as changes of the config that `worker` runs with."""
    changes: dict[str, Any] = {}
    for key, value in written.items():
        if key in MODIFIER_BY_NAME or key == "instances":
            hint = (
                f"percore scale {worker['name']} {value}"
                if key == "instances"
                else "percore delete, then percore start"
            )
            raise UsageError(f"{option_of(key)} cannot be changed for an existing app", where=command, next=hint)
        option = BY_NAME[key]
        changes[recorded_as(option.field)] = option.default if value is None else read_key(option, value, command)
    if isinstance(changes.get("watch"), bool):
        # PM2's restart --watch is a switch: on, then off again.
        is_on = changes["watch"] and not worker["config"].get("watch")
        changes["watch"] = (worker["cwd"],) if is_on else ()
    changes.update(paths_at_home(changes))
    if "cwd" in changes:
        changes["cwd"] = absolute(changes["cwd"])
    return changes
