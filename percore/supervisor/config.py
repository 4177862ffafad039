"""What one app wants: `AppConfig`, the only form in which a process file's app reaches the supervisor.

`ecosystem` makes it from a file; `to_record`/`from_record` carry it as JSON in a release and over the control socket.
Every field is declared here once, with its default and its unit; the daemon loads this module and no parser.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

from percore.errors import UsageError, nearest
from percore.hints import Any, NamedTuple, Optional, Union

CLUSTER = "cluster"
FORK = "fork"

Instances = Union[int, str]

# What a running worker knows nothing of.
_OF_THE_APP = ("instances", "source", "cron_restart", "watch", "ignore_watch", "watch_delay", "depends_on", "hooks")


class AppConfig(NamedTuple):
    """One app as wished. Times in seconds, sizes in bytes, paths absolute except `script` (then relative to `cwd`)."""

    name: str
    script: str
    cwd: str
    namespace: str = "default"
    args: tuple[str, ...] = ()
    interpreter: str = "none"  # a program name or path put before the script; "none": the script itself is run
    interpreter_args: tuple[str, ...] = ()
    mode: str = FORK
    instances: Instances = 1  # as wished: a number, "max" or 0 (= one per usable core), or -n (= that many fewer)
    share_port: bool = True  # cluster only: whatever address a worker binds is shared by all workers of the app
    port: Optional[int] = None  # sets PORT, and opens the shared port before the first worker asks
    port_per_worker: bool = False  # nothing is shared: each worker gets a PORT of its own, counted from `port` on
    listen: tuple[str, ...] = ()  # addresses that are opened before the first worker asks, and passed as LISTEN_FDS
    health: Optional[str] = None  # path of an HTTP check of each worker, such as /health; None: a TCP connection
    env: Mapping[str, str] = {}
    instance_var: str = "NODE_APP_INSTANCE"
    increment_var: Optional[str] = None
    wait_ready: bool = False
    listen_timeout: float = 30.0  # a limit, never a success
    health_interval: float = 10.0  # between two checks of `health` while the worker runs; 0: only when it starts
    liveness_timeout: float = 30.0  # failing its check, or accepting nothing, for so long: it is replaced; 0: never
    kill_timeout: float = 1.6
    kill_signal: str = "SIGINT"
    shutdown_with_message: bool = False
    treekill: bool = True
    autostart: bool = True
    autorestart: bool = True
    stop_exit_codes: tuple[int, ...] = ()
    min_uptime: float = 1.0
    max_restarts: Optional[int] = None  # only when set does the supervisor ever give up
    restart_delay: float = 0.0
    exp_backoff_restart_delay: float = 0.0
    max_memory: Optional[int] = None
    memory_max: Optional[int] = None  # the kernel lets it have no more
    cron_restart: Optional[str] = None
    watch: tuple[str, ...] = ()  # paths; empty: off
    ignore_watch: tuple[str, ...] = ()
    watch_delay: float = 0.0
    out_file: Optional[str] = None
    error_file: Optional[str] = None
    log_file: Optional[str] = None
    log_max_size: int = 10 << 20  # bytes in one file before the oldest move to another; 0: never
    log_keep: int = 10  # older files that are kept of each log
    log_max_age: float = 7 * 86400.0  # a log that began before is rotated, however short; 0: never
    log_max_total: int = 1 << 30  # bytes of all logs of the app: the oldest files go first; 0: any number
    log_min_free: int = 256 << 20  # bytes left free on the disk; never more than a twentieth of it
    log_compress: bool = False  # older files, from the second on
    merge_logs: bool = False
    log_date_format: Optional[str] = None
    log_type: Optional[str] = None
    disable_logs: bool = False
    pid_file: Optional[str] = None
    filter_env: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    hooks: Mapping[str, tuple[str, ...]] = {}  # by event: commands and addresses that are told
    user: Optional[str] = None
    group: Optional[str] = None
    source: str = ""  # the process file it came from, for messages
    release: str = ""

    def to_record(self) -> dict[str, Any]:
        """JSON-ready mapping of the fields that differ from their defaults."""
        defaults = self._field_defaults
        record: dict[str, Any] = {}
        value: Any
        for field, value in zip(self._fields, self):
            if field in defaults and value == defaults[field]:
                continue
            if isinstance(value, tuple):
                value = list(value)
            elif isinstance(value, Mapping):
                value = dict(value)
            record[field] = value
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any], *, where: str = "release record") -> AppConfig:
        """The reverse of `to_record`; raises UsageError that names an unknown or missing key."""
        fields: dict[str, Any] = {}
        for key, value in record.items():
            if key not in cls._fields:
                known = nearest(key, list(cls._fields))
                raise UsageError(
                    f"key '{key}' is not known" + (f", did you mean '{known}'?" if known else ""), where=where
                )
            fields[key] = tuple(value) if isinstance(value, list) else value
        fields["hooks"] = {event: tuple(targets) for event, targets in fields.get("hooks", {}).items()}
        missing = [field for field in cls._fields if field not in fields and field not in cls._field_defaults]
        if missing:
            raise UsageError(f"key '{missing[0]}' is missing", where=where)
        return cls(**fields)

    def hashes(self) -> tuple[str, str]:
        """(of what is run and how, of its variables), to compare workers and files by; the release does not count."""
        record = self.to_record()
        env = record.pop("env", {})
        for field in ("release", "source"):
            record.pop(field, None)
        return _hash_of(record), _hash_of(env)

    @property
    def shares_port(self) -> bool:
        return self.mode == CLUSTER and self.share_port and not self.port_per_worker

    def port_of(self, number: int) -> Optional[int]:
        """The PORT of the worker of this number."""
        if self.port is None:
            return None
        return self.port + number if self.port_per_worker or self.increment_var == "PORT" else self.port

    def says_like(self, other: AppConfig) -> bool:
        """True when nothing is different but the number of workers."""
        return self._replace(instances=other.instances, source=other.source) == other

    def runs_like(self, other: AppConfig) -> bool:
        """True when workers of `other` need no replacement: all is the same but what concerns the app as a whole."""
        return self.settled_like(other) == other

    def settled_like(self, other: AppConfig) -> AppConfig:
        """With those fields of `other` that take effect without a new worker."""
        return self._replace(**{field: getattr(other, field) for field in _OF_THE_APP})


def _hash_of(value: Any) -> str:
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"


def resolve_instances(wished: Instances, cores: int) -> int:
    """How many workers: "max" or 0 gives one per core, -n leaves n cores free, never fewer than one."""
    count = 0 if wished == "max" else int(wished)
    return count if count > 0 else max(1, cores + count)
