"""`percore runtime`: runs a process file or a script in the foreground, as the program of a container."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from percore.errors import PercoreError, UsageError, nearest
from percore.supervisor.commands.files import load_apps, shell_environment
from percore.supervisor.commands.parsing import Parser, make_parser
from percore.supervisor.config import AppConfig
from percore.supervisor.ecosystem import make_app
from percore.supervisor.home import Home
from percore.supervisor.keys import BY_NAME
from percore.supervisor.update import PLAN_VARIABLE, this_program

_STYLES = ("raw", "formatted", "json", "format")
_PROCESS_FILES = (".config.js", ".config.cjs", ".config.mjs", ".json", ".yml", ".yaml")
_SCRIPT_KEYS = ("name", "instances", "interpreter", "node_args", "max_memory_restart", "kill_timeout", "wait_ready")


def make_runtime_parser() -> Parser:
    parser = make_parser("runtime")
    parser.add_argument("file", help="a process file, or a script; what follows -- are the script's arguments")
    parser.add_argument("--env", dest="env_name", metavar="NAME", help="use env_NAME of the process file")
    parser.add_argument("--only", metavar="NAMES", default="", help="only these apps, separated by commas")
    parser.add_argument("-i", "--instances", metavar="N", help="workers of each app: a number, or max")
    parser.add_argument("-n", "--name", help="of a script")
    parser.add_argument("--interpreter", help="of a script")
    parser.add_argument("--node-args", help="of a script")
    parser.add_argument("--max-memory-restart", metavar="SIZE")
    parser.add_argument("--kill-timeout", metavar="MS")
    parser.add_argument("--wait-ready", action="store_true", default=None)
    parser.add_argument("--no-auto-exit", action="store_true", help="stay when nothing runs any more")
    parser.add_argument("--timestamp", action="store_true", help="the time before each line")
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--raw", action="store_true", help="the lines as they are (the default)")
    style.add_argument("--formatted", action="store_true", help="id and name before each line")
    style.add_argument("--json", action="store_true", help="one JSON object for each line")
    style.add_argument("--format", action="store_true", help="key=value pairs")
    return parser


def run_in_foreground(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # pid 1 would not even notice it
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = make_runtime_parser().parse_args(arguments[:end])
    apps = select(configured(options, arguments[end + 1 :]), options.only)
    styles = {"raw": "raw", "formatted": "prefix", "json": "json", "format": "pairs"}
    style = next((styles[name] for name in _STYLES if getattr(options, name)), "raw")
    plan = {
        "apps": [app.to_record() for app in apps], "env": shell_environment(), "style": style,
        "stamps": options.timestamp, "auto_exit": not options.no_auto_exit,
    }  # fmt: skip
    home = Home.of_user()
    try:
        home.make()
    except OSError as error:
        raise PercoreError(
            f"its folder cannot be made: {error.strerror}", where=home.path,
            next="set PERCORE_HOME to a folder that can be written, such as a tmpfs",
        ) from None  # fmt: skip
    become_supervisor(plan, home)
    return 0


def configured(options: Any, script_arguments: list[str]) -> list[AppConfig]:
    """The apps, with what the command line says over what the file says."""
    if options.file.endswith(_PROCESS_FILES):
        if options.name or options.interpreter or options.node_args or script_arguments:
            raise UsageError("name, interpreter and arguments of an app stand in the process file", where=options.file)
        apps, _ = load_apps(options.file, options.env_name)
        changes = read_options(options, ("instances", "max_memory_restart", "kill_timeout", "wait_ready"))
        return [app._replace(**changes) for app in apps]
    if not os.path.isfile(options.file):
        raise UsageError("there is no such file", where=options.file, next="percore runtime FILE")
    written = {key: value for key in _SCRIPT_KEYS if (value := getattr(options, key)) is not None}
    written.update(script=os.path.abspath(options.file), args=script_arguments, cwd=os.getcwd())
    return [make_app(written, path=os.path.abspath(options.file), number=0, env_name=None, warnings=[])]


def read_options(options: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    fields = {}
    for key in keys:
        value = getattr(options, key)
        if value is not None:
            try:
                fields[BY_NAME[key].field] = BY_NAME[key].read(value)
            except ValueError as error:
                raise UsageError(f"--{key.replace('_', '-')} must be {error}, not '{value}'") from None
    return fields


def select(apps: list[AppConfig], only: str) -> list[AppConfig]:
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    known = [app.name for app in apps]
    for name in wanted:
        if name not in known:
            like = nearest(name, known)
            raise UsageError(f"no app is called '{name}'", next=f"did you mean '{like}'?" if like else ", ".join(known))
    return [app for app in apps if app.name in wanted] if wanted else apps


def become_supervisor(plan: dict[str, Any], home: Home) -> None:
    """Executes the supervisor in this very process: the parsers are out of memory then, and pid 1 is the supervisor."""
    descriptor = os.memfd_create("plan", 0)  # neither arguments nor files: it holds environments
    with os.fdopen(os.dup(descriptor), "w") as file:
        json.dump(plan, file)
    os.lseek(descriptor, 0, os.SEEK_SET)
    # A signal that comes in between waits for the next program, which takes the block off.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    program = this_program()
    sys.stdout.flush()
    env = {**os.environ, "PERCORE_HOME": home.path, PLAN_VARIABLE: str(descriptor)}
    os.execve(program.python, program.argv(module="foreground"), env)
