"""What a command is about: apps by name, id, namespace or /regex/, or those of a process file, or of one on stdin."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from percore.errors import UsageError, nearest
from percore.supervisor.commands.arguments import Name
from percore.supervisor.commands.asking import select_workers
from percore.supervisor.commands.files import load_apps
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.app_names import PROCESS_FILE


def is_file(target: str) -> bool:
    """True for what a process file is called, and for `-`, which is one on stdin; never for what stands behind `--`."""
    return not isinstance(target, Name) and (target == "-" or bool(PROCESS_FILE.search(target)))


def load_files(
    targets: Sequence[str], env_name: Optional[str], only: Optional[str], overrides: Optional[Mapping[str, Any]] = None
) -> list[AppConfig]:
    """The apps of all process files among the targets, or those of them that `--only` names."""
    apps: list[AppConfig] = []
    for target in filter(is_file, targets):
        if target != "-" and not os.path.isfile(target):
            raise UsageError("there is no such file", where=target, next="percore start FILE")
        text = sys.stdin.read() if target == "-" else None
        apps += load_apps(target if text is None else "stdin.json", env_name, text=text, overrides=overrides)[0]
    if not only:
        return apps
    wanted = re.findall(r"[^,\s]+", only)
    known = [app.name for app in apps]
    for name in wanted:
        if name not in known:
            like = nearest(name, known)
            raise UsageError(
                f"--only names '{name}', which is in no file", next=f"did you mean '{like}'?" if like else ""
            )
    return [app for app in apps if app.name in wanted]


def find_selectors(targets: Sequence[str], only: Optional[str] = None) -> list[str]:
    """As the supervisor understands them: of a process file, the apps that are known. Raises UsageError when none is."""
    selectors = [target for target in targets if not is_file(target)]
    if len(selectors) == len(targets):
        return selectors
    named = [app.name for app in load_files(targets, None, only)]
    known = {worker["name"] for worker in select_workers()}
    found = [name for name in named if name in known]
    if not found and not selectors:
        raise UsageError(f"none of its apps is known ({', '.join(named)})", where=targets[0], next="see 'percore list'")
    return selectors + found
