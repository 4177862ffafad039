"""Every option of an app, declared once: its key in a process file, how it is read, and where it appears.

From this table are made the keys of process files, the options of the command line, the defaults of `percore set` and of PM2's
variables, and what `describe` and `jlist` show. Kind and default of the field, and whether a change of it needs a new worker,
are in `AppConfig`, which the supervisor loads; a test compares docs/reference/process-file.md.
"""

from __future__ import annotations

from percore.common.typing import Any, NamedTuple
from percore.supervisor.config.app import LIVE_FIELDS, AppConfig
from percore.supervisor.config.value_types import (
    ADDRESSES,
    APP_NAME,
    ARGUMENTS,
    CODES,
    COMBINED_LOG,
    COUNT,
    DATE_FORMAT,
    DELAY,
    DURATION,
    FLAG,
    HOOKS,
    HOST_NAME,
    INSTANCES,
    LOG_FILE,
    LOG_SIZE,
    MODE,
    NAMES,
    PATH,
    PATTERNS,
    PORT,
    SCHEDULE,
    SIGNAL,
    SIZE,
    SIZE_OR_0,
    TEXT,
    URL_PATH,
    VARIABLE,
    VARIABLES,
    WATCHED,
    ValueType,
)

# Where `describe` and `jlist` show an option.
ALWAYS, WHERE_SET, NEVER = "always", "where set", "never"


class Option(NamedTuple):
    """`key` is its name in a process file; on the command line, `--` and dashes."""

    key: str
    type: ValueType
    help: str
    aliases: tuple[str, ...] = ()
    stored_as: str = ""  # the field of AppConfig, where it is not called as the key
    short: str = ""
    unit: str = ""
    title: str = ""  # in `describe`; otherwise the words of the key
    describe: str = WHERE_SET
    jlist: str = WHERE_SET
    jlist_as: str = ""  # in `jlist`, where PM2 does not call it as the key
    variable: str = ""  # PM2's environment variable with a default
    is_setting: bool = False  # may mean the same for every app: `percore set`
    is_switch: bool = False  # on the command line its value may be left out
    is_typed: bool = True  # there is an option of the command line

    @property
    def field(self) -> str:
        return self.stored_as or self.key

    @property
    def default(self) -> Any:
        return AppConfig._field_defaults.get(self.field)

    @property
    def is_live(self) -> bool:
        """True when a change of it takes effect without a new worker."""
        return self.field in LIVE_FIELDS


def option_of(key: str) -> str:
    """How a key is called on the command line."""
    return f"--{key.replace('_', '-')}"


OPTIONS = (
    Option(
        "script",
        PATH,
        "what is run",
        ("exec", "cmd", "command"),
        title="script path",
        describe=ALWAYS,
        jlist=NEVER,
        is_typed=False,
    ),
    Option("name", APP_NAME, "name of the app; otherwise the script's name", short="-n", describe=NEVER, jlist=NEVER),
    Option(
        "namespace", TEXT, "part of the app's name, and a second selector for commands", describe=NEVER, jlist=NEVER
    ),
    Option("cwd", PATH, "working directory; otherwise this one", title="exec cwd", describe=ALWAYS, jlist=NEVER),
    Option(
        "args",
        ARGUMENTS,
        "arguments of the script; easier to read after --",
        title="script args",
        describe=ALWAYS,
        jlist=ALWAYS,
    ),
    Option(
        "interpreter",
        PATH,
        "program that runs the script; none: run the script itself",
        ("exec_interpreter",),
        describe=ALWAYS,
        jlist=ALWAYS,
        jlist_as="exec_interpreter",
    ),
    Option(
        "node_args",
        ARGUMENTS,
        "arguments of the interpreter",
        ("interpreter_args",),
        stored_as="interpreter_args",
        title="interpreter args",
        describe=ALWAYS,
        jlist=ALWAYS,
    ),
    Option("instances", INSTANCES, "number of workers; max: one per core", short="-i", describe=NEVER, jlist=NEVER),
    Option("exec_mode", MODE, "cluster: workers share their port", stored_as="mode", describe=NEVER, jlist=NEVER),
    Option("share_port", FLAG, "workers of a cluster bind one port together"),
    Option("port", PORT, "set PORT, and open the shared port before the workers start"),
    Option("port_per_worker", FLAG, "each worker gets a PORT of its own, counted from --port"),
    Option("listen", ADDRESSES, "address to open at the start and pass to every worker"),
    Option("health", URL_PATH, "path that a worker must answer", title="health check"),
    Option("health_host", HOST_NAME, "the name by which it is asked for that path"),
    Option("app_metrics", URL_PATH, "path of the app's own metrics; 'percore web' shows those of all workers together"),
    Option("app_metrics_port", PORT, "port of the app's own metrics, if they have one"),
    Option("app_metrics_per_worker", FLAG, "show them for each worker, not as sums"),
    Option("instance_var", VARIABLE, "variable with the worker's number", jlist=ALWAYS),
    Option("increment_var", VARIABLE, "variable that grows by one from worker to worker"),
    Option("wait_ready", FLAG, "a worker is ready when it says so", jlist=ALWAYS),
    Option(
        "listen_timeout",
        DURATION,
        "a worker that is not ready within this time has failed",
        jlist=ALWAYS,
        variable="PM2_GRACEFUL_LISTEN_TIMEOUT",
        is_setting=True,
    ),
    Option(
        "reload_workers", COUNT, "workers that a reload replaces at once, after the first", describe=NEVER, jlist=NEVER
    ),
    Option("health_interval", DURATION, "time between two health checks of a running worker; 0: none"),
    Option("liveness_timeout", DURATION, "replace a worker that is unhealthy for this long; 0: never", is_setting=True),
    Option(
        "kill_timeout",
        DURATION,
        "time between the stop signal and SIGKILL",
        short="-k",
        describe=ALWAYS,
        jlist=ALWAYS,
        variable="PM2_KILL_TIMEOUT",
        is_setting=True,
    ),
    Option(
        "kill_signal",
        SIGNAL,
        "the stop signal; otherwise the one that the program stops in order on",
        title="stop signal",
        variable="PM2_KILL_SIGNAL",
        is_setting=True,
    ),
    Option(
        "shutdown_with_message",
        FLAG,
        "send Node the message 'shutdown' instead of a signal",
        jlist=ALWAYS,
        variable="PM2_KILL_USE_MESSAGE",
    ),
    Option("treekill", FLAG, "stop the whole process group, not the main process alone", jlist=ALWAYS),
    Option("autostart", FLAG, "start it now", jlist=ALWAYS),
    Option("autorestart", FLAG, "restart it when it ends", describe=ALWAYS, jlist=ALWAYS),
    Option("stop_exit_codes", CODES, "exit codes after which it is not restarted"),
    Option("min_uptime", DURATION, "a shorter life counts as a quick failure", jlist=ALWAYS, is_setting=True),
    Option("max_restarts", COUNT, "give up after this many quick failures", is_setting=True),
    Option("restart_delay", DURATION, "wait before each restart", jlist=ALWAYS, is_setting=True),
    Option(
        "exp_backoff_restart_delay",
        DURATION,
        "first wait of a growing back-off",
        title="first back-off",
        jlist=ALWAYS,
        is_setting=True,
    ),
    Option(
        "max_memory_restart",
        SIZE,
        "replace a worker above this size",
        title="max memory",
        jlist=ALWAYS,
        is_setting=True,
    ),
    Option("heap_snapshots", COUNT, "heap snapshots to keep, each made before a restart for memory", describe=NEVER),
    Option("memory_max", SIZE, "the kernel kills a worker above this size", describe=NEVER),
    Option("cron_restart", SCHEDULE, "replace the workers at these times", ("cron",), short="-c", jlist=ALWAYS),
    Option(
        "watch",
        WATCHED,
        "replace the workers when files change (here, or these paths)",
        unit="PATHS",
        title="watch & reload",
        describe=ALWAYS,
        jlist=ALWAYS,
        is_switch=True,
    ),
    Option("ignore_watch", PATTERNS, "paths that are not watched", unit="PATHS", jlist=ALWAYS),
    Option("watch_delay", DELAY, "seconds between a change and the replacement"),
    Option(
        "out_file",
        LOG_FILE,
        "file of standard output",
        ("out", "output", "out_log"),
        short="-o",
        describe=NEVER,
        jlist=NEVER,
    ),
    Option(
        "error_file",
        LOG_FILE,
        "file of standard error",
        ("error", "err", "err_file", "err_log"),
        short="-e",
        describe=NEVER,
        jlist=NEVER,
    ),
    Option(
        "log_file",
        COMBINED_LOG,
        "one more file with both",
        ("log",),
        short="-l",
        describe=NEVER,
        jlist=NEVER,
        is_switch=True,
    ),
    Option("log_max_size", LOG_SIZE, "rotate a larger log; 0: never", is_setting=True),
    Option("log_keep", COUNT, "rotated files to keep of each log", is_setting=True),
    Option("log_max_age", DURATION, "rotate an older log; 0: never", is_setting=True),
    Option("log_max_total", SIZE_OR_0, "size of all logs of the app together; 0: no limit", is_setting=True),
    Option("log_min_free", SIZE_OR_0, "space to leave free on the disk of the logs", is_setting=True),
    Option("log_compress", FLAG, "compress rotated files, from the second on", is_setting=True),
    Option("merge_logs", FLAG, "one log for all workers", ("combine_logs",), jlist=ALWAYS, is_setting=True),
    Option(
        "log_date_format",
        DATE_FORMAT,
        "date before each line, such as YYYY-MM-DD",
        ("time",),
        variable="PM2_LOG_DATE_FORMAT",
        is_setting=True,
    ),
    Option("log_type", TEXT, "json: write each line as an object", is_setting=True),
    Option("disable_logs", FLAG, "write no logs", jlist=ALWAYS, is_setting=True),
    Option("pid_file", PATH, "file with the worker's pid", ("pid",), short="-p", jlist=NEVER),
    Option("filter_env", VARIABLES, "variables of the caller that the app does not get", is_switch=True),
    Option("depends_on", NAMES, "apps that must be ready first", unit="APPS"),
    Option("hooks", HOOKS, "commands and addresses for events of the app", jlist=NEVER, is_typed=False),
    Option("user", TEXT, "run as this user", ("uid",), jlist=NEVER),
    Option("group", TEXT, "run with this group", ("gid",)),
)

# Keys that change how others are read.
MODIFIERS = (
    Option("append_env_to_name", FLAG, "with --env NAME, call the app <name>-NAME"),
    Option("execute_command", FLAG, "fork mode, whatever --exec-mode says", short="-x"),
    Option("source_map_support", FLAG, "give Node --enable-source-maps; otherwise where SCRIPT.map exists"),
    Option("disable_source_map_support", FLAG, "never give Node --enable-source-maps"),
)


def camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _spelled(options: tuple[Option, ...]) -> dict[str, Option]:
    """By each of their names, also in camelCase."""
    return {
        spelling: option
        for option in options
        for name in (option.key, *option.aliases)
        for spelling in (name, camel_case(name))
    }


BY_NAME = _spelled(OPTIONS)
MODIFIER_BY_NAME = _spelled(MODIFIERS)
PATHS = tuple(option.field for option in OPTIONS if option.type.is_path)
