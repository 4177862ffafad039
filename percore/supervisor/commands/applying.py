"""`percore apply`: makes what runs match a file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from percore.errors import PercoreError
from percore.supervisor.client import ensure_daemon
from percore.supervisor.commands.asking import ask, say, show_progress
from percore.supervisor.commands.files import load_apps, shell_environment
from percore.supervisor.commands.parsing import make_parser
from percore.supervisor.home import Home
from percore.supervisor.protocol import failure


def apply_file(arguments: list[str]) -> int:
    parser = make_parser("apply")
    parser.add_argument("file")
    parser.add_argument("--env", dest="env_name", metavar="NAME", help="use env_NAME of the process file")
    parser.add_argument("--release", default="", metavar="ID")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)

    def print_json(message: Mapping[str, Any]) -> None:
        print(json.dumps(message), flush=True)

    try:
        apps, release = load_apps(options.file, options.env_name)
        ensure_daemon(Home.of_user())
        owner = apps[0].source if apps else os.path.abspath(options.file)
        # A release must not depend on the shell of whoever deploys it; a process file started by hand does, as in PM2.
        env = None if release else shell_environment()
        result = ask(
            "apply", print_json if options.json else show_progress, apps=[app.to_record() for app in apps],
            release=options.release or release, owner=owner, env=env,
        )  # fmt: skip
    except PercoreError as error:
        if not options.json:
            raise
        print_json(failure(error))
        return error.exit_code
    if options.json:
        print_json(result)
    else:
        for change in result["changes"]:
            say(f"{change['app']}: {change['change']}")
    return 0
