"""Starting, stopping, replacing, forgetting."""

from __future__ import annotations

import os

from percore.errors import UsageError
from percore.supervisor.client import NoDaemon, ensure_daemon, wait_until_gone
from percore.supervisor.commands import take_none
from percore.supervisor.commands.asking import ask, is_silent, show_progress
from percore.supervisor.home import Home


def start_apps(arguments: list[str]) -> int:
    from percore.supervisor.commands.files import find_process_file, load_apps, shell_environment
    from percore.supervisor.commands.parsing import make_parser

    parser = make_parser("start")
    parser.add_argument("target", nargs="?", help="process file, name, id, namespace, /regex/ or all")
    parser.add_argument("--env", dest="env_name", metavar="NAME", help="use env_NAME of the process file")
    options = parser.parse_args(arguments)
    target = options.target or find_process_file()
    if not os.path.isfile(target):
        if os.sep in target or target.endswith((".js", ".cjs", ".mjs", ".json", ".yml", ".yaml")):
            raise UsageError("there is no such file", where=target, next="percore start FILE")
        ensure_daemon(Home.of_user())
        ask("start_selected", show_progress, selector=target)
    else:
        apps, _ = load_apps(target, options.env_name)
        ensure_daemon(Home.of_user())
        ask("start", show_progress, apps=[app.to_record() for app in apps], env=shell_environment())
    return show_list()


def stop_apps(arguments: list[str]) -> int:
    return change_selected("stop", arguments)


def restart_apps(arguments: list[str]) -> int:
    return change_selected("restart", arguments)


def reload_apps(arguments: list[str]) -> int:
    return change_selected("reload", arguments)


def delete_apps(arguments: list[str]) -> int:
    return change_selected("delete", arguments)


def change_selected(op: str, arguments: list[str]) -> int:
    from percore.supervisor.commands.parsing import make_parser

    parser = make_parser(op)
    parser.add_argument("selector", help="name, id, namespace, /regex/ or all")
    ask(op, show_progress, selector=parser.parse_args(arguments).selector)
    return show_list()


def scale_app(arguments: list[str]) -> int:
    from percore.supervisor.commands.parsing import make_parser

    parser = make_parser("scale")
    parser.add_argument("name")
    parser.add_argument("count", help="a number, +n, or max")
    options = parser.parse_args(arguments)
    ask("scale", show_progress, name=options.name, count=options.count)
    return show_list()


def show_list() -> int:
    """What every change ends with."""
    from percore.supervisor.commands.listing import print_list

    if not is_silent():
        print_list()
    return 0


def kill_daemon(arguments: list[str]) -> int:
    take_none("kill", arguments)
    try:
        ask("kill", show_progress)
    except NoDaemon:
        print("no supervisor runs")
        return 0
    wait_until_gone(Home.of_user())
    print("all apps and the supervisor are stopped")
    return 0


def ping(arguments: list[str]) -> int:
    take_none("ping", arguments)
    ensure_daemon(Home.of_user())
    print(f"pong from pid {ask('ping')['pid']}")
    return 0
