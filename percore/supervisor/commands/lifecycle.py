"""Commands that change which workers run."""

from __future__ import annotations

from percore.common.typing import TYPE_CHECKING, Optional
from percore.errors import PercoreError, UsageError
from percore.supervisor.base.home import Home
from percore.supervisor.client import (
    NoDaemon,
    as_selectors,
    ask,
    ask_or_nothing,
    ensure_daemon,
    select_workers,
    wait_until_gone,
    was_running,
)
from percore.supervisor.commands.output import is_silent, say, show_progress, warn

if TYPE_CHECKING:
    from percore.supervisor.commands.arguments import Parser

_SELECTOR = "name, id, namespace, /regex/, all, process file, or - (one on stdin)"


def stop_apps(arguments: list[str]) -> int:
    return change_selected("stop", arguments)


def delete_apps(arguments: list[str]) -> int:
    return change_selected("delete", arguments)


def change_selected(op: str, arguments: list[str]) -> int:
    from percore.supervisor.commands.arguments import make_parser
    from percore.supervisor.commands.targets import find_selectors

    parser = make_parser(op)
    parser.add_argument("targets", nargs="+", metavar="TARGET", help=_SELECTOR)
    parser.add_argument("--only", metavar="A,B", help="only these apps of the process file")
    parser.add_argument("-f", "--force", action="store_true", help="accepted; has no effect")
    parser.add_argument("--parallel", metavar="N", help="accepted; apps are always handled in parallel")
    parser.add_argument("--watch", action="store_true", help="accepted; stopped apps are never watched")
    options = parser.parse_args(arguments)
    ask(op, show_progress, selectors=find_selectors(options.targets, options.only))
    return show_list()


def restart_apps(arguments: list[str]) -> int:
    return replace_workers("restart", arguments)


def reload_apps(arguments: list[str]) -> int:
    return replace_workers("reload", arguments)


def make_replace_parser(name: str, targets: str = "TARGET ...") -> Parser:
    from percore.supervisor.commands.app_options import add_app_options, add_replace_option
    from percore.supervisor.commands.arguments import make_parser

    parser = make_parser(name, usage=f"percore {name} {targets} [options] [-- ARGUMENTS]", hands_on=True)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=_SELECTOR)
    parser.add_argument("--env", dest="env_name", metavar="NAME", help="use env_NAME of the process file")
    parser.add_argument("--only", metavar="A,B", help="only these apps of the process file")
    parser.add_argument("-a", "--update-env", action="store_true", help="use the variables of this shell")
    parser.add_argument("-f", "--force", action="store_true", help="accepted; requests are queued")
    parser.add_argument("--parallel", metavar="N", help="accepted; apps are always handled in parallel")
    add_replace_option(parser)
    add_app_options(parser)
    return parser


def replace_workers(op: str, arguments: list[str], parser: Optional[Parser] = None) -> int:
    """`restart` and `reload`: apps that are known, with the given changes; those of a file as it says, missing ones too."""
    from percore.supervisor.commands.app_options import changed_fields, join_codes, written_keys
    from percore.supervisor.commands.arguments import Name
    from percore.supervisor.commands.targets import (
        environment_for,
        is_file,
        load_files,
        refuse_missing_scripts,
        shell_environment,
    )

    parser = parser or make_replace_parser(op)
    options = parser.parse_args(join_codes(arguments))
    if not options.targets:  # `restart -- -x`: without a target before it, it is one
        options.targets, options.rest = list(map(Name, options.rest)), ()
    if not options.targets:
        parser.error("the following arguments are required: TARGET")
    written = written_keys(options, op)
    if options.rest:
        written["args"] = list(options.rest)
    apps = load_files(options.targets, options.env_name, options.only, written)
    refuse_missing_scripts(apps)
    if was_running(Home.of_user()):
        ensure_daemon(Home.of_user())  # its apps are known then
    selectors = as_selectors([target for target in options.targets if not is_file(target)])
    changes = {}
    if selectors:
        if options.env_name and not apps:
            warn(
                f"--env {options.env_name} has no effect without a process file; --update-env applies this shell's variables"
            )
        chosen = select_workers(*selectors)
        if written and chosen:
            changes = changed_fields(written, chosen[0], op)
    if apps:
        ensure_daemon(Home.of_user())
        records = [app.to_record() for app in apps]
        ask("start", show_progress, apps=records, env=shell_environment(), how=op, replaces=options.replace)
    if selectors:
        env = environment_for(selectors) if options.update_env else None
        ask(op, show_progress, selectors=selectors, changes=changes, base_env=env)
    return show_list()


def start_or_restart(arguments: list[str]) -> int:
    return start_file("startOrRestart", "restart", arguments)


def start_or_reload(arguments: list[str]) -> int:
    return start_file("startOrReload", "reload", arguments)


def start_file(name: str, how: str, arguments: list[str]) -> int:
    from percore.supervisor.commands.app_options import join_codes
    from percore.supervisor.commands.targets import is_file

    parser = make_replace_parser(name, "FILE")
    if not any(map(is_file, parser.parse_args(join_codes(arguments)).targets)):
        parser.error("a process file is required")
    return replace_workers(how, arguments, parser)


def scale_app(arguments: list[str]) -> int:
    from percore.supervisor.commands.arguments import make_parser

    parser = make_parser("scale")
    parser.add_argument("name", metavar="NAME", help="name of one app")
    parser.add_argument(
        "count", metavar="N|+N|-N|max", help="number of workers, how many to add or remove, or one per core"
    )
    options = parser.parse_args(arguments)
    count = options.count
    if count != "max" and not count.lstrip("+-").isdecimal():
        raise UsageError(f"the count must be a number, +N, -N or max, not '{count}'", where="scale")
    ask("scale", show_progress, name=options.name, count=count)
    return show_list()


def reset_counters(arguments: list[str]) -> int:
    from percore.supervisor.commands.arguments import make_parser
    from percore.supervisor.commands.targets import find_selectors

    parser = make_parser("reset")
    parser.add_argument("targets", nargs="+", metavar="TARGET", help=_SELECTOR)
    ask("reset", selectors=find_selectors(parser.parse_args(arguments).targets))
    return show_list()


def send_signal(arguments: list[str]) -> int:
    from percore.supervisor.commands.arguments import make_parser
    from percore.supervisor.commands.targets import find_selectors
    from percore.supervisor.config.value_types import signal_name

    parser = make_parser("sendSignal")
    parser.add_argument("signal", metavar="SIGNAL", help="such as SIGUSR2")
    parser.add_argument("targets", nargs="+", metavar="TARGET", help=_SELECTOR)
    options = parser.parse_args(arguments)
    import signal

    try:
        number = int(options.signal) if options.signal.isdecimal() else signal.Signals[signal_name(options.signal)]
        name = signal.Signals(number).name
    except ValueError:
        raise UsageError(f"there is no signal '{options.signal}'", where="sendSignal", next="such as SIGUSR2") from None
    count = ask("signal", selectors=find_selectors(options.targets), number=int(number))["count"]
    if not count:
        raise PercoreError(f"none of its processes runs, so {name} was not sent", where="sendSignal")
    say(f"{name} was sent to {count} {'process' if count == 1 else 'processes'}")
    return 0


def show_list() -> int:
    """Every change ends with it."""
    from percore.supervisor.commands.list import print_after_change

    if not is_silent():
        print_after_change()
    return 0


def kill_daemon(_: list[str]) -> int:
    running = ask_or_nothing("ping")
    try:
        ask("kill", show_progress)
    except NoDaemon:
        say("no supervisor runs")
        return 0
    wait_until_gone(Home.of_user(), running["pid"] if running else 0)
    say("all apps and the supervisor are stopped")
    return 0


def ping(_: list[str]) -> int:
    ensure_daemon(Home.of_user())
    print(f"pong from pid {ask('ping')['pid']}")
    return 0
