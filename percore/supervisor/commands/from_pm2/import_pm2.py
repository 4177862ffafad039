"""`percore import-pm2`: the apps of a running PM2 become a process file, and are taken over one after the other.

Both cannot hold one port, and nothing must run twice: an app is stopped in PM2 right before percore starts it, and started there
again where percore's start fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import NamedTuple

from percore.common.app_names import full_name
from percore.common.cpus import usable_cores
from percore.common.files import write_file
from percore.common.procfs import LISTEN, net_sockets, sockets_of
from percore.errors import PercoreError, UsageError
from percore.supervisor.base.home import Home
from percore.supervisor.client import ask, ensure_daemon, select_workers
from percore.supervisor.commands.arguments import make_parser
from percore.supervisor.commands.from_pm2.apps import Ported, PortedApp, port_apps
from percore.supervisor.commands.from_pm2.boot import deploy_notes, startup_notes, text_of
from percore.supervisor.commands.from_pm2.program import Pm2, find_pm2
from percore.supervisor.commands.lifecycle import show_list
from percore.supervisor.commands.output import say, show_progress, warn
from percore.supervisor.commands.targets import load_apps, refuse_missing_scripts, shell_environment
from percore.supervisor.config.app import AppConfig

_FILE = "pm2-import.json"
_PORT_SECONDS = 2.0


class Takeover(NamedTuple):
    pm2: Pm2
    is_running: bool
    file: str
    apps: tuple[PortedApp, ...]  # those that are started here
    configs: dict[str, AppConfig]


def import_apps(arguments: list[str]) -> int:
    parser = make_parser("import-pm2")
    parser.add_argument("--dry-run", action="store_true", help="show what would be done; write and stop nothing")
    parser.add_argument("--output", metavar="FILE", default=_FILE, help=f"the process file to write ({_FILE})")
    parser.add_argument("--pm2", metavar="PATH", default="", help="PM2's command, where it is not in PATH")
    parser.add_argument("--pm2-home", metavar="DIRECTORY", default="", help="PM2's directory ($PM2_HOME or ~/.pm2)")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    options = parser.parse_args(arguments)
    pm2 = find_pm2(options.pm2_home, options.pm2)
    refuse_shared_home(pm2)
    is_running = bool(pm2.pid)
    ported = port_apps(pm2.listed() if is_running else pm2.dumped(), shell_environment(), usable_cores())
    if not ported.apps:
        raise PercoreError("PM2 has no apps", where=pm2.home)
    path = os.path.abspath(options.output)
    explain(pm2, ported, path, is_running=is_running)
    if options.dry_run:
        say("nothing was written or stopped (--dry-run)")
        return 0
    text = json.dumps({"apps": [app.written for app in ported.apps]}, indent=2) + "\n"
    refuse_other_file(path, text)
    takeover = plan(pm2, ported, path, text, is_running=is_running)
    if not options.yes and not is_confirmed():
        return 1
    write_process_file(path, text)
    return take_over(takeover)


def refuse_shared_home(pm2: Pm2) -> None:
    if os.path.realpath(Home.of_user().path) == os.path.realpath(pm2.home):
        raise UsageError(
            "percore and PM2 would share this directory, as PM2_HOME is set",
            where=pm2.home,
            next="PERCORE_HOME=~/.percore percore import-pm2",
        )


def refuse_other_file(path: str, text: str) -> None:
    """An import that failed may be repeated."""
    if os.path.lexists(path) and text_of(path) != text:
        raise UsageError("the file already exists", where=path, next="--output FILE")


def is_confirmed() -> bool:
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on", where="import-pm2", next="--yes, or --dry-run")
    print("take them over? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def explain(pm2: Pm2, ported: Ported, path: str, *, is_running: bool) -> None:
    """What will be done. Names of variables, never their values."""
    state = f"runs (pid {pm2.pid})" if is_running else "does not run: its saved list (dump.pm2) counts"
    say(f"PM2 in {pm2.home} {state}")
    for app in ported.apps:
        written = app.written
        down = f"; down until it is ready here, at most {app.kill_seconds:g} s of it to stop" if is_running else ""
        say(
            f"  {app.name}: {written['instances']} x {written['exec_mode']}, {written['script']}{down if app.is_online else ''}"
        )
        if written["env"]:
            say(f"    variables: {', '.join(sorted(written['env']))}")
    say(f"the process file: {path}, readable only by you, as variables may be secret")
    for note in (*ported.notes, *startup_notes(pm2.home), *deploy_notes(app.written["cwd"] for app in ported.apps)):
        say(f"! {note}")


def write_process_file(path: str, text: str) -> None:
    try:
        write_file(path, text.encode(), mode=0o600)
    except OSError as error:
        raise PercoreError(f"it cannot be written: {error.strerror}", where=path, next="--output FILE") from None


def plan(pm2: Pm2, ported: Ported, path: str, text: str, *, is_running: bool) -> Takeover:
    """Everything is read and checked before the first app is stopped."""
    configs = {full_name(app.name, app.namespace): app for app in load_apps(path, None, text=text)[0]}
    wanted = tuple(app for app in ported.apps if app.is_online)
    refuse_missing_scripts([configs[key_of(app)] for app in wanted])
    known = {full_name(worker["name"], worker["namespace"]) for worker in select_workers()}
    for app in wanted:
        if key_of(app) in known:
            warn(f"percore has an app '{app.name}' already: PM2's stays as it is")
    return Takeover(pm2, is_running, path, tuple(app for app in wanted if key_of(app) not in known), configs)


def key_of(app: PortedApp) -> str:
    return full_name(app.name, str(app.written.get("namespace", "default")))


def take_over(takeover: Takeover) -> int:
    ensure_daemon(Home.of_user())
    failed = [app.name for app in takeover.apps if not take_over_app(takeover, app)]
    show_list()
    say(f"the way back: percore delete NAME, then pm2 start {takeover.file} --only NAME")
    if takeover.is_running and not failed:
        say("PM2 runs nothing of it any more -> pm2 save --force, so that it starts nothing at boot; pm2 kill ends it")
    return 1 if failed else 0


def take_over_app(takeover: Takeover, app: PortedApp) -> bool:
    """False where it failed, and runs in PM2 again."""
    began = time.monotonic()
    if takeover.is_running:
        pid = takeover.pm2.pid
        ports = ports_of(pid)
        takeover.pm2.stop(app.ids)
        wait_for_ports(pid, app, ports)
    config = takeover.configs[key_of(app)]
    try:
        ask("start", show_progress, apps=[config.to_record()], env=shell_environment())
    except (PercoreError, KeyboardInterrupt) as error:
        if isinstance(error, PercoreError):
            tell_failure(app, error)
        give_back(takeover, app, config)
        if isinstance(error, KeyboardInterrupt):
            raise
        return False
    if takeover.is_running:
        say(f"{app.name} is taken over; it was down for {time.monotonic() - began:.1f} s")
        takeover.pm2.forget(app.ids)
    return True


def tell_failure(app: PortedApp, error: PercoreError) -> None:
    warn(f"{app.name} could not be started: {error.what}")
    for line in error.detail.splitlines():
        warn(f"  | {line}")


def give_back(takeover: Takeover, app: PortedApp, config: AppConfig) -> None:
    with contextlib.suppress(PercoreError):  # where percore refused it, it is not known
        ask("delete", selectors=[full_name(config.name, config.namespace)])
    if takeover.is_running:
        takeover.pm2.start_again(app.ids)
        warn(f"{app.name} runs in PM2 again")


def ports_of(pid: int) -> set[int]:
    """The ports that PM2's daemon listens on, for the workers of its clusters."""
    inodes = sockets_of(pid)
    return {sock.port for sock in net_sockets("tcp") if sock.state == LISTEN and sock.inode in inodes}


def wait_for_ports(pid: int, app: PortedApp, before: set[int]) -> None:
    """Until PM2's daemon let go of the app's port; where that is not known, of any. Not for ever: apps may share one."""
    port = app.written["env"].get("PORT", "")
    held = before & {int(port)} if port.isdecimal() else before
    deadline = time.monotonic() + _PORT_SECONDS
    while held and held <= ports_of(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
