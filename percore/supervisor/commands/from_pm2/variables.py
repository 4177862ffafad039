"""Which variables of an app that PM2 runs go to the process file. Pure.

PM2 keeps the whole environment of the shell that started an app, with what the app's file sets in it. Those that this shell has
with the same value reach the workers from this shell, as under PM2. What is left, without what belongs to a session or to PM2
itself, was set for the app.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from percore.common.names import variable_fault

# Of the shell, the terminal, the login, the desktop, npm and the editors: they describe where PM2 was typed.
_OF_A_SESSION = re.compile(
    r"_|PWD|OLDPWD|INIT_CWD|SHLVL|SHELL|USER|LOGNAME|MAIL|HOSTNAME|TERM|TERMINFO|TERMCAP|COLORTERM|COLUMNS|LINES|LS_COLORS"
    r"|LESS(OPEN|CLOSE)|PS[0-4]|HIST\w*|BASH_\w*|ZSH\w*|STY|WINDOW|WINDOWID|DISPLAY|EDITOR|VISUAL|PAGER|COLOR"
    r"|(SSH|XDG|DBUS|SUDO|TMUX|TERM|WAYLAND|GNOME|KDE|VTE|LC_TERMINAL|VSCODE|npm|NVM|SYSTEMD)_\w*|TMUX"
    r"|NODE_CHANNEL_\w*|NODE_UNIQUE_ID|NODE_APP_INSTANCE|INVOCATION_ID|JOURNAL_STREAM|NOTIFY_SOCKET|LISTEN_\w*|WATCHDOG_\w*"
)
_OF_SUPERVISORS = re.compile(r"(PM2|PERCORE)_\w*|unique_id|pm_\w*|vizion_running|km_link")


def own_variables(entry: Mapping[str, Any], shell: Mapping[str, str]) -> dict[str, str]:
    """What was set for the app, as text. `entry` is `pm2_env`."""
    env = entry.get("env")
    told = {str(entry.get("instance_var")), str(entry.get("name"))}  # the latter: settings of PM2's modules
    found = {}
    for name, value in env.items() if isinstance(env, Mapping) else ():
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        if name in told or _OF_A_SESSION.fullmatch(name) or _OF_SUPERVISORS.fullmatch(name) or shell.get(name) == text:
            continue
        if not variable_fault(name, text):
            found[name] = text
    return found
