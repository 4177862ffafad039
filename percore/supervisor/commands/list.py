"""`percore list` and `percore status`: a table as wide as the terminal allows."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence

from percore.common.printable import printable
from percore.common.typing import Any, Callable, Optional
from percore.common.worker_status import is_job, shortage_of
from percore.errors import UsageError, nearest
from percore.supervisor.base.home import Home
from percore.supervisor.client import ask, ask_or_nothing, is_running, select_workers, was_running
from percore.supervisor.commands.output import colour, duration, size, table, table_width, terminal_width, warn
from percore.supervisor.commands.pm2_json import app_version, shown_state, user_name, watched
from percore.supervisor.commands.version import warn_of_difference

Worker = Mapping[str, Any]

_COLUMNS: dict[str, Callable[[Worker], str]] = {
    "id": lambda worker: str(worker["id"]),
    "name": lambda worker: str(worker["name"]),
    "namespace": lambda worker: str(worker["namespace"]),
    "version": lambda worker: app_version(worker) or "N/A",
    "mode": lambda worker: str(worker["mode"]),
    "pid": lambda worker: str(worker["pid"] or "N/A"),
    "uptime": lambda worker: duration(worker["uptime_seconds"]) if worker["pid"] else "0",
    "↺": lambda worker: str(worker["restarts"]),
    "status": shown_state,
    "cpu": lambda worker: f"{worker['cpu_percent']:.0f}%",
    "mem": lambda worker: size(worker["memory_bytes"]),
    "user": lambda worker: user_name(worker["config"].get("user")),
    "watching": lambda worker: "enabled" if watched(worker["config"].get("watch"), worker["cwd"]) else "disabled",
}
_CONDENSED = ("id", "name", "mode", "↺", "status", "cpu", "mem")
_ORDERS: dict[str, Callable[[Worker], Any]] = {
    "id": lambda worker: worker["id"], "name": lambda worker: worker["name"], "namespace": lambda worker: worker["namespace"],
    "pid": lambda worker: worker["pid"], "cpu": lambda worker: worker["cpu_percent"],
    "memory": lambda worker: worker["memory_bytes"], "uptime": lambda worker: worker["uptime_seconds"],
    "status": shown_state, "restarts": lambda worker: worker["restarts"],
}  # fmt: skip
_COLOURS = {"online": "green", "launching": "yellow", "stopping": "yellow", "waiting restart": "yellow"}
_REDRAW_SECONDS = 1.0
_NO_SUPERVISOR = "no supervisor runs -> percore ping starts one, which restores the apps of the last one"


def show_status(arguments: list[str]) -> int:
    if "--json" not in arguments:
        return list_apps(arguments, "status")
    result = ask_or_nothing("status") or {"release": None, "apps": [], "daemon": False, "version": None}
    print(json.dumps({key: value for key, value in result.items() if key not in ("event", "ok")}), flush=True)
    warn_of_difference()
    return 0


def tell_ready(arguments: list[str]) -> int:
    """Of the apps that are named, or of all; one that was meant to end and did so is ready."""
    from percore.supervisor.commands.arguments import make_parser

    parser = make_parser("ready", usage="percore ready [NAME ...] [--wait-for HOST:PORT]")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these apps")
    parser.add_argument("--wait-for", metavar="HOST:PORT", action="append", help="wait until this accepts a connection")
    options = parser.parse_args(arguments)
    names = options.names
    if options.wait_for:
        wait_for_addresses(options.wait_for)
        return 0
    found = ask_or_nothing("status")
    apps = [app for app in (found or {"apps": []})["apps"] if not names or app["name"] in names]
    unknown = sorted({*names} - {app["name"] for app in apps})
    faults = [fault for app in apps if not is_job(app) and (fault := shortage_of(app))]
    faults += [f"{name}: there is no such app" for name in unknown] or ([] if apps else ["no app runs"])
    print("\n".join(map(printable, faults)) or "ready")
    return 1 if faults else 0


def wait_for_addresses(addresses: Sequence[str]) -> None:
    """However long it takes: who called it has a limit of his own."""
    import socket

    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise UsageError(f"--wait-for must be HOST:PORT, not '{address}'", where="ready")
        print(f"waiting for {printable(address)}", flush=True)
        while True:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=_REDRAW_SECONDS):
                break
            time.sleep(_REDRAW_SECONDS)


def list_apps(arguments: list[str], name: str = "list") -> int:
    if not arguments:
        print_list()
        return 0
    from percore.supervisor.commands.arguments import make_parser

    parser = make_parser(name)
    parser.add_argument("-m", "--mini-list", action="store_true", help="a few lines for each worker instead of a table")
    parser.add_argument("--sort", metavar="FIELD[:desc]", default="id", help=", ".join(_ORDERS))
    parser.add_argument("--watch", action="store_true", help="refresh it continuously")
    if name == "status":
        parser.add_argument("--json", action="store_true", help="print what the supervisor knows, as JSON")
    options = parser.parse_args(arguments)
    order_by(options.sort, [])
    while True:
        if options.watch and sys.stdout.isatty():
            sys.stdout.write("\033[H\033[2J")
        print_list(is_mini=options.mini_list, sort=options.sort)
        if not options.watch:
            return 0
        sys.stdout.flush()
        time.sleep(_REDRAW_SECONDS)


def show_jobs(arguments: list[str]) -> int:
    """Of the jobs that are named, or of one that failed, also the last lines."""
    from percore.supervisor.commands.arguments import make_parser

    parser = make_parser("jobs")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these jobs, with their last lines")
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    parser.add_argument("--run", action="store_true", help="run these jobs now")
    options = parser.parse_args(arguments)
    if options.run:
        if not options.names:
            raise UsageError("no job is named", next="percore jobs NAME --run")
        ask("run_job", selectors=options.names)
    answer = ask_or_nothing("jobs", selectors=options.names) or {"jobs": []}
    if options.json:
        print(json.dumps(answer["jobs"]))
        return 0
    if not answer["jobs"] and has_left_apps(Home.of_user()):
        warn(_NO_SUPERVISOR)
    print(table(_JOB_HEADS, [job_row(job) for job in answer["jobs"]]) if answer["jobs"] else "there are no jobs")
    for job in answer["jobs"]:
        last = job["last"] or {}
        for line in last.get("lines", []) if options.names or last.get("failed") else ():
            print(printable(f"{job['name']} | {line}"))
    return 0


def job_row(job: Worker) -> list[str]:
    last = job["last"] or {}
    zone = f" {job['timezone']}" if job["timezone"] else ""
    took = "" if last.get("seconds") is None else f"{last['seconds']:.1f} s"
    running = f"since {moment(job['running_since'])}" if job["running_since"] else "no"
    ended = moment(last["started"]) if last else "never"
    return [job["name"], job["cron"] + zone, moment(job["next"]), running, ended, took, how_ended(last)]


def moment(seconds: Optional[float]) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "-"


def how_ended(last: Worker) -> str:
    if not last:
        return "-"
    return ("failed: " if last["failed"] else "") + str(last["end"] or "-")


_JOB_HEADS = ("job", "times", "next", "runs", "last", "took", "ended")


def print_after_change() -> None:
    """A table on a terminal; scripts get plain lines."""
    print_list(is_mini=not sys.stdout.isatty())


def print_list(*, is_mini: bool = False, sort: str = "id") -> None:
    workers = order_by(sort, select_workers())
    print(plain_text(workers) if is_mini else widest_table(workers))
    if not workers and has_left_apps(Home.of_user()):
        warn(_NO_SUPERVISOR)
    if sys.stdout.isatty():
        print(colour(host_line(), "dim"))
    warn_of_difference()
    for worker in workers:
        if worker["failure"] and worker["wanted"]:
            print(printable(f"{worker['name']} {worker['slot']}: {worker['failure']}"))


def host_line() -> str:
    """Read from /proc by hand: psutil takes longer to load than the rest of this command."""
    with open("/proc/meminfo", encoding="utf-8") as file:
        sizes = {key: int(rest.split()[0]) << 10 for key, _, rest in (line.partition(":") for line in file)}
    memory, disk = sizes["MemTotal"], os.statvfs("/")
    load = " ".join(f"{number:.2f}" for number in os.getloadavg())
    return (
        f"host: load {load} on {os.cpu_count()} cores, "
        f"memory {100 * (memory - sizes['MemAvailable']) / memory:.0f}% of {memory / 2**30:.1f}gb used, "
        f"disk {100 * (1 - disk.f_bavail / (disk.f_blocks or 1)):.0f}% of "
        f"{disk.f_blocks * disk.f_frsize / 2**30:.0f}gb used"
    )


def has_left_apps(home: Home) -> bool:
    """True when no supervisor runs although there are apps."""
    if is_running(home) or not was_running(home):
        return False
    from percore.supervisor.state.state_file import StateFile

    try:
        return bool(StateFile(home.state).read()["apps"])
    except (OSError, ValueError):
        return True  # the next supervisor reports what is wrong with it


def order_by(sort: str, workers: Sequence[Worker]) -> list[Worker]:
    field, _, direction = sort.partition(":")
    if field not in _ORDERS or direction not in ("", "asc", "desc"):
        like = nearest(field, list(_ORDERS))
        hint = f"did you mean '{like}'?" if like and like != field else f"one of {', '.join(_ORDERS)}, with :desc"
        raise UsageError(f"the list cannot be sorted by '{sort}'", where="list", next=hint)
    return sorted(workers, key=_ORDERS[field], reverse=direction == "desc")


def widest_table(workers: Sequence[Worker]) -> str:
    """The full table, one of fewer columns, or plain text: the first that fits."""
    limit = terminal_width()
    for columns in (tuple(_COLUMNS), _CONDENSED):
        rows = [[_COLUMNS[column](worker) for column in columns] for worker in workers]
        if table_width([columns, *rows]) <= limit:
            return table(columns, rows, [colours_of(worker, columns) for worker in workers])
    return plain_text(workers)


def colours_of(worker: Worker, columns: Sequence[str]) -> list[str]:
    status = _COLOURS.get(shown_state(worker), "red")
    return [{"id": "cyan", "name": "bold", "status": status}.get(column, "") for column in columns]


def plain_text(workers: Sequence[Worker]) -> str:
    """PM2's mini list, for narrow terminals and for scripts."""
    return "\n".join(
        f"+--- {printable(worker['name'])}\n"
        f"namespace : {worker['namespace']}\nversion : {printable(app_version(worker) or 'N/A')}\n"
        f"pid : {worker['pid'] or 'N/A'}\n"
        f"pm2 id : {worker['id']}\nstatus : {shown_state(worker)}\nmode : {worker['mode']}\n"
        f"restarted : {worker['restarts']}\nuptime : {_COLUMNS['uptime'](worker)}\n"
        f"memory usage : {size(worker['memory_bytes'])}\nerror log : {worker['error_file']}\n"
        f"watching : {'yes' if worker['config'].get('watch') else 'no'}"
        for worker in workers
    )
