"""`percore init`: a first process file. `percore pm2-alias`: how to keep typing `pm2`."""

from __future__ import annotations

import json
import os
import shlex

from percore.common.files import write_file
from percore.errors import UsageError
from percore.supervisor.base.program import this_program
from percore.supervisor.commands.arguments import make_parser
from percore.supervisor.commands.output import say

_FILE = "ecosystem.config.js"
_OURS = "# made by percore pm2-alias"
_USUAL = ("server.js", "index.js", "app.js", "main.js", "dist/main.js", "app.py", "main.py")
_SIMPLE = """\
module.exports = {{
  apps: [
    {{ name: {name}, script: {script} }},
  ],
}};
"""
_FULL = """\
// percore start            starts it; percore reload {plain_name} replaces it without losing a request
// percore apply {file}  makes the running apps match this file
module.exports = {{
  apps: [
    {{
      name: {name},
      script: {script},
      exec_mode: "cluster",     // all workers share one port
      instances: "max",         // one per core
      // health: "/health",     // requested from every worker before it gets traffic, and while it runs
      // wait_ready: true,      // the program calls process.send('ready')
      max_memory_restart: "1G", // replaced gracefully when it uses more
      kill_timeout: 5000,       // milliseconds to finish open requests
      env: {{ NODE_ENV: "development" }},
      env_production: {{ NODE_ENV: "production" }}, // percore start --env production
    }},
  ],
}};
"""
_PM2 = """\
# Run percore when pm2 is typed. In this shell, or permanently in ~/.bashrc or ~/.zshrc:
alias pm2=percore

# For scripts, cron and other programs, commands called pm2, pm2-runtime and pm2-docker in a directory of PATH:
#   percore pm2-alias --install /usr/local/bin

# PM2_HOME, PM2_SILENT, PM2_KILL_TIMEOUT and similar variables are supported. Apps that PM2 runs:
#   percore import-pm2
"""


def write_process_file(arguments: list[str]) -> int:
    parser = make_parser("init")
    parser.add_argument("form", nargs="?", choices=["simple"], help="with name and script only")
    parser.add_argument("--env", metavar="ENV", help="on the control machine: everything to deploy from this directory")
    options = parser.parse_args(arguments)
    if options.env is not None:
        raise UsageError(
            "this percore has no part that deploys", next="pip install 'percore[deploy]', on the machine to deploy from"
        )
    script = find_script()
    name = os.path.basename(os.getcwd()) or "app"
    text = (_SIMPLE if options.form else _FULL).format(
        name=json.dumps(name), script=json.dumps(script), plain_name=name, file=_FILE
    )
    try:
        with open(_FILE, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError("the file already exists", where=os.path.abspath(_FILE), next="percore start") from None
    say(f"{_FILE} is written for the script {script} -> edit it, then: percore start")
    return 0


def find_script() -> str:
    """The main file of package.json, or a usual name of one."""
    try:
        with open("package.json", encoding="utf-8") as file:
            main = json.load(file).get("main")
    except (OSError, ValueError, AttributeError):
        main = None
    found = (path for path in (main, *_USUAL) if isinstance(path, str) and os.path.isfile(path))
    return next(found, "server.js")


def explain_alias(arguments: list[str]) -> int:
    parser = make_parser("pm2-alias")
    parser.add_argument(
        "--install", metavar="DIRECTORY", help="install the commands pm2, pm2-runtime and pm2-docker there"
    )
    directory = parser.parse_args(arguments).install
    if directory is None:
        print(_PM2, end="")
        return 0
    if not os.path.isdir(directory):
        raise UsageError("there is no such directory", where=directory)
    commands = {"pm2": "", "pm2-runtime": " runtime", "pm2-docker": " runtime"}
    for name in commands:
        path = os.path.join(directory, name)
        if os.path.lexists(path) and not is_ours(path):
            raise UsageError(
                f"another {name} exists there",
                where=path,
                next="npm uninstall -g pm2, or choose another directory of PATH",
            )
    for name, command in commands.items():
        write_command(os.path.join(directory, name), command)
    say(f"{', '.join(commands)} in {directory} run percore")
    return 0


def write_command(path: str, command: str) -> None:
    """By path: a cron job has neither an activated environment nor much of a PATH."""
    program = this_program()
    code = f"import sys; sys.path.insert(0, {program.root!r}); from percore.supervisor.cli import main; main()"
    text = f'#!/bin/sh\n{_OURS}\nexec {shlex.quote(program.python)} -E -c {shlex.quote(code)}{command} "$@"\n'
    write_file(path, os.fsencode(text), mode=0o755)


def is_ours(path: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return _OURS in file.read(200)
    except OSError:
        return False
