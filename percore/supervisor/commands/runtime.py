"""`percore runtime`: runs a process file or a script in the foreground, as the program of a container."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from percore.common.names import is_release_id
from percore.common.passwords import for_programs
from percore.errors import PercoreError, UsageError
from percore.supervisor.base.home import Home
from percore.supervisor.base.program import PLAN_VARIABLE, this_program
from percore.supervisor.commands.app_options import add_app_options, join_codes, written_keys
from percore.supervisor.commands.arguments import Parser, make_parser
from percore.supervisor.commands.output import warn
from percore.supervisor.commands.targets import (
    has_script,
    is_file,
    load_files,
    make_script_app,
    refuse_missing_scripts,
    shell_environment,
)
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.process_file import set_environment

_OF_PM2_PLUS = ("--public", "--secret", "--machine-name")
_STYLES = {"raw": "raw", "formatted": "prefix", "json": "json", "format": "pairs"}


def make_runtime_parser() -> Parser:
    parser = make_parser("runtime", usage="percore runtime FILE [options] [-- ARGUMENTS]", hands_on=True)
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a process file, a script, a program in PATH, or a command line in quotes; arguments follow --",
    )
    parser.add_argument("--env", dest="env_name", metavar="NAME", help="use env_NAME of the process file")
    parser.add_argument("--only", metavar="A,B", help="only these apps of the process file")
    parser.add_argument("--run-jobs", action="store_true", help="run jobs now instead of at their times, and end")
    parser.add_argument("--no-auto-exit", action="store_true", help="keep running when no app runs any more")
    parser.add_argument("--auto-exit", action="store_true", help="the default")
    parser.add_argument("--timestamp", action="store_true", help="the time before each line")
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--raw", action="store_true", help="the lines as they are (the default)")
    style.add_argument("--formatted", action="store_true", help="id and name before each line")
    style.add_argument("--json", action="store_true", help="one JSON object for each line")
    style.add_argument("--format", action="store_true", help="key=value pairs")
    add_app_options(parser)
    for option in _OF_PM2_PLUS:
        parser.add_argument(option, nargs="?", action="append", dest="of_pm2_plus", const="", help=argparse.SUPPRESS)
    return parser


def run_in_foreground(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # pid 1 ignores signals without a handler
    if arguments[:1] == ["start"] and len(arguments) > 1:  # `pm2-runtime start FILE`
        arguments = arguments[1:]
    options = make_runtime_parser().parse_args(join_codes(arguments))
    if options.of_pm2_plus is not None:
        warn(f"{', '.join(_OF_PM2_PLUS)} have no effect: percore sends nothing to any service")
    apps = read_apps(options)
    style = next((style for name, style in _STYLES.items() if getattr(options, name)), "raw")
    plan = {
        "apps": [app.to_record() for app in apps],
        "env": shell_environment(),
        "style": style,
        "stamps": options.timestamp,
        "auto_exit": not options.no_auto_exit,
    }
    home = Home.of_user()
    try:
        home.make()
    except OSError as error:
        raise PercoreError(
            f"the home cannot be created: {error.strerror}",
            where=home.path,
            next="set PERCORE_HOME to a writable directory, such as a tmpfs",
        ) from None
    become_supervisor(plan, home)
    return 0


def read_apps(options: Any) -> list[AppConfig]:
    written = written_keys(options, "runtime")
    if is_file(options.file):
        if options.file == "-":
            raise UsageError("a file is required", where="runtime", next="percore runtime FILE")
        if options.rest:
            raise UsageError("arguments of an app belong in the process file", where=options.file)
        apps = as_deployed(load_files([options.file], options.env_name, options.only, written), options.file)
        refuse_missing_scripts(apps)
        return [run_once(app) for app in apps] if options.run_jobs else apps
    if options.rest:
        written["args"] = list(options.rest)
    app = make_script_app(options.file, written)
    if not has_script(app):
        raise UsageError(f"there is no script or program called '{options.file}'", where="runtime")
    return [app]


def run_once(app: AppConfig) -> AppConfig:
    """What runs at its times and ends, as an app that starts now: something else watches the clock."""
    is_timed = app.is_job or (app.cron_restart is not None and not app.autorestart)
    return app._replace(job_cron=None, cron_restart=None, autostart=True) if is_timed else app


def as_deployed(apps: Sequence[AppConfig], path: str) -> list[AppConfig]:
    """With what an image of `invoke image` says of them, as a deploy says it to hosts (docs/reference/runtime.md)."""
    names = os.environ.get("PERCORE_OVERRIDES", "").split(",")
    warnings: list[str] = []
    found = set_environment(apps, {name: os.environ[name] for name in names if name in os.environ}, path, warnings)
    for warning in warnings:
        warn(warning)
    release, health = os.environ.get("PERCORE_RELEASE", ""), os.environ.get("PERCORE_HEALTH")
    if is_release_id(release):
        found = [app._replace(release=release) for app in found]
    return [
        app._replace(health=health) if health and app.mode == "cluster" and not app.health else app for app in found
    ]


def become_supervisor(plan: dict[str, Any], home: Home) -> None:
    """Executes the supervisor in this very process: the parsers are no longer in memory then, and pid 1 is the supervisor."""
    descriptor = os.memfd_create("plan", 0)  # neither arguments nor files: it holds environments
    with os.fdopen(os.dup(descriptor), "w") as file:
        json.dump(plan, file)
    os.lseek(descriptor, 0, os.SEEK_SET)
    # A signal that comes in between waits for the next program, which takes the block off.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    program = this_program()
    sys.stdout.flush()
    env = for_programs(**{"PERCORE_HOME": home.path, PLAN_VARIABLE: str(descriptor)})
    os.execve(program.python, program.argv(module="container"), env)
