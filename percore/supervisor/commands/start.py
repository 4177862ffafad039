"""`percore start`: scripts, command lines, process files, and apps that are known."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Union

from percore.common.app_names import full_name, selector_of
from percore.common.cpus import usable_cores
from percore.errors import PercoreError, UsageError, nearest
from percore.supervisor.base.home import Home
from percore.supervisor.client import ask, ensure_daemon, is_known, is_running, select_workers, was_running
from percore.supervisor.commands.app_options import (
    add_app_options,
    add_replace_option,
    changed_fields,
    join_codes,
    written_keys,
)
from percore.supervisor.commands.arguments import Parser, make_parser
from percore.supervisor.commands.lifecycle import kill_daemon, show_list
from percore.supervisor.commands.output import show_progress
from percore.supervisor.commands.targets import (
    environment_for,
    find_process_file,
    has_script,
    is_file,
    load_files,
    make_script_app,
    refuse_missing_scripts,
    shell_environment,
)
from percore.supervisor.config.app import AppConfig, resolve_instances
from percore.supervisor.config.options import option_of

Worker = Mapping[str, Any]

_TARGET = (
    "script, command line in quotes, process file, - (one on stdin), name, id, namespace, /regex/ or all; "
    "without any: the process file in this directory"
)


class Order(NamedTuple):
    """One request to the supervisor."""

    op: str
    arguments: dict[str, Any]


def make_start_parser() -> Parser:
    parser = make_parser("start", usage="percore start [TARGET ...] [options] [-- ARGUMENTS]", hands_on=True)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=_TARGET)
    add_selection_options(parser)
    parser.add_argument(
        "-f", "--force", action="store_true", help="start another copy of a script that is already running"
    )
    parser.add_argument("--attach", action="store_true", help="show the logs afterwards")
    add_foreground_option(parser)
    add_app_options(parser)
    return parser


def add_foreground_option(parser: Parser) -> None:
    parser.add_argument(
        "--no-daemon", action="store_true", help="show the logs; stop everything when this command ends"
    )


def add_selection_options(parser: Parser) -> None:
    parser.add_argument("--env", dest="env_name", metavar="NAME", help="use env_NAME of the process file")
    parser.add_argument("--only", metavar="A,B", help="only these apps of the process file")
    parser.add_argument("-a", "--update-env", action="store_true", help="use the variables of this shell")
    parser.add_argument("--parallel", metavar="N", help="accepted; apps are always handled in parallel")
    add_replace_option(parser)


def start_apps(arguments: list[str]) -> int:
    options = make_start_parser().parse_args(join_codes(arguments))
    written = written_keys(options, "start")
    if options.rest:
        written["args"] = list(options.rest)
    targets = list(options.targets)
    if not targets and isinstance(written.get("watch"), list):  # `start --watch app.js`
        targets, written["watch"] = written["watch"], True
    if options.no_daemon:
        refuse_running_daemon()
    if was_running(Home.of_user()):
        ensure_daemon(Home.of_user())  # its apps are known then
    orders = plan_orders(targets or [find_process_file()], options, written)
    ensure_daemon(Home.of_user())
    started = [ask(order.op, show_progress, **order.arguments) for order in orders]
    show_list()
    if options.attach or options.no_daemon:
        follow_logs(ends_all=options.no_daemon)
    return 0 if started else 1


def refuse_running_daemon() -> None:
    """Raises PercoreError where `--no-daemon` would end what somebody else started."""
    if is_running(Home.of_user()):
        raise PercoreError("a supervisor is already running", next="percore kill")


def follow_logs(*, ends_all: bool) -> None:
    from percore.supervisor.commands.logs import show_logs

    if not ends_all:
        show_logs(["all"])
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        show_logs(["all"])
    finally:
        kill_daemon([])


def plan_orders(targets: Sequence[str], options: Any, written: Mapping[str, Any]) -> list[Order]:
    """What to ask for; every error in any target is reported before the first request."""
    apps = load_files(targets, options.env_name, options.only, written)
    refuse_missing_scripts(apps)
    workers = select_workers(with_env=True)
    others = [target for target in targets if not is_file(target)]
    selectors = [target for target in others if is_known(target, workers)]
    scripts = [target for target in others if target not in selectors]
    if written.get("name") and len(scripts) > 1:
        raise UsageError("several scripts cannot have one name", where="start", next="start them one at a time")
    orders = []
    for script in scripts:
        app = make_script_app(script, written)
        refuse_what_is_not_there(app, script, workers)
        wish = settle_script(app, written, workers, is_forced=options.force)
        if isinstance(wish, Order):
            orders.append(wish)
        else:
            apps.append(wish)
    if apps:
        asked = {"apps": [app.to_record() for app in apps], "env": shell_environment(), "replaces": options.replace}
        orders.append(Order("start", asked))
    if selectors:
        orders.append(order_for_known(selectors, options, written))
    return orders


def refuse_what_is_not_there(app: AppConfig, target: str, workers: Sequence[Worker]) -> None:
    if has_script(app):
        return
    like = nearest(target, [worker["name"] for worker in workers])
    raise UsageError(
        f"there is no script, program or app called '{target}'",
        next=f"did you mean '{like}'?" if like else "see 'percore list'",
    )


def settle_script(
    app: AppConfig, written: Mapping[str, Any], workers: Sequence[Worker], *, is_forced: bool
) -> Union[AppConfig, Order]:
    """A new app, or what is asked of one that is known: a stopped one starts again, of a running one -f makes another copy."""
    full = full_name(app.name, app.namespace)
    same = [worker for worker in workers if full_name(worker["name"], worker["namespace"]) == full]
    if not same:
        return app
    selector = selector_of(same[0], workers)
    known = AppConfig.from_record(same[0]["config"], keeps_unknown=True)
    if program_of(known) != program_of(app):
        if is_forced:
            return app._replace(name=free_name(app.name, workers))
        raise PercoreError(
            f"an app called '{app.name}' is already running another program ({' '.join(program_of(known))})",
            next="give this one another name or namespace: -n NAME, --namespace NAME",
        )
    if any(worker["wanted"] for worker in same):
        if not is_forced:
            raise PercoreError(
                f"'{app.name}' is already running", next=f"percore restart {selector}, or -f for another copy"
            )
        if set(written) <= {"name", "instances"}:
            return Order("scale", {"name": selector, "count": f"+{resolve_instances(app.instances, usable_cores())}"})
        return app._replace(name=free_name(app.name, workers))
    changes = changed_fields(
        {key: value for key, value in written.items() if key not in ("name", "instances")}, same[0], "start"
    )
    return Order("restart", {"selectors": [selector], "changes": changes, "base_env": shell_environment()})


def program_of(app: AppConfig) -> tuple[str, ...]:
    """What makes two apps the same: the script, or the command line."""
    path = os.path.join(app.cwd, app.script)
    return (os.path.realpath(path),) if os.path.isfile(path) else (app.script, *app.args[:1])


def free_name(name: str, workers: Sequence[Worker]) -> str:
    taken = {worker["name"] for worker in workers}
    return next(other for number in range(1, len(taken) + 2) if (other := f"{name}-{number}") not in taken)


def order_for_known(selectors: Sequence[str], options: Any, written: Mapping[str, Any]) -> Order:
    if not written and not options.update_env:
        return Order("start_selected", {"selectors": selectors})
    if "instances" in written:
        raise UsageError(f"{option_of('instances')} cannot be changed for an existing app", next="percore scale NAME N")
    chosen = select_workers(*selectors)
    changes = changed_fields(written, chosen[0], "start") if chosen else {}
    env = environment_for(selectors) if options.update_env else None
    return Order("restart", {"selectors": selectors, "changes": changes, "base_env": env})
