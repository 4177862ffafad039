"""The signal on which a program finishes what it has begun, where the user names none.

SIGINT, as PM2 sends it, is right for nearly all: many servers of Python know no other one. These few take it for "at once",
or ignore it. They are known by what is executed, also behind a launcher or a shell.
"""

from __future__ import annotations

import itertools
import os
import signal

from percore.common.procfs import children_of, command_line_of
from percore.supervisor.base.first_line import kind_of
from percore.supervisor.config.app import AppConfig

_USUAL = "SIGINT"
_IN_ORDER = {
    **dict.fromkeys(("gunicorn", "mysqld", "mariadbd", "erl", "beam.smp", "elixir", "iex", "mix"), "SIGTERM"),
    **dict.fromkeys(("nginx", "openresty", "php-fpm", "unicorn", "unicorn_rails"), "SIGQUIT"),
    **dict.fromkeys(("apache", "httpd"), "SIGWINCH"),
    "haproxy": "SIGUSR1",
}
# They execute what their arguments name, or start it and wait for it.
_LAUNCHERS = ("python", "ruby", "sh", "env", "exec", "run", "uv", "uvx", "poetry", "pipenv", "pdm", "hatch", "rye", "bundle",
              "npm", "npx", "pnpm", "yarn", "start", "nice", "tini", "dumb-init")  # fmt: skip
_MOST_WORDS, _DEEPEST = 32, 8


def signal_for(config: AppConfig, pid: int) -> signal.Signals:
    """Of a worker with this process."""
    return signal.Signals[config.kill_signal or name_for(pid)]


def name_for(pid: int) -> str:
    """What the process, or the one program that it launched, wants."""
    for _ in range(_DEEPEST):
        program = program_in(os.fsdecode(command_line_of(pid)))
        children = children_of(pid)
        if program or len(children) != 1:
            return _IN_ORDER.get(program, _USUAL)
        pid = children[0]
    return _USUAL


def program_in(command_line: str) -> str:
    """The program that it is about, without its version; empty where there is none but a launcher.

    Servers write titles of several words there, such as `nginx: master process`.
    """
    words = (word for text in command_line.split("\0") for word in text.split())
    for word in itertools.islice(words, _MOST_WORDS):
        kind = kind_of(word.rstrip(":"))
        if word[:1] != "-" and "=" not in word and kind not in _LAUNCHERS:
            return kind
    return ""
