"""`percore save`, `resurrect`, `cleardump`. Apps are started after a reboot without them; they keep a separate list."""

from __future__ import annotations

from percore.errors import PercoreError
from percore.supervisor.base.home import Home
from percore.supervisor.client import NoDaemon, ask, ensure_daemon
from percore.supervisor.commands.lifecycle import show_list
from percore.supervisor.commands.output import say, show_progress
from percore.supervisor.state.state_file import StateFile


def save_apps(arguments: list[str]) -> int:
    from percore.supervisor.commands.arguments import make_parser

    parser = make_parser("save")
    parser.add_argument("-f", "--force", action="store_true", help="even when there is no app")
    options = parser.parse_args(arguments)
    home = Home.of_user()
    try:
        count = ask("dump", force=options.force)["apps"]
    except NoDaemon:
        raise PercoreError("no supervisor runs, so there are no apps to save", where=home.path) from None
    say(f"{count} {'app is' if count == 1 else 'apps are'} saved in {home.dump}")
    return 0


def resurrect_apps(_: list[str]) -> int:
    home = Home.of_user()
    if not StateFile(home.dump).exists():
        raise PercoreError("there is no saved list", where=home.dump, next="percore save")
    ensure_daemon(home)
    ask("resurrect", show_progress)
    return show_list()


def clear_dump(_: list[str]) -> int:
    StateFile(Home.of_user().dump).remove()
    say("the saved list is deleted")
    return 0
