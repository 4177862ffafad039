"""What one app wants: `AppConfig`, the only form in which a process file's app reaches the supervisor.

`process_file` makes it from a file; `to_record`/`from_record` carry it as JSON in a release, over the control socket and in the
state. Every field is declared here once, with its kind (`kinds`), default and unit; what a `Live` field holds takes effect
without a new worker. Keys, options and help are in `options`, which the supervisor does not load.
"""

from __future__ import annotations

from collections.abc import Mapping

from percore.common.records.hashes import record_hashes
from percore.common.typing import Any, NamedTuple, Optional
from percore.errors import UsageError, nearest
from percore.supervisor.base.environment import filter_environment
from percore.supervisor.config import records
from percore.supervisor.config.kinds import (
    CLUSTER,
    EACH,
    FORBID,
    FORK,
    MAX,
    Account,
    Bytes,
    Count,
    Cron,
    Glob,
    HostName,
    Instances,
    Listen,
    Live,
    Mode,
    Name,
    Overlap,
    Port,
    Seconds,
    Signal,
    UrlPath,
    Variable,
    Where,
    Zone,
)


class AppConfig(NamedTuple):
    """One app as wished. Times in seconds, sizes in bytes, paths absolute except `script` (then relative to `cwd`)."""

    name: Name
    script: str
    cwd: str
    namespace: str = "default"
    args: tuple[str, ...] = ()
    interpreter: str = "none"  # a program name or path put before the script; "none": the script itself is run
    interpreter_args: tuple[str, ...] = ()
    mode: Mode = FORK
    instances: Live[Instances] = 1  # as wished: a number, "max" or 0 (= one per usable core), or -n (= that many fewer)
    share_port: bool = True  # cluster only: whatever address a worker binds is shared by all workers of the app
    port: Optional[Port] = None  # sets PORT, and opens the shared port before the first worker asks
    port_per_worker: bool = False  # nothing is shared: each worker gets a PORT of its own, counted from `port` on
    listen: tuple[Listen, ...] = ()  # addresses that are opened before the first worker asks, and passed as LISTEN_FDS
    health: Optional[UrlPath] = None  # path of an HTTP check of each worker, such as /health; None: a TCP connection
    health_host: Optional[HostName] = None  # the Host of that check; None: localhost
    app_metrics: Live[Optional[UrlPath]] = None  # path of the app's own metrics, such as /metrics
    app_metrics_port: Live[Optional[Port]] = None  # where they are, if not on the port of the app
    app_metrics_per_worker: Live[bool] = False  # shown for each worker, not as sums
    env: Mapping[Variable, str] = {}
    instance_var: Variable = "NODE_APP_INSTANCE"
    increment_var: Optional[Variable] = None
    wait_ready: bool = False
    listen_timeout: Seconds = 30.0  # a limit, never a success
    reload_workers: Live[Count] = 1  # so many are replaced at once by a reload, after the first one
    health_interval: Seconds = 10.0  # between two checks of `health` while the worker runs; 0: only when it starts
    liveness_timeout: Seconds = 30.0  # failing its check, or accepting nothing, for so long: it is replaced; 0: never
    kill_timeout: Seconds = 1.6
    kill_signal: Optional[Signal] = None  # None: what the program is known to stop in order on; SIGINT
    shutdown_with_message: bool = False
    treekill: bool = True
    autostart: bool = True
    autorestart: bool = True
    stop_exit_codes: tuple[int, ...] = ()
    min_uptime: Seconds = 1.0
    max_restarts: Optional[Count] = None  # only when set does the supervisor ever give up
    restart_delay: Seconds = 0.0
    exp_backoff_restart_delay: Seconds = 0.0
    max_memory_restart: Optional[Bytes] = None
    heap_snapshots: Live[Count] = (
        0  # so many files of heaps are kept; one is written before a worker is replaced for its size
    )
    memory_max: Optional[Bytes] = None  # the kernel lets it have no more
    cron_restart: Live[Optional[Cron]] = None
    watch: Live[tuple[str, ...]] = ()  # paths; empty: off
    ignore_watch: Live[tuple[Glob, ...]] = ()
    watch_delay: Live[Seconds] = 0.0
    out_file: Optional[str] = None
    error_file: Optional[str] = None
    log_file: Optional[str] = None
    log_max_size: Bytes = 10 << 20  # bytes in one file before the oldest move to another; 0: never
    log_keep: Count = 10  # older files that are kept of each log
    log_max_age: Seconds = 7 * 86400.0  # a log that began before is rotated, however short; 0: never
    log_max_total: Bytes = 1 << 30  # bytes of all logs of the app: the oldest files go first; 0: any number
    log_min_free: Bytes = 256 << 20  # bytes left free on the disk; never more than a twentieth of it
    log_compress: bool = False  # older files, from the second on
    merge_logs: bool = False
    log_date_format: Optional[str] = None
    log_type: Optional[str] = None
    disable_logs: bool = False
    pid_file: Optional[str] = None
    filter_env: tuple[str, ...] = ()
    depends_on: Live[tuple[str, ...]] = ()
    hooks: Live[Mapping[Name, tuple[str, ...]]] = {}  # noqa: RUF012 - by event: commands and addresses that are told
    user: Optional[Account] = None
    group: Optional[Account] = None
    job_cron: Live[Optional[Cron]] = None  # set: a job, which runs at these times and ends
    job_timezone: Live[Optional[Zone]] = None
    job_overlap: Live[Overlap] = FORBID  # when its time comes while it runs
    job_timeout: Live[Seconds] = 0.0  # 0: none
    job_where: Live[Where] = EACH  # of the hosts of a fleet
    source: Live[str] = ""  # the process file it came from, for messages
    release: str = ""
    # What another version wrote and this one does not know: kept, and of no effect.
    unknown: Live[Mapping[str, Any]] = {}  # noqa: RUF012

    def to_record(self) -> dict[str, Any]:
        """JSON-ready mapping of the fields that differ from their defaults, and of what is not known here."""
        defaults = self._field_defaults
        record: dict[str, Any] = dict(self.unknown)
        value: Any
        for field, value in zip(self._fields, self):
            if field == "unknown" or (field in defaults and value == defaults[field]):
                continue
            if isinstance(value, tuple):
                value = list(value)
            elif isinstance(value, Mapping):
                value = dict(value)
            record[records.recorded_as(field)] = value
        return record

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], *, where: str = "release record", keeps_unknown: bool = False
    ) -> AppConfig:
        """The reverse of `to_record`; UsageError names a key that is missing or of another kind.

        An unknown key is refused as well: the caller must learn that it has no effect. Only in what another version reports
        is it kept.
        """
        try:
            config: AppConfig = records.read(cls, record)
        except records.WrongField as error:
            raise UsageError(
                f"key '{error.field}' {error.reason}" if error.field else str(error), where=where
            ) from None
        for key in config.unknown if not keeps_unknown else ():
            known = nearest(key, list(cls._fields[:-1]))
            raise UsageError(f"key '{key}' is not known" + (f", did you mean '{known}'?" if known else ""), where=where)
        return config

    def changed(self, changes: Mapping[str, Any]) -> AppConfig:
        """With these fields of its record changed. Raises UsageError."""
        known = self._replace(unknown={}).to_record()
        return self.from_record({**known, **changes}, where="changes")._replace(unknown=self.unknown)

    def hashes(self) -> tuple[str, str]:
        """(of what is run and how, of its variables), to compare workers and files by; the release does not count."""
        return record_hashes(self._replace(unknown={}).to_record())

    @property
    def is_job(self) -> bool:
        return self.job_cron is not None

    @property
    def waits_for_its_time(self) -> bool:
        """It is not started with the others, only by its cron_restart."""
        return not self.autostart and self.cron_restart is not None

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
        return self._replace(instances=other.instances, source=other.source, unknown=other.unknown) == other

    def runs_like(self, other: AppConfig) -> bool:
        """True when workers of `other` need no replacement: all is the same but what concerns the app as a whole."""
        return self.settled_like(other) == other

    def settled_like(self, other: AppConfig) -> AppConfig:
        """With those fields of `other` that take effect without a new worker."""
        return self._replace(**{field: getattr(other, field) for field in LIVE_FIELDS})


LIVE_FIELDS = tuple(field for field, kind in AppConfig.__annotations__.items() if str(kind).startswith("Live["))


def resolve_instances(wished: Instances, cores: int) -> int:
    """How many workers: "max" or 0 gives one per core, -n leaves n cores free, never fewer than one."""
    count = 0 if wished == MAX else int(wished)
    return count if count > 0 else max(1, cores + count)


class Place(NamedTuple):
    """Which worker of its app one is, and what its environment begins with."""

    number: int
    id: int  # PM2's id: unique among all apps
    base_env: Mapping[str, str]


def known_port(config: AppConfig, place: Place) -> Optional[int]:
    """The port that the app is known by to its clients: `port`, or PORT in the environment of the worker."""
    if config.port is not None:
        return config.port_of(place.number)
    given = {"PORT": place.base_env.get("PORT", "")}
    port = port_in(config.env.get("PORT") or filter_environment(given, config.filter_env).get("PORT", ""))
    return port + place.number if port and config.increment_var == "PORT" else port


def port_in(text: str) -> Optional[int]:
    """None for what is no port."""
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536 else None
