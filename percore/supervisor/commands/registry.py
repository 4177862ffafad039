"""The commands of `percore`, one line each: names, where it is implemented, what it does.

`cli` imports the module of the requested command and no other: that keeps `jlist` quick. A command is a function that takes
its arguments and returns the exit code.
"""

from __future__ import annotations

from percore.common.typing import NamedTuple, Optional


class Verb(NamedTuple):
    names: str  # the name, then its aliases
    place: str  # module:function; the module is of this package, or named in full
    summary: str
    is_plain: bool = False  # takes no arguments
    reads_home: bool = True  # False: it writes what is root's, or nothing


GROUPS: dict[str, tuple[Verb, ...]] = {
    "Controlling apps": (
        Verb("start", "start:start_apps", "start a script, a command line, a process file, or stopped apps"),
        Verb("stop", "lifecycle:stop_apps", "stop apps; they stay known"),
        Verb("restart", "lifecycle:restart_apps", "stop, then start"),
        Verb("reload gracefulReload", "lifecycle:reload_apps", "replace worker by worker: the new one is ready first"),
        Verb("delete del", "lifecycle:delete_apps", "stop and forget"),
        Verb(
            "startOrRestart",
            "lifecycle:start_or_restart",
            "restart the apps of a process file, and start the missing ones",
        ),
        Verb(
            "startOrReload startOrGracefulReload",
            "lifecycle:start_or_reload",
            "reload the apps of a process file, and start the missing ones",
        ),
        Verb("scale", "lifecycle:scale_app", "change the number of workers"),
        Verb("serve expose", "serve:serve_files", "serve the files of a directory, as an app"),
        Verb("reset", "lifecycle:reset_counters", "count restarts from zero again"),
        Verb("sendSignal", "lifecycle:send_signal", "send a signal to the main processes"),
        Verb("send", "attach:send_line", "write a line to the standard input of a fork worker"),
        Verb("attach", "attach:attach", "connect the terminal to the input and output of a fork worker"),
        Verb(
            "apply",
            "apply:apply_file",
            "make the running apps match a file without losing a request; roll back on failure",
        ),
        Verb(
            "update updatePM2",
            "update:update_supervisor",
            "replace the running supervisor by this version",
            is_plain=True,
        ),
        Verb("kill", "lifecycle:kill_daemon", "stop and forget all apps, and stop the supervisor", is_plain=True),
        Verb("ping", "lifecycle:ping", "start the supervisor if it does not run", is_plain=True),
        Verb("runtime", "runtime:run_in_foreground", "run a process file or a script as the program of a container"),
        Verb("daemon", "startup:run_daemon", "run the supervisor in the foreground (for service units)", is_plain=True),
    ),
    "Starting at boot": (
        Verb("save dump", "save:save_apps", "save the list of apps for resurrect"),
        Verb("resurrect", "save:resurrect_apps", "start the saved apps that are not known any more", is_plain=True),
        Verb("cleardump", "save:clear_dump", "delete the saved list", is_plain=True),
        Verb("startup", "startup:add_startup", "let systemd start the supervisor at boot", reads_home=False),
        Verb("unstartup", "startup:remove_startup", "stop systemd from starting it at boot", reads_home=False),
    ),
    "Inspecting apps": (
        Verb("list ls l ps", "list:list_apps", "show a table of all workers"),
        Verb("status", "list:show_status", "show a table of all workers, or JSON with --json"),
        Verb("ready", "list:tell_ready", "end with 0 when all workers are ready; for probes of containers"),
        Verb("jobs", "list:show_jobs", "show when each job runs next and how its last run ended; --run runs it now"),
        Verb("jlist", "pm2_json:print_jlist", "print all workers as JSON, in PM2's form", is_plain=True),
        Verb("prettylist", "pm2_json:print_prettylist", "print the same, formatted as Node prints it", is_plain=True),
        Verb("describe desc info show", "describe:describe_workers", "show everything about the workers of an app"),
        Verb("env", "describe:print_env", "print the variables of a worker, secrets included"),
        Verb("pid", "describe:print_pids", "print the pids of an app, one per line"),
        Verb("id", "describe:print_ids", "print the ids of an app's workers"),
        Verb("slist sysinfos", "host_facts:print_snapshot", "print figures of the host as JSON"),
        Verb(
            "monit dash dashboard imonit",
            "monit:show_monitor",
            "show a live view of all workers, with keys to control them",
        ),
        Verb("web", "percore.web.command:serve_web", "serve metrics, state and health over HTTP, on port 9615"),
        Verb("metrics", "percore.web.command:print_metrics", "print metrics once, as 'percore web' serves them"),
        Verb("heap", "inspection.commands:take_heap", "write what a Node worker keeps in memory to a file for Chrome"),
        Verb(
            "profile",
            "inspection.commands:take_profile",
            "write what a worker spends its time on to a file for Chrome or speedscope",
        ),
        Verb("logs log", "logs:show_logs", "show the last lines of the logs, then follow them"),
        Verb("flush", "log_admin:flush_logs", "empty the logs and delete their rotated files"),
        Verb("reloadLogs", "log_admin:reload_logs", "reopen logs that were moved or deleted", is_plain=True),
        Verb("logrotate", "log_admin:explain_logrotate", "explain how logs rotate", is_plain=True),
    ),
    "Help and settings": (
        Verb("doctor", "doctor:examine", "check the host and the workers; each finding says what to type"),
        Verb("report", "doctor:print_report", "print what a bug report needs, without secrets", is_plain=True),
        Verb("init ecosystem", "init:write_process_file", "write a first process file", reads_home=False),
        Verb("get conf config", "settings:print_settings", "print all settings of this home, or one"),
        Verb("set", "settings:set_setting", "set a default for keys that process files leave out"),
        Verb("unset", "settings:unset_setting", "remove a default"),
        Verb(
            "completion",
            "completions.command:print_completion",
            "print shell completion for bash, zsh or fish",
            reads_home=False,
        ),
        Verb(
            "import-pm2", "from_pm2.import_pm2:import_apps", "take over the apps of a running PM2, one after the other"
        ),
        Verb("pm2-alias", "init:explain_alias", "explain how to keep typing pm2", reads_home=False),
    ),
}


def find(name: str) -> Optional[Verb]:
    """The command of this name or alias."""
    for verbs in GROUPS.values():
        for verb in verbs:
            if name in verb.names.split():
                return verb
    return None


def place_of(verb: Verb) -> tuple[str, str]:
    """The module in full, and the function."""
    module, _, function = verb.place.partition(":")
    return module if module.startswith("percore.") else f"percore.supervisor.commands.{module}", function


def all_names() -> list[str]:
    return [name for verbs in GROUPS.values() for verb in verbs for name in verb.names.split()]


# PM2's commands that do not exist here, and what does the same.
_INSTEAD = {
    "there are no modules; logs rotate by themselves (log_max_size, log_keep), figures are in 'percore monit'": (
        "install uninstall publish module module:list module:install module:update module:uninstall module:generate "
        "module:publish package"
    ),
    "percore sends nothing to any service; figures are in 'percore monit', 'percore jlist' and 'percore doctor'": (
        "link unlink plus register login logout monitor unmonitor open trigger"
    ),
    "releases come from the control machine: invoke deploy --env NAME, invoke rollback --env NAME": (
        "pull forward backward deploy"
    ),
    "install the newer percore (pip install -U percore), then: percore update": "deepUpdate",
    "percore init, then: percore start": "create",
    "percore set NAME VALUE, for each": "multiset",
    "pip install percore": "autoinstall",
    "see docs/reference/process-file.md": "examples",
    "percore profile APP": "profile:cpu",
    "percore heap APP": "profile:mem",
    "node_args: --inspect, then: percore restart": "inspect",
}


def instead_of(name: str) -> str:
    """What to type instead of a command of PM2 that does not exist here; empty for any other name."""
    return next((hint for hint, names in _INSTEAD.items() if name in names.split()), "")
