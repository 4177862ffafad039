"""The commands of `percore`, one line each: its names, where it is done, what it does.

`cli` imports the module of the one command that is asked for and no other: that keeps `jlist` quick. A command is a function
that takes its arguments and returns the exit code.
"""

from __future__ import annotations

from typing import NamedTuple, Optional


class Command(NamedTuple):
    names: str  # the name, then its aliases
    place: str  # module:function
    summary: str


GROUPS: dict[str, tuple[Command, ...]] = {
    "Life": (
        Command("start", "lifecycle:start_apps", "start the apps of a process file, or stopped apps by name"),
        Command("stop", "lifecycle:stop_apps", "stop apps; they stay known"),
        Command("restart", "lifecycle:restart_apps", "stop, then start"),
        Command("reload", "lifecycle:reload_apps", "replace worker by worker: the new one is ready before the old one stops"),
        Command("delete del", "lifecycle:delete_apps", "stop and forget"),
        Command("scale", "lifecycle:scale_app", "change the number of workers"),
        Command("serve expose", "serving:serve_files", "serve the files of a folder, as an app"),
        Command("apply", "applying:apply_file", "make what runs match a file without losing a request; taken back when it fails"),
        Command("update updatePM2", "updating:update_supervisor", "let this percore take over from the running supervisor"),
        Command("kill", "lifecycle:kill_daemon", "stop and forget all apps, and end the supervisor"),
        Command("ping", "lifecycle:ping", "start the supervisor if none runs"),
        Command("runtime", "runtime:run_in_foreground", "run a process file or a script as the program of a container"),
        Command("daemon", "daemon:run_daemon", "run the supervisor in the foreground (for service units)"),
    ),
    "Looking": (
        Command("list ls l ps", "listing:list_apps", "a table of all workers"),
        Command("status", "listing:show_status", "a table of all workers, or JSON"),
        Command("jlist", "pm2json:print_jlist", "PM2's JSON of all workers"),
        Command("describe desc info show", "describing:describe_workers", "everything about the workers of an app"),
        Command("monit dash dashboard imonit", "monitoring:show_monitor", "a live view of all workers, with keys to change them"),
        Command("logs", "logs:show_logs", "the last lines of the logs, then what follows"),
    ),
}  # fmt: skip


def find(name: str) -> Optional[Command]:
    """The command of this name or alias."""
    for commands in GROUPS.values():
        for command in commands:
            if name in command.names.split():
                return command
    return None


def take_none(name: str, arguments: list[str]) -> None:
    """For a command without arguments: only where there are some is a parser needed, to refuse them or to help."""
    if arguments:
        from percore.supervisor.commands.parsing import make_parser

        make_parser(name).parse_args(arguments)
