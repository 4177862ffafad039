"""What an app may be called, and the most that one supervisor takes of it, wherever its config comes from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from percore.common.typing import Any
from percore.errors import UsageError
from percore.supervisor.config import kinds
from percore.supervisor.config.app import AppConfig, resolve_instances

# The kernel program that steers connections has room for six steps of each worker in its 4096.
MOST_WORKERS = 512
_HIGHEST_PORT = 65535
_LONGEST_NAME = 200  # of a file's 255, with what is added to it
_OWN_LOG = "percore"  # of the supervisor itself, in the same directory
# What a process file is called, for commands that take files and names.
PROCESS_FILE = re.compile(r"\.(json[5c]?|ya?ml)$|\.config\.[cm]?[jt]s$")
PROCESS_FILES = (
    *(f"ecosystem.config.{ending}" for ending in ("js", "cjs", "mjs", "ts", "json")),
    *(f"ecosystem.{ending}" for ending in ("json", "json5", "yml", "yaml")),
    *(f"ecosystem.config.{ending}" for ending in ("yml", "yaml")),
    *("pm2.config.js", "pm2.config.cjs", "pm2.json"),
)
"""What is looked for in a directory, the first that is there."""


def why_no_name(name: str) -> str:
    """Why an app cannot be called so; empty where it can. What is known by such a name already is reached by its id."""
    if not name or not name.isprintable():
        return "a text of printable characters"
    if name in ("all", "-"):
        return f"another name: '{name}' means something else in every command"
    if PROCESS_FILE.search(name):
        return "another name: commands would take it for a process file"
    if len(os.fsencode(file_name(name))) > _LONGEST_NAME:
        return f"a text of at most {_LONGEST_NAME} bytes: files are called by it"
    if len(name) > 2 and name.startswith("/") and name.endswith("/"):
        return "another name: commands would take it for a regular expression"
    return ""


# Of a release and of the link to the one that runs: the project is what they lie in.
_OF_A_RELEASE = r"/(releases/[^/]+|current)(/.*)?$"
_OF_THE_SYSTEM = ("/usr/", "/bin/", "/sbin/", "/opt/", "/nix/", "/snap/")


def is_same_project(one: AppConfig, other: AppConfig) -> bool:
    """True where an app of this name is meant to replace the other one: they come from one file, or are run in one place."""
    if one.source and _project_of(one.source) == _project_of(other.source):
        return True
    if _place_of(one) == _place_of(other):
        return True
    if script_of(one) == script_of(other) and not script_of(one).startswith(_OF_THE_SYSTEM):
        return True
    typed, written = (one, other) if not one.source else (other, one)
    return not typed.source and _project_of(os.path.dirname(written.source)) == _project_of(typed.cwd)


def script_of(config: AppConfig) -> str:
    return os.path.normpath(os.path.join(config.cwd, config.script))


def _place_of(config: AppConfig) -> tuple[str, str]:
    """The working directory, and that of the script where it is elsewhere."""
    cwd, script = _project_of(config.cwd), _project_of(os.path.dirname(script_of(config)))
    return cwd, "" if script == cwd or script.startswith(f"{cwd.rstrip('/')}/") else script


def _project_of(path: str) -> str:
    return re.sub(_OF_A_RELEASE, "", os.path.normpath(path)) if path else ""


def file_name(app_name: str) -> str:
    """An app's name as part of a file name: a slash would leave the directory."""
    return app_name.replace("/", "-")


def check(config: AppConfig, cores: int) -> None:
    """Raises UsageError for what no supervisor can do."""
    if reason := why_no_name(config.name):
        raise UsageError(
            f"an app cannot be called {config.name!r:.80}: it must be {reason}", next="give it another name"
        )
    check_count(config, resolve_instances(config.instances, cores))


def check_count(config: AppConfig, count: int) -> None:
    """Raises UsageError for more workers than one app can have."""
    if count > MOST_WORKERS:
        shown = count if count < 10**9 else "so many"
        raise UsageError(f"'{config.name}' cannot have {shown} workers: {MOST_WORKERS} is the maximum for one app")
    last = config.port_of(count - 1)
    if last is not None and not 0 < last <= _HIGHEST_PORT:
        raise UsageError(
            f"'{config.name}' cannot have {count} workers: the last one would get port {last}, over {_HIGHEST_PORT}",
            next="use a lower port or fewer workers",
        )


def check_environment(env: Any) -> None:
    """Raises ValueError for what no program can be given as its environment."""
    if not isinstance(env, Mapping):
        raise ValueError("an environment must be a mapping of names to texts")
    for name, value in env.items():
        try:
            kinds.variable(name)
        except kinds.Wanted:
            raise ValueError(f"{name!r:.80} cannot name a variable") from None
        try:
            kinds.text(value)
        except kinds.Wanted:
            raise ValueError(f"the value of variable {name:.80} is no text that a program can be given") from None


def check_log_names(known: Iterable[AppConfig], new: Iterable[AppConfig]) -> None:
    """Raises UsageError where a new app would write another's log, unless its file says so."""
    owners = {_OWN_LOG: ""}
    for config in known:
        owners.update(dict.fromkeys(_log_names(config), config.name))
    for config in new:
        for name in _log_names(config):
            other = owners.setdefault(name, config.name)
            if other != config.name:
                owner = f"'{other}'" if other else "the supervisor itself"
                raise UsageError(
                    f"the logs of '{config.name}' and of {owner} would be the same file, {name}.log",
                    next="give the app another name, or set out_file, error_file and log_file",
                )


def _log_names(config: AppConfig) -> list[str]:
    """Without the numbers that workers add, and without what the app places by itself."""
    stem = file_name(config.name)
    usual = {
        f"{stem}-out": config.out_file is None,
        f"{stem}-error": config.error_file is None,
        stem: config.log_file == "",
    }
    return [] if config.disable_logs else [name for name, is_usual in usual.items() if is_usual]
