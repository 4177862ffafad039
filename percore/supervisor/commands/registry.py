"""The commands of `percore`, one line each: its names, where it is done, what it does.

`cli` imports the module of the one command that is asked for and no other: that keeps `jlist` quick. A command is a function
that takes its arguments and returns the exit code.
"""

from __future__ import annotations

from percore.common.typing import NamedTuple, Optional


class Command(NamedTuple):
    names: str  # the name, then its aliases
    place: str  # module:function
    summary: str


GROUPS: dict[str, tuple[Command, ...]] = {
    "Life": (
        Command("start", "start:start_apps", "start a script, a command line, a process file, or what is stopped"),
        Command("stop", "lifecycle:stop_apps", "stop apps; they stay known"),
        Command("restart", "lifecycle:restart_apps", "stop, then start"),
        Command("reload gracefulReload", "lifecycle:reload_apps", "replace worker by worker: the new one is ready first"),
        Command("delete del", "lifecycle:delete_apps", "stop and forget"),
        Command("startOrRestart", "lifecycle:start_or_restart", "restart the apps of a process file, and start the missing ones"),
        Command("startOrReload startOrGracefulReload", "lifecycle:start_or_reload", "the same, without losing a request"),
        Command("scale", "lifecycle:scale_app", "change the number of workers"),
        Command("serve expose", "serve:serve_files", "serve the files of a folder, as an app"),
        Command("reset", "lifecycle:reset_counters", "count restarts from zero again"),
        Command("sendSignal", "lifecycle:send_signal", "send a signal to the main processes"),
        Command("send", "attach:send_line", "write a line to the standard input of a fork worker"),
        Command("attach", "attach:attach", "type into a fork worker, and see what it writes"),
        Command("apply", "apply:apply_file", "make what runs match a file without losing a request; taken back when it fails"),
        Command("update updatePM2", "update:update_supervisor", "let this percore take over from the running supervisor"),
        Command("kill", "lifecycle:kill_daemon", "stop and forget all apps, and end the supervisor"),
        Command("ping", "lifecycle:ping", "start the supervisor if none runs"),
        Command("runtime", "runtime:run_in_foreground", "run a process file or a script as the program of a container"),
        Command("daemon", "daemon:run_daemon", "run the supervisor in the foreground (for service units)"),
    ),
    "Boot": (
        Command("save dump", "save:save_apps", "write down which apps there are, for resurrect"),
        Command("resurrect", "save:resurrect_apps", "start what was saved and is not known any more"),
        Command("cleardump", "save:clear_dump", "forget what was saved"),
        Command("startup", "startup:add_startup", "let systemd start the supervisor at boot"),
        Command("unstartup", "startup:remove_startup", "take that back"),
    ),
    "Looking": (
        Command("list ls l ps", "list:list_apps", "a table of all workers"),
        Command("status", "list:show_status", "a table of all workers, or JSON with --json"),
        Command("jlist", "pm2_json:print_jlist", "PM2's JSON of all workers"),
        Command("prettylist", "pm2_json:print_prettylist", "the same, as Node prints it"),
        Command("describe desc info show", "describe:describe_workers", "everything about the workers of an app"),
        Command("env", "describe:print_env", "the variables of a worker, secrets included"),
        Command("pid", "describe:print_pids", "the pids of an app, one a line"),
        Command("id", "describe:print_ids", "the ids of an app's workers"),
        Command("slist sysinfos", "hostline:print_snapshot", "the host in figures, as JSON"),
        Command("monit dash dashboard imonit", "monit:show_monitor", "a live view of all workers, with keys to change them"),
        Command("logs", "logs:show_logs", "the last lines of the logs, then what follows"),
        Command("flush", "log_admin:flush_logs", "empty logs, and delete what was rotated out of them"),
        Command("reloadLogs", "log_admin:reload_logs", "open logs again that were moved or deleted"),
        Command("logrotate", "log_admin:explain_logrotate", "tell how logs rotate"),
    ),
    "Help": (
        Command("doctor", "doctor:examine", "what suits this host, and what is wrong, each with what to type"),
        Command("report", "reporting:print_report", "what a bug report needs, without secrets"),
        Command("init ecosystem", "init:write_process_file", "write a process file to begin with"),
        Command("get conf config", "settings:print_settings", "print the settings of this home, or one"),
        Command("set", "settings:set_setting", "set a default for keys that a process file leaves out"),
        Command("unset", "settings:unset_setting", "take it back"),
        Command("completion", "completion:print_completion", "print what makes bash, zsh or fish complete commands and apps"),
        Command("pm2-alias", "init:explain_alias", "how to go on typing pm2"),
    ),
}  # fmt: skip


def find(name: str) -> Optional[Command]:
    """The command of this name or alias."""
    for commands in GROUPS.values():
        for command in commands:
            if name in command.names.split():
                return command
    return None
