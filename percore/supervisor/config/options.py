"""Every option of an app, declared once: its key in a process file, how it is read, and where it appears.

From this table are made the keys of process files, the options of the command line, the defaults of `percore set` and of PM2's
variables, and what `describe` and `jlist` show. Kind and default of the field, and whether a change of it needs a new worker,
are in `AppConfig`, which the supervisor loads; a test compares docs/reference/process-file.md.
"""

from __future__ import annotations

import re
import shlex

from percore.common.typing import Any, Callable, NamedTuple
from percore.supervisor.config import readers
from percore.supervisor.config.app import LIVE_FIELDS, AppConfig

# Where `describe` and `jlist` show an option.
ALWAYS, WHERE_SET, NEVER = "always", "where set", "never"


def shown(value: Any) -> str:
    """A value in `describe`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple, dict)):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None or value == "" else str(value)


def split_at_blanks(written: str) -> list[str]:
    try:
        return shlex.split(written)
    except ValueError:
        return [written]


class ValueType(NamedTuple):
    """`read` raises ValueError that says what it wanted instead."""

    read: Callable[[Any], Any]
    unit: str = ""  # stands for the value in the help; otherwise the last word of the key
    show: Callable[[Any], str] = shown  # in `describe`
    to_json: Callable[[Any], Any] = lambda value: value  # in `jlist`
    split: Callable[[str], Any] = lambda written: written  # a value of the command line, as a process file has it
    is_path: bool = False


TEXT = ValueType(readers.text)
FLAG = ValueType(readers.flag)
COUNT = ValueType(readers.count, "N")
DURATION = ValueType(
    readers.milliseconds, "MS", lambda seconds: f"{seconds:g} s", lambda seconds: round(1000 * seconds)
)
# PM2 counts seconds on its command line, and milliseconds in a file.
DELAY = DURATION._replace(split=lambda written: f"{written}s" if re.fullmatch(r"[\d.]+", written) else written)
SIZE = ValueType(readers.memory, "SIZE", lambda size: f"{size / 1048576:.1f}mb" if size else "-")
SIZE_OR_0 = SIZE._replace(read=readers.bytes_or_none)
PATH = ValueType(readers.text, is_path=True)
LOG_FILE = ValueType(readers.log_path, is_path=True)
ARGUMENTS = ValueType(readers.words, "TEXT", lambda words: " ".join(words) or "-", list)
NAMES = ValueType(readers.names, to_json=list, split=split_at_blanks)
PATTERNS = ValueType(readers.globs_or_regexes, to_json=list, split=split_at_blanks)
VARIABLE = ValueType(readers.variable)


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
    described: str = WHERE_SET
    listed: str = WHERE_SET
    listed_as: str = ""  # in `jlist`, where PM2 does not call it as the key
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
        described=ALWAYS,
        listed=NEVER,
        is_typed=False,
    ),
    Option(
        "name",
        ValueType(readers.app_name),
        "name of the app; otherwise the script's name",
        short="-n",
        described=NEVER,
        listed=NEVER,
    ),
    Option("namespace", TEXT, "a second selector for commands", described=NEVER, listed=NEVER),
    Option("cwd", PATH, "working directory; otherwise this one", title="exec cwd", described=ALWAYS, listed=NEVER),
    Option(
        "args",
        ARGUMENTS,
        "arguments of the script; easier to read after --",
        title="script args",
        described=ALWAYS,
        listed=ALWAYS,
    ),
    Option(
        "interpreter",
        PATH,
        "program that runs the script; none: run the script itself",
        ("exec_interpreter",),
        described=ALWAYS,
        listed=ALWAYS,
        listed_as="exec_interpreter",
    ),
    Option(
        "node_args",
        ARGUMENTS,
        "arguments of the interpreter",
        ("interpreter_args",),
        stored_as="interpreter_args",
        title="interpreter args",
        described=ALWAYS,
        listed=ALWAYS,
    ),
    Option(
        "instances",
        ValueType(readers.instances, "N|max|-N"),
        "number of workers; max: one per core",
        short="-i",
        described=NEVER,
        listed=NEVER,
    ),
    Option(
        "exec_mode",
        ValueType(readers.mode, "fork|cluster"),
        "cluster: workers share their port",
        stored_as="mode",
        described=NEVER,
        listed=NEVER,
    ),
    Option("share_port", FLAG, "workers of a cluster bind one port together"),
    Option("port", ValueType(readers.port, "PORT"), "set PORT, and open the shared port before the workers start"),
    Option("port_per_worker", FLAG, "each worker gets a PORT of its own, counted from --port"),
    Option(
        "listen",
        ValueType(readers.listen_addresses, "ADDRESS", to_json=list),
        "address to open at the start and pass to every worker",
    ),
    Option("health", ValueType(readers.url_path, "PATH"), "path that a worker must answer", title="health check"),
    Option("instance_var", VARIABLE, "variable with the worker's number", listed=ALWAYS),
    Option("increment_var", VARIABLE, "variable that grows by one from worker to worker"),
    Option("wait_ready", FLAG, "a worker is ready when it says so", listed=ALWAYS),
    Option(
        "listen_timeout",
        DURATION,
        "a worker that is not ready within this time has failed",
        listed=ALWAYS,
        variable="PM2_GRACEFUL_LISTEN_TIMEOUT",
        is_setting=True,
    ),
    Option("health_interval", DURATION, "time between two health checks of a running worker; 0: none"),
    Option("liveness_timeout", DURATION, "replace a worker that is unhealthy for this long; 0: never", is_setting=True),
    Option(
        "kill_timeout",
        DURATION,
        "time between the stop signal and SIGKILL",
        short="-k",
        described=ALWAYS,
        listed=ALWAYS,
        variable="PM2_KILL_TIMEOUT",
        is_setting=True,
    ),
    Option(
        "kill_signal",
        ValueType(readers.signal_name),
        "the stop signal",
        title="stop signal",
        described=ALWAYS,
        variable="PM2_KILL_SIGNAL",
        is_setting=True,
    ),
    Option(
        "shutdown_with_message",
        FLAG,
        "send Node the message 'shutdown' instead of a signal",
        listed=ALWAYS,
        variable="PM2_KILL_USE_MESSAGE",
    ),
    Option("treekill", FLAG, "send the stop signal to the whole process group", listed=ALWAYS),
    Option("autostart", FLAG, "start it now", listed=ALWAYS),
    Option("autorestart", FLAG, "restart it when it ends", described=ALWAYS, listed=ALWAYS),
    Option(
        "stop_exit_codes",
        ValueType(readers.numbers, "CODES", to_json=list, split=lambda written: re.findall(r"[^,\s]+", written)),
        "exit codes after which it is not restarted",
    ),
    Option("min_uptime", DURATION, "a shorter life counts as a quick failure", listed=ALWAYS, is_setting=True),
    Option("max_restarts", COUNT, "give up after this many quick failures", is_setting=True),
    Option("restart_delay", DURATION, "wait before each restart", listed=ALWAYS, is_setting=True),
    Option(
        "exp_backoff_restart_delay",
        DURATION,
        "first wait of a growing back-off",
        title="first back-off",
        listed=ALWAYS,
        is_setting=True,
    ),
    Option(
        "max_memory_restart",
        SIZE,
        "replace a worker above this size",
        title="max memory",
        listed=ALWAYS,
        is_setting=True,
    ),
    Option("memory_max", SIZE, "the kernel kills a worker above this size", described=NEVER),
    Option(
        "cron_restart",
        ValueType(readers.schedule, "CRON"),
        "replace the workers at these times",
        ("cron",),
        short="-c",
        listed=ALWAYS,
    ),
    Option(
        "watch",
        PATTERNS._replace(read=readers.watched),
        "replace the workers when files change (here, or these paths)",
        unit="PATHS",
        title="watch & reload",
        described=ALWAYS,
        listed=ALWAYS,
        is_switch=True,
    ),
    Option("ignore_watch", PATTERNS, "paths that are not watched", unit="PATHS", listed=ALWAYS),
    Option("watch_delay", DELAY, "seconds between a change and the replacement"),
    Option(
        "out_file",
        LOG_FILE,
        "file of standard output",
        ("out", "output", "out_log"),
        short="-o",
        described=NEVER,
        listed=NEVER,
    ),
    Option(
        "error_file",
        LOG_FILE,
        "file of standard error",
        ("error", "err", "err_file", "err_log"),
        short="-e",
        described=NEVER,
        listed=NEVER,
    ),
    Option(
        "log_file",
        LOG_FILE._replace(read=readers.combined_log),
        "one more file with both",
        ("log",),
        short="-l",
        described=NEVER,
        listed=NEVER,
        is_switch=True,
    ),
    Option("log_max_size", SIZE._replace(read=readers.log_size), "rotate a larger log; 0: never", is_setting=True),
    Option("log_keep", COUNT, "rotated files to keep of each log", is_setting=True),
    Option("log_max_age", DURATION, "rotate an older log; 0: never", is_setting=True),
    Option("log_max_total", SIZE_OR_0, "size of all logs of the app together; 0: no limit", is_setting=True),
    Option("log_min_free", SIZE_OR_0, "space to leave free on the disk of the logs", is_setting=True),
    Option("log_compress", FLAG, "compress rotated files, from the second on", is_setting=True),
    Option("merge_logs", FLAG, "one log for all workers", ("combine_logs",), listed=ALWAYS, is_setting=True),
    Option(
        "log_date_format",
        ValueType(readers.date_format),
        "date before each line, such as YYYY-MM-DD",
        ("time",),
        variable="PM2_LOG_DATE_FORMAT",
        is_setting=True,
    ),
    Option("log_type", TEXT, "json: write each line as an object", is_setting=True),
    Option("disable_logs", FLAG, "write no logs", listed=ALWAYS, is_setting=True),
    Option("pid_file", PATH, "file with the worker's pid", ("pid",), short="-p", listed=NEVER),
    Option(
        "filter_env",
        NAMES._replace(read=readers.variables),
        "variables of the caller that the app does not get",
        is_switch=True,
    ),
    Option("depends_on", NAMES, "apps that must be ready first", unit="APPS"),
    Option(
        "hooks", ValueType(readers.hooks), "commands and addresses for events of the app", listed=NEVER, is_typed=False
    ),
    Option("user", TEXT, "run as this user", ("uid",), listed=NEVER),
    Option("group", TEXT, "run with this group", ("gid",)),
)

# Keys that change how others are read.
MODIFIERS = (
    Option("append_env_to_name", FLAG, "with --env NAME, call the app <name>-NAME"),
    Option("execute_command", FLAG, "fork mode, whatever --exec-mode says", short="-x"),
    Option("source_map_support", FLAG, "give Node --enable-source-maps"),
)

# Keys that PM2 knows and that have no meaning here: taken without a word, so that a PM2 file loads unchanged.
WITHOUT_MEANING = frozenset({
    "automation", "deep_monitoring", "disable_source_map_support", "disable_trace", "event_loop_inspector",
    "exec_timeout", "force", "install_url", "io", "kill_retry_time", "name_prefix", "pmx", "post_update",
    "trace", "username", "v8", "vizion", "watch_options", "windowsHide", "write",
})  # fmt: skip


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
