"""`percore`: the command on a host. Reads arguments, asks the supervisor, prints tables or JSON."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, Optional

from percore.errors import PercoreError, UsageError

if TYPE_CHECKING:
    import argparse

    from percore.supervisor.config import AppConfig

_PROCESS_FILES = (
    "ecosystem.config.js",
    "ecosystem.config.cjs",
    "ecosystem.config.mjs",
    "ecosystem.json",
    "ecosystem.yml",
    "ecosystem.yaml",
)
_PM2_STATES = {"running": "online", "starting": "launching", "stopping": "stopping", "stopped": "stopped",
               "backoff": "waiting restart", "exited": "stopped", "fatal": "errored"}  # fmt: skip
# What a shell carries for itself; it would make each terminal another environment.
_SHELL_ONLY = re.compile(
    r"_|SHLVL|PWD|OLDPWD|TERM.*|COLUMNS|LINES|LS_COLORS|SSH_.*|WINDOWID|PERCORE_.*|PS1|HIST.*|DISPLAY|XDG_SESSION.*|INVOCATION_ID|JOURNAL_STREAM|NOTIFY_SOCKET|LISTEN_.*|VIRTUAL_ENV.*|NODE_CHANNEL_.*|LD_PRELOAD"
)


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["daemon"]:
        from percore.supervisor import daemon

        daemon.main()
        return
    try:
        code = run(arguments)
    except PercoreError as error:
        code = report_error(error)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader (head, grep -q) has enough; Python would complain once more while closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 141
    sys.exit(code)


def report_error(error: PercoreError) -> int:
    if os.environ.get("PERCORE_DEBUG"):
        raise error
    print(f"percore: {error}", file=sys.stderr)
    for line in error.detail.splitlines():
        print(f"  | {line}", file=sys.stderr)
    return error.exit_code


def run(arguments: Sequence[str]) -> int:
    options = make_parser().parse_args(arguments)
    if not hasattr(options, "perform"):
        make_parser().print_help()
        return 2
    return int(options.perform(options) or 0)


def make_parser() -> argparse.ArgumentParser:
    import argparse

    from percore import __version__

    parser = argparse.ArgumentParser(
        prog="percore", description="One worker per core on one shared port, and singletons beside them."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND")

    def command(names: str, perform: Callable[[Any], Optional[int]], summary: str) -> argparse.ArgumentParser:
        name, *aliases = names.split()
        made = commands.add_parser(name, aliases=aliases, help=summary, description=summary)
        made.set_defaults(perform=perform)
        return made

    start = command("start", start_apps, "start the apps of a process file, or stopped apps by name")
    start.add_argument("target", nargs="?", help="process file, name, id, namespace, /regex/ or all")
    start.add_argument("--env", dest="env_name", help="use env_NAME of the process file")
    apply = command(
        "apply", apply_file, "make what runs match a file, without losing a request; taken back when it fails"
    )
    apply.add_argument("file")
    apply.add_argument("--env", dest="env_name")
    apply.add_argument("--release", default="")
    apply.add_argument("--json", action="store_true")
    for name, summary in (
        ("stop", "stop apps; they stay known"),
        ("restart", "stop, then start"),
        ("reload", "replace worker by worker: the new one is ready before the old one stops"),
        ("delete del", "stop and forget"),
    ):
        selected = command(name, change_selected, summary)
        selected.add_argument("selector", help="name, id, namespace, /regex/ or all")
        selected.set_defaults(op=name.split()[0])
    scale = command("scale", scale_app, "change the number of workers")
    scale.add_argument("name")
    scale.add_argument("count", help="a number, +n, or max")
    command("list ls l ps", list_apps, "a table of all workers")
    status = command("status", show_status, "a table of all workers, or JSON")
    status.add_argument("--json", action="store_true")
    command("jlist", print_jlist, "PM2's JSON of all workers")
    describe = command("describe desc info show", describe_workers, "everything about the workers of an app")
    describe.add_argument("selector")
    logs = command("logs", show_logs, "the last lines of the logs, then what follows")
    logs.add_argument("selector", nargs="?", default="all")
    logs.add_argument("--lines", type=int, default=15)
    logs.add_argument("--nostream", action="store_true")
    logs.add_argument("--follow", action="store_true", help="the default; for symmetry with --nostream")
    logs.add_argument("--err", action="store_true")
    logs.add_argument("--out", action="store_true")
    logs.add_argument("--raw", action="store_true")
    logs.add_argument("--json", action="store_true")
    command("kill", kill_daemon, "stop and forget all apps, and end the supervisor")
    command("ping", ping, "start the supervisor if none runs")
    command("daemon", lambda _: None, "run the supervisor in the foreground (for service units)")
    return parser


# -- asking ----------------------------------------------------------------------------------------------------------


def ask(op: str, on_event: Callable[[Mapping[str, Any]], None] = lambda _: None, **arguments: Any) -> dict[str, Any]:
    """The result of one request; raises the error that the supervisor reports."""
    from percore.supervisor.client import request
    from percore.supervisor.home import Home

    result: dict[str, Any] = {}
    for message in request(Home.of_user(), op, **arguments):
        if message["event"] == "result":
            result = message
        else:
            on_event(message)
    if not result["ok"]:
        error = PercoreError(result["error"], detail="\n".join(result.get("log_tail", ())))
        error.exit_code = result["exit_code"]
        error.app = result.get("app", "")
        raise error
    return result


def ask_or_nothing(op: str, **arguments: Any) -> Optional[dict[str, Any]]:
    """As `ask`, but None when no supervisor runs: nothing runs then, which is an answer."""
    from percore.supervisor.client import NoDaemon

    try:
        return ask(op, **arguments)
    except NoDaemon:
        return None


def show_progress(event: Mapping[str, Any]) -> None:
    pid = f" (pid {event['pid']})" if event["pid"] else ""
    trouble = f": {event['failure']}" if event.get("failure") else ""
    print(f"{event['app']} {event['slot']}: {event['state']}{pid}{trouble}", file=sys.stderr)


# -- starting and changing -------------------------------------------------------------------------------------------


def load_apps(path: str, env_name: Optional[str]) -> tuple[list[AppConfig], str]:
    """The apps of a process file or of a release record, and the release's id (empty for a process file)."""
    from percore.supervisor.config import AppConfig

    if os.path.basename(path) == ".percore.json":
        try:
            with open(path, encoding="utf-8") as file:
                record = json.load(file)
            apps = [AppConfig.from_record(app, where=path) for app in record["apps"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"it cannot be read as a release record: {error}", where=path) from None
        # All releases of one place are the same set of apps: what a newer one no longer names goes.
        owner = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(path))))
        return [app._replace(source=owner, release=record["release"]) for app in apps], record["release"]
    from percore.supervisor.ecosystem import load_process_file

    loaded = load_process_file(path, env_name=env_name)
    for warning in loaded.warnings:
        print(f"percore: {warning}", file=sys.stderr)
    return [app._replace(source=os.path.abspath(path)) for app in loaded.apps], ""


def shell_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not _SHELL_ONLY.fullmatch(name)}


def start_apps(options: Any) -> int:
    from percore.supervisor.client import ensure_daemon
    from percore.supervisor.home import Home

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
    list_apps(options)
    return 0


def find_process_file() -> str:
    for name in _PROCESS_FILES:
        if os.path.isfile(name):
            return name
    raise UsageError(f"there is no process file here ({_PROCESS_FILES[0]})", next="percore start FILE")


def apply_file(options: Any) -> int:
    from percore.supervisor.client import ensure_daemon
    from percore.supervisor.home import Home

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
        from percore.supervisor.protocol import failure

        print_json(failure(error))
        return error.exit_code
    if options.json:
        print_json(result)
    else:
        for change in result["changes"]:
            print(f"{change['app']}: {change['change']}")
    return 0


def change_selected(options: Any) -> int:
    ask(options.op, show_progress, selector=options.selector)
    return list_apps(options)


def scale_app(options: Any) -> int:
    ask("scale", show_progress, name=options.name, count=options.count)
    return list_apps(options)


def kill_daemon(_: Any) -> int:
    from percore.supervisor.client import NoDaemon, wait_until_gone
    from percore.supervisor.home import Home

    try:
        ask("kill", show_progress)
    except NoDaemon:
        print("no supervisor runs")
        return 0
    wait_until_gone(Home.of_user())
    print("all apps and the supervisor are stopped")
    return 0


def ping(_: Any) -> int:
    from percore.supervisor.client import ensure_daemon
    from percore.supervisor.home import Home

    ensure_daemon(Home.of_user())
    print(f"pong from pid {ask('ping')['pid']}")
    return 0


# -- looking ---------------------------------------------------------------------------------------------------------


def show_status(options: Any) -> int:
    if not options.json:
        return list_apps(options)
    result = ask_or_nothing("status") or {"release": None, "apps": [], "daemon": False}
    print(json.dumps({key: value for key, value in result.items() if key not in ("event", "ok")}))
    return 0


def list_apps(_: Any) -> int:
    workers = select_workers()
    rows = [
        [
            str(worker["id"]), worker["name"], worker["mode"], str(worker["pid"] or "-"),
            duration(worker["uptime_seconds"]) if worker["pid"] else "-", str(worker["restarts"]),
            _PM2_STATES[worker["state"]], f"{worker['cpu_percent']:.0f}%", size(worker["memory_bytes"]),
        ]
        for worker in sorted(workers, key=lambda worker: worker["id"])
    ]  # fmt: skip
    print(table(["id", "name", "mode", "pid", "uptime", "↺", "status", "cpu", "mem"], rows))
    for worker in workers:
        if worker["failure"] and worker["wanted"]:
            print(f"{worker['name']} {worker['slot']}: {worker['failure']}")
    return 0


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(heads), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]

    def rule(left: str, middle: str, right: str) -> str:
        return left + middle.join("─" * (width + 2) for width in widths) + right

    def row(cells: Sequence[str]) -> str:
        return "│" + "│".join(f" {cell:<{width}} " for cell, width in zip(cells, widths)) + "│"

    return "\n".join(
        [rule("┌", "┬", "┐"), row(lines[0]), rule("├", "┼", "┤"), *map(row, lines[1:]), rule("└", "┴", "┘")]
    )


def duration(seconds: float) -> str:
    """As PM2 shows it: 5s, 3m, 2h, 4D."""
    for span, unit in ((86400, "D"), (3600, "h"), (60, "m")):
        if seconds >= span:
            return f"{int(seconds // span)}{unit}"
    return f"{int(seconds)}s"


def size(number: int) -> str:
    return f"{number / 1048576:.1f}mb"


def print_jlist(_: Any) -> int:
    sys.stdout.write(json.dumps([pm2_fields(worker) for worker in select_workers()]))
    return 0


def pm2_fields(worker: Mapping[str, Any]) -> dict[str, Any]:
    """One worker as PM2's `jlist` shows it; values of the environment stay where they are."""
    config = worker["config"]
    instance_var = config.get("instance_var", "NODE_APP_INSTANCE")
    return {
        "pid": worker["pid"],
        "name": worker["name"],
        "pm_id": worker["id"],
        "monit": {"memory": worker["memory_bytes"], "cpu": worker["cpu_percent"]},
        "pm2_env": {
            "name": worker["name"], "namespace": worker["namespace"], "pm_id": worker["id"],
            "status": _PM2_STATES[worker["state"]], "restart_time": worker["restarts"], "unstable_restarts": 0,
            "exec_mode": f"{worker['mode']}_mode", "exec_interpreter": config.get("interpreter", "none"),
            "pm_exec_path": os.path.join(worker["cwd"], config["script"]), "pm_cwd": worker["cwd"],
            "args": config.get("args", []), "node_args": config.get("interpreter_args", []),
            "instances": worker["instances"], instance_var: worker["slot"],
            "pm_out_log_path": worker["out_file"], "pm_err_log_path": worker["error_file"],
            "pm_uptime": int(worker["started_time"] * 1000), "created_at": int(worker["started_time"] * 1000),
            "watch": bool(config.get("watch")), "autorestart": config.get("autorestart", True),
            "exit_code": worker["exit_code"], "env": {}, "axm_monitor": {}, "axm_actions": [], "axm_options": {},
        },
    }  # fmt: skip


def select_workers(selector: str = "all") -> list[dict[str, Any]]:
    """The supervisor selects, by the same rules as for `stop`; where none runs, there is nothing to select."""
    answer = ask_or_nothing("describe", selector=selector)
    if answer is None and selector != "all":
        raise UsageError(f"no app, id or namespace is called '{selector}'", next="see 'percore list'")
    return answer["workers"] if answer else []


def describe_workers(options: Any) -> int:
    for worker in select_workers(options.selector):
        config = worker["config"]
        rows = [
            ("status", _PM2_STATES[worker["state"]] + (f" ({worker['failure']})" if worker["failure"] else "")),
            ("name", worker["name"]), ("namespace", worker["namespace"]), ("mode", worker["mode"]),
            ("pid", str(worker["pid"] or "-")), ("release", worker["release"] or "-"), ("restarts", str(worker["restarts"])),
            ("last end", worker["last_end"] or "-"), ("uptime", duration(worker["uptime_seconds"])),
            ("script", config["script"]), ("args", " ".join(config.get("args", [])) or "-"),
            ("interpreter", " ".join([config.get("interpreter", "none"), *config.get("interpreter_args", [])])),
            ("cwd", worker["cwd"]), ("listens on", ", ".join(worker["addresses"]) or "-"),
            ("port sharing", worker["sharing"]), ("out log", worker["out_file"]), ("error log", worker["error_file"]),
            ("memory", size(worker["memory_bytes"])), ("cpu", f"{worker['cpu_percent']:.1f}%"),
            ("environment", ", ".join(config["env"]) or "-"),
        ]  # fmt: skip
        print(f"worker {worker['id']} of {worker['name']}, slot {worker['slot']}")
        print(table(["key", "value"], rows))
    return 0


# -- logs ------------------------------------------------------------------------------------------------------------


def show_logs(options: Any) -> int:
    """Prints the last lines of each file, then follows all of them until Ctrl-C."""
    from percore.supervisor.logs import last_lines, size_of

    files: dict[str, tuple[dict[str, Any], str]] = {}
    for worker in select_workers(options.selector):
        for stream, wanted in (("out", options.out or not options.err), ("err", options.err or not options.out)):
            path = worker["out_file" if stream == "out" else "error_file"]
            if wanted and path != os.devnull:
                files.setdefault(path, (worker, stream))
    offsets = {}
    for path, (worker, stream) in files.items():
        offsets[path] = size_of(path)
        for line in last_lines(path, options.lines, until=offsets[path]):
            print_log_line(options, worker, stream, line)
    sys.stdout.flush()
    while not options.nostream:
        for path, (worker, stream) in files.items():
            offsets[path], lines = read_new_lines(path, offsets[path])
            for line in lines:
                print_log_line(options, worker, stream, line)
        sys.stdout.flush()
        time.sleep(0.2)
    return 0


def read_new_lines(path: str, offset: int) -> tuple[int, list[str]]:
    """Whole lines after byte `offset`, and where to go on. A file that became shorter was emptied."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            offset = offset if offset <= end else 0
            file.seek(offset)
            whole, newline, _ = file.read().rpartition(b"\n")
    except FileNotFoundError:
        return 0, []
    return offset + len(whole) + len(newline), [line.decode(errors="replace") for line in whole.splitlines()]


def print_log_line(options: Any, worker: Mapping[str, Any], stream: str, line: str) -> None:
    if options.json:
        print(json.dumps({"message": line, "type": stream, "process_id": worker["id"], "app_name": worker["name"]}))
    elif options.raw:
        print(line)
    else:
        print(f"{worker['id']}|{worker['name']} | {line}")


if __name__ == "__main__":
    main()
