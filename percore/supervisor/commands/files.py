"""What a process file or a release record names, for the commands that take one; and the caller's environment."""

from __future__ import annotations

import json
import os
import re
from typing import Optional

from percore.errors import UsageError
from percore.supervisor.commands.asking import warn
from percore.supervisor.config import AppConfig
from percore.supervisor.ecosystem import load_process_file

_PROCESS_FILES = (
    "ecosystem.config.js",
    "ecosystem.config.cjs",
    "ecosystem.config.mjs",
    "ecosystem.json",
    "ecosystem.yml",
    "ecosystem.yaml",
)
# What a shell carries for itself; it would make each terminal another environment.
_SHELL_ONLY = re.compile(
    r"_|SHLVL|PWD|OLDPWD|TERM.*|COLUMNS|LINES|LS_COLORS|SSH_.*|WINDOWID|PERCORE_.*|PS1|HIST.*|DISPLAY|XDG_SESSION.*|INVOCATION_ID|JOURNAL_STREAM|NOTIFY_SOCKET|LISTEN_.*|VIRTUAL_ENV.*|NODE_CHANNEL_.*|LD_PRELOAD"
)


def load_apps(path: str, env_name: Optional[str]) -> tuple[list[AppConfig], str]:
    """The apps of a process file or of a release record, and the release's id (empty for a process file)."""
    if os.path.basename(path) == ".percore.json":
        try:
            with open(path, encoding="utf-8") as file:
                record = json.load(file)
            apps = [AppConfig.from_record(app, where=path) for app in record["apps"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"it cannot be read as a release record: {error}", where=path) from None
        # All releases of one place are the same set of apps: what a newer one no longer names goes.
        owner = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(path))))
        return [app._replace(source=owner, release=record["release"]) for app in apps], record["release"]
    loaded = load_process_file(path, env_name=env_name)
    for warning in loaded.warnings:
        warn(warning)
    return [app._replace(source=os.path.abspath(path)) for app in loaded.apps], ""


def shell_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not _SHELL_ONLY.fullmatch(name)}


def find_process_file() -> str:
    for name in _PROCESS_FILES:
        if os.path.isfile(name):
            return name
    raise UsageError(f"there is no process file here ({_PROCESS_FILES[0]})", next="percore start FILE")
