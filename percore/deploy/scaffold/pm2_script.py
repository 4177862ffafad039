"""What a script of package.json that starts PM2 hands to it."""

from __future__ import annotations

import re

from percore.deploy.scaffold.source import NODE_ENDINGS
from percore.supervisor.config.app_bounds import PROCESS_FILE

_PM2 = re.compile(
    r"(?:(?:cross-env|npx|yarn|pnpm|exec|\w+=\S+) +)*"
    r"(?:pm2-(?:runtime|docker)(?: +start)?|pm2 +(?:start|startOr\w+|reload|restart)) +(?P<target>[^\s-]\S*)"
)


def pm2_target(command: str) -> str:
    """What a script such as `pm2-runtime start app.js -i max` hands to PM2; empty where it does not start PM2."""
    match = _PM2.match(command)
    return match["target"] if match else ""


def without_pm2(command: str) -> str:
    """The program itself: percore takes PM2's place. Empty where PM2 has a process file, which is missing then."""
    match = _PM2.match(command)
    if match is None:
        return command
    target, rest = match["target"], command[match.end() :].partition(" -- ")[2].strip()
    if PROCESS_FILE.search(target):
        return ""
    program = f"node {target}" if target.endswith(NODE_ENDINGS) else target
    return f"{program} {rest}".strip()
