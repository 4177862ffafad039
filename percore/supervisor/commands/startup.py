"""`percore startup`: systemd starts the supervisor at boot, and again whenever it dies. `unstartup` ends that.

`percore daemon` is what other service managers run. It stays in the supervisor's memory, so what only the others need is
imported by them.
"""

from __future__ import annotations

import os
import sys

from percore.common.files import write_file
from percore.common.typing import Any
from percore.errors import PercoreError, UsageError
from percore.supervisor.base.home import Home

_UNITS = "/etc/systemd/system"
_MARK = "# Made by: percore startup"


def run_daemon(_: list[str]) -> int:
    from percore.supervisor import daemon

    daemon.main()
    return 0


def add_startup(arguments: list[str]) -> int:
    from percore.supervisor.base.program import this_program
    from percore.supervisor.base.systemd_unit import command_line, make_unit
    from percore.supervisor.commands.output import say

    options = parse("startup", arguments)
    if os.geteuid() != 0:
        return ask_for_root("startup", options)
    home = home_of(options)
    refuse_without_systemd()
    unit = f"{options.service_name or default_name(options.user)}.service"
    refuse_foreign_unit(unit)
    command = command_line(this_program().argv())
    values = {"percore_user": options.user, "percore_home": home.path, "daemon_command": command, "unit_options": _MARK}
    write_file(f"{_UNITS}/{unit}", make_unit(values).encode(), mode=0o644)
    systemctl("daemon-reload")
    systemctl("enable", unit)
    start_unit(home, unit)
    say(f"{unit} is enabled and runs the supervisor of {home.path}; running apps are started again after a reboot")
    return 0


def refuse_foreign_unit(unit: str) -> None:
    try:
        with open(f"{_UNITS}/{unit}", encoding="utf-8") as file:
            is_ours = _MARK in file.read()
    except FileNotFoundError:
        return
    if not is_ours:
        raise PercoreError(
            "this unit was not written by percore startup and is left unchanged",
            where=f"{_UNITS}/{unit}",
            next="--service-name NAME; after a deploy, on the control machine: invoke startup",
        )


def remove_startup(arguments: list[str]) -> int:
    from percore.supervisor.commands.output import say

    options = parse("unstartup", arguments)
    if os.geteuid() != 0:
        return ask_for_root("unstartup", options)
    refuse_without_systemd()
    unit = f"{options.service_name or default_name(options.user)}.service"
    if not os.path.exists(f"{_UNITS}/{unit}"):
        raise PercoreError("there is no such unit", where=f"{_UNITS}/{unit}", next="percore startup")
    refuse_foreign_unit(unit)
    # The running supervisor stays: this is about the next boot. Stopping the unit would stop the apps.
    systemctl("disable", unit)
    os.unlink(f"{_UNITS}/{unit}")
    systemctl("daemon-reload")
    say(f"{unit} is removed; the running supervisor keeps running until percore kill")
    return 0


def parse(name: str, arguments: list[str]) -> Any:
    import pwd

    from percore.supervisor.commands.arguments import make_parser

    parser = make_parser(name)
    parser.add_argument(
        "platform", metavar="systemd", nargs="?", default="systemd", help="the only supported service manager"
    )
    parser.add_argument("-u", "--user", default=pwd.getpwuid(os.geteuid()).pw_name, help="user of the supervisor")
    parser.add_argument("--hp", metavar="DIRECTORY", help="home of that user; otherwise as in the password file")
    parser.add_argument("--service-name", metavar="NAME", help="the unit's name; otherwise percore, or percore-USER")
    parser.add_argument("--wait-ip", action="store_true", help="accepted; the unit always waits for the network")
    options = parser.parse_args(arguments)
    if options.platform != "systemd":
        raise UsageError(
            f"'{options.platform}' is not supported, only systemd",
            where=name,
            next="let your init run: percore daemon; in a container: percore runtime FILE",
        )
    if options.service_name and not all(letter.isalnum() or letter in "-_.@" for letter in options.service_name):
        raise UsageError(f"'{options.service_name}' is not a valid name of a unit", where=name)
    return options


def home_of(options: Any) -> Home:
    """Of the user that the supervisor is to run as."""
    import pwd

    try:
        entry = pwd.getpwnam(options.user)
    except KeyError:
        raise UsageError(f"there is no user '{options.user}' on this host", where="startup") from None
    if os.environ.get("PERCORE_HOME") or (entry.pw_uid == os.geteuid() and not options.hp):
        return Home.of_user()
    return Home(os.path.join(os.path.abspath(options.hp or entry.pw_dir), ".percore"))


def default_name(user: str) -> str:
    return "percore" if user == "root" else f"percore-{user}"


def ask_for_root(name: str, options: Any) -> int:
    import pwd
    import shlex

    from percore.supervisor.commands.output import say

    say("only root can change what starts at boot; run this command:")
    home = f"PERCORE_HOME={home_of(options).path}"  # sudo keeps few variables
    words = ["env", home, *this_command(), name, "systemd", "-u", options.user]
    words += ["--hp", options.hp or pwd.getpwnam(options.user).pw_dir]
    words += ["--service-name", options.service_name] if options.service_name else []
    print(f"sudo {shlex.join(words)}")
    return 1


def this_command() -> list[str]:
    """What starts this very percore: sudo's PATH may know none, or another."""
    path = os.path.abspath(sys.argv[0])
    if os.path.isdir(path):
        return [sys.executable, "-I", "-S", path]
    return [path] if os.access(path, os.X_OK) else [sys.executable, "-m", "percore.supervisor.cli"]


def refuse_without_systemd() -> None:
    if not os.path.isdir("/run/systemd/system"):
        raise PercoreError(
            "systemd does not run on this host",
            next="let your init run: percore daemon; in a container: percore runtime FILE",
        )


def systemctl(*arguments: str) -> None:
    import subprocess

    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[0]
        raise PercoreError(f"systemctl {' '.join(arguments)} failed: {said}", next=f"journalctl -u {arguments[-1]}")


def start_unit(home: Home, unit: str) -> None:
    """A supervisor that runs already hands over to systemd's, which adopts the workers."""
    from percore.supervisor.client import NoDaemon, request

    systemctl("start", unit)
    try:
        list(request(home, "ping"))
    except NoDaemon:
        raise PercoreError(
            "the unit is enabled, but its supervisor does not answer", next=f"journalctl -u {unit}"
        ) from None
