"""What is said of a key of a process file beside its one line: the default in words, and what PM2 does with it.

For docs/reference/process-file.md alone; the supervisor and the commands do without.
"""

from __future__ import annotations

from percore.common.typing import NamedTuple

NO_SUCH_KEY = "-"


class KeyNote(NamedTuple):
    default: str = ""  # where it is not that of the field
    pm2: str = ""  # where it is something else than here


NOTHING = KeyNote()
KEY_NOTES = {
    "script": KeyNote("required"),
    "name": KeyNote("the script's name without its extension"),
    "cwd": KeyNote("the process file's directory", pm2="the directory of the caller"),
    "interpreter": KeyNote("by first line, then by extension", pm2="versions by nvm alone"),
    "node_args": KeyNote("those of the script's first line"),
    "exec_mode": KeyNote(
        "`cluster` for Node with `instances`, else `fork`",
        pm2="a cluster is for Node alone",
    ),
    "share_port": KeyNote(pm2=NO_SUCH_KEY),
    "port": KeyNote("not set"),
    "port_per_worker": KeyNote(pm2=NO_SUCH_KEY),
    "listen": KeyNote(pm2=NO_SUCH_KEY),
    "health": KeyNote("a connection is enough", pm2=NO_SUCH_KEY),
    "health_host": KeyNote("`localhost`", pm2=NO_SUCH_KEY),
    "app_metrics": KeyNote(pm2=NO_SUCH_KEY),
    "app_metrics_port": KeyNote(pm2=NO_SUCH_KEY),
    "app_metrics_per_worker": KeyNote(pm2=NO_SUCH_KEY),
    "wait_ready": KeyNote(pm2="by process.send('ready') alone"),
    "listen_timeout": KeyNote(pm2="3 s; then the worker counts as ready"),
    "reload_workers": KeyNote(pm2=NO_SUCH_KEY),
    "health_interval": KeyNote(pm2=NO_SUCH_KEY),
    "liveness_timeout": KeyNote(pm2=NO_SUCH_KEY),
    "kill_signal": KeyNote("`SIGINT`, or the signal that the program stops in order on", pm2="only PM2_KILL_SIGNAL"),
    "max_restarts": KeyNote("never gives up", pm2="16"),
    "restart_delay": KeyNote("0 for a worker that had been ready; otherwise 0, then 0.1 s doubling to 15 s"),
    "exp_backoff_restart_delay": KeyNote("off"),
    "max_memory_restart": KeyNote("no limit"),
    "heap_snapshots": KeyNote(pm2=NO_SUCH_KEY),
    "memory_max": KeyNote("no limit", pm2=NO_SUCH_KEY),
    "cron_restart": KeyNote("never", pm2="starts a stopped app as well"),
    "watch": KeyNote("false"),
    "ignore_watch": KeyNote("`.*`, `node_modules`"),
    "watch_delay": KeyNote("0.1 s"),
    "out_file": KeyNote("`logs/NAME-out.log` in the supervisor's home"),
    "error_file": KeyNote("`logs/NAME-error.log` in the supervisor's home"),
    "log_max_size": KeyNote(pm2=NO_SUCH_KEY),
    "log_keep": KeyNote(pm2=NO_SUCH_KEY),
    "log_max_age": KeyNote(pm2=NO_SUCH_KEY),
    "log_max_total": KeyNote(pm2=NO_SUCH_KEY),
    "log_min_free": KeyNote(pm2=NO_SUCH_KEY),
    "log_compress": KeyNote(pm2=NO_SUCH_KEY),
    "log_type": KeyNote("unchanged lines"),
    "pid_file": KeyNote("`pids/NAME.pid` in the supervisor's home"),
    "depends_on": KeyNote(pm2=NO_SUCH_KEY),
    "hooks": KeyNote(pm2=NO_SUCH_KEY),
    "user": KeyNote("the supervisor's"),
    "group": KeyNote("the user's own"),
}

EVENT_NOTES = {
    "crash": "a worker ended unexpectedly",
    "crash_loop": "ten ends within 60 s",
    "given_up": "no restart any more, after `max_restarts`",
    "memory": "a worker is replaced because of `max_memory_restart`",
    "reload_failed": "a new worker did not become ready; the old one stays",
    "recovered": "the app runs well again after one of these that persist",
    "job_failed": "a run ended with an error, or took longer than its `timeout`",
}
"""When each event of `hooks` is sent."""


def note_of_key(key: str) -> KeyNote:
    return KEY_NOTES.get(key, NOTHING)
