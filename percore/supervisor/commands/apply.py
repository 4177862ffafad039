"""`percore apply`: makes the running apps match a file, and prints the changes first."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from percore.common.control import failure
from percore.errors import PercoreError
from percore.supervisor.base.home import Home
from percore.supervisor.client import ask, ask_or_nothing, ensure_daemon
from percore.supervisor.commands.app_options import add_replace_option
from percore.supervisor.commands.arguments import Parser, make_parser
from percore.supervisor.commands.output import say, show_progress
from percore.supervisor.commands.targets import load_apps, refuse_missing_scripts, shell_environment
from percore.supervisor.config.app import AppConfig

PENDING = 8
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def make_apply_parser() -> Parser:
    parser = make_parser("apply")
    parser.add_argument("file", metavar="FILE", help="a process file, or - for one on stdin")
    parser.add_argument("--env", dest="env_name", metavar="NAME", help="use env_NAME of the process file")
    parser.add_argument(
        "--check",
        "--dry-run",
        action="store_true",
        help="only print what would change; exit code 8 when something would",
    )
    parser.add_argument("--release", default="", metavar="ID", help="note this release id with the apps")
    parser.add_argument("--json", action="store_true", help="print each event and the result as a line of JSON")
    add_replace_option(parser)
    return parser


def apply_file(arguments: list[str]) -> int:
    options = make_apply_parser().parse_args(arguments)
    try:
        apps, release = load_apps(options.file, options.env_name)
        if not release:
            refuse_missing_scripts(apps)
        owner = apps[0].source if apps else os.path.abspath(options.file)
        if options.check or not options.json:
            changes = find_changes(apps, owner, replaces=options.replace)
            if options.check and options.json:
                print_json({"event": "result", "ok": True, "pending": bool(changes), "changes": changes})
            else:
                for line in describe_changes(changes) if changes else ["nothing to change"]:
                    say(line)
            if options.check:
                return PENDING if changes else 0
        ensure_daemon(Home.of_user())
        # A release must not depend on the shell of the user who deploys it; a process file started by hand does, as in PM2.
        env = None if release else shell_environment()
        result = ask(
            "apply", print_json if options.json else show_progress, apps=[app.to_record() for app in apps],
            release=options.release or release, owner=owner, env=env, replaces=options.replace,
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


def print_json(message: Mapping[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def find_changes(apps: list[AppConfig], owner: str, *, replaces: bool) -> list[dict[str, Any]]:
    """The supervisor compares: it alone knows the values of the environments, and keeps them. Where none runs, all is new."""
    answer = ask_or_nothing("compare", apps=[app.to_record() for app in apps], owner=owner, replaces=replaces)
    if answer is None:
        from percore.common.cpus import usable_cores
        from percore.supervisor.config.compare import compare

        return compare({}, apps, owner=owner, cores=usable_cores())
    changes: list[dict[str, Any]] = answer["changes"]
    return changes


def describe_changes(changes: list[dict[str, Any]]) -> Iterator[str]:
    from percore.supervisor.config.options import OPTIONS
    from percore.supervisor.config.records import field_of

    keys = {option.field: option.key for option in OPTIONS}
    for change in changes:
        kind = change["change"]
        yield f"{_SIGNS.get(kind, '~')} {change['app']}" + ("" if kind in _SIGNS else f" (will be {kind})")
        for entry in change["fields"]:
            before = "" if kind == "added" else f"{shown(entry['from'])} -> "
            yield f"    {keys.get(field_of(entry['field']), entry['field'])}: {before}{shown(entry['to'])}"
        names = [f"{_SIGNS[how]} {name}" for how in _SIGNS for name in change["env"].get(how, ())]
        if names:
            yield f"    env: {', '.join(names)} (values are not shown)"


def shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None or value == "" else str(value)
