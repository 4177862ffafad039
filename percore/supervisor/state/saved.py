"""What the state file says, typed. Each app is read for itself: one that makes no sense is set aside, and costs no other.

What another version wrote and this one does not know is in `unknown` at each depth, and is written again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from percore.common.app_names import DEFAULT_NAMESPACE, full_name
from percore.common.typing import Any, NamedTuple, Optional
from percore.supervisor.base.states import HAS_PROCESS, OVER_FOR_GOOD, State, WorkerRole
from percore.supervisor.config import records
from percore.supervisor.config.address import Address
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.dependencies import find_cycle
from percore.supervisor.config.kinds import (
    MOST_PORTS,
    Count,
    Generation,
    Moment,
    Name,
    Pair,
    Pid,
    Token,
    Variable,
    Words,
)
from percore.supervisor.config.records import WrongField

SET_ASIDE = "set_aside"
_OURS = ("version", "boot", "init", "release", "apps", SET_ASIDE)


class SavedEnd(NamedTuple):
    """A job that is done, or was given up."""

    state: State
    exit_code: int
    failure: Words
    last_end: Words
    restarts: Count
    started_time: Moment
    unknown: Mapping[str, Any] = {}


class SavedWorker(NamedTuple):
    role: WorkerRole
    state: State
    pid: Pid
    start_time: Count
    token: Token
    generation: Generation
    config: AppConfig
    addresses: tuple[Address, ...]
    started_time: Moment
    restarts: Count
    log_starts: Pair
    log_files: tuple[Pair, ...] = ()
    unknown: Mapping[str, Any] = {}


class SavedSlot(NamedTuple):
    number: Count
    id: Count
    wanted: bool
    workers: tuple[SavedWorker, ...]
    end: Optional[SavedEnd] = None
    unknown: Mapping[str, Any] = {}


class SavedApp(NamedTuple):
    config: AppConfig
    base_env: Mapping[Variable, str]
    wanted: bool
    slots: tuple[SavedSlot, ...]
    leaving: tuple[SavedSlot, ...]
    counts: Mapping[Name, Count] = {}
    unknown: Mapping[str, Any] = {}

    @property
    def places(self) -> tuple[SavedSlot, ...]:
        return (*self.slots, *self.leaving)

    @property
    def workers(self) -> Iterator[SavedWorker]:
        return (worker for place in self.places for worker in place.workers)


class Aside(NamedTuple):
    """An app that cannot be restored: its record as it was found, and why."""

    record: Any
    name: str
    reason: str

    @property
    def full_name(self) -> str:
        return full_name(self.name, _text_of(self.record, "namespace") or DEFAULT_NAMESPACE)


class Saved(NamedTuple):
    apps: tuple[SavedApp, ...] = ()
    aside: tuple[Aside, ...] = ()
    release: str = ""
    boot: str = ""
    unknown: Mapping[str, Any] = {}
    init: int = 0

    @property
    def workers(self) -> Iterator[SavedWorker]:
        return (worker for app in self.apps for worker in app.workers)


def read_saved(content: Mapping[str, Any]) -> Saved:
    """`content` is what a StateFile read, with a list of apps. What was set aside before is tried again."""
    apps: dict[str, SavedApp] = {}
    aside: list[Aside] = []
    records_by_name: dict[str, Any] = {}
    before = content.get(SET_ASIDE)
    for record in (*content["apps"], *(before if isinstance(before, list) else ())):
        try:
            app = _read_app(record, apps)
            apps[app.config.name] = app
            records_by_name[app.config.name] = record
        except WrongField as error:
            aside.append(Aside(record, _text_of(record, "name"), str(error)))
    while cycle := find_cycle({name: app.config.depends_on for name, app in apps.items()}):
        # They would wait for each other for ever; without one of them the others need not.
        reason = f"config.depends_on contains a cycle: {' -> '.join(cycle)}"
        aside.append(Aside(records_by_name[cycle[0]], cycle[0], reason))
        del apps[cycle[0]]
    unknown = {key: value for key, value in content.items() if key not in _OURS}
    release, boot = _text(content, "release"), _text(content, "boot")
    init = content.get("init")
    return Saved(tuple(apps.values()), tuple(aside), release, boot, unknown, init if type(init) is int else 0)


def _text(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key)
    return value if isinstance(value, str) else ""


def _text_of(record: Any, key: str) -> str:
    """Of the config of an app whose record may be anything; empty where it has none."""
    config = record.get("config") if isinstance(record, Mapping) else None
    return _text(config, key) if isinstance(config, Mapping) else ""


def _read_app(record: Any, others: Mapping[str, SavedApp]) -> SavedApp:
    app: SavedApp = records.read(SavedApp, record)
    if app.config.name in others:
        raise WrongField("config.name", f"is {app.config.name!r}, as that of another app is")
    if not app.slots:
        raise WrongField("slots", "is empty")
    if [slot.number for slot in app.slots] != list(range(len(app.slots))):
        raise WrongField("slots", "is not numbered from 0 on")
    for slot in app.places:
        _check_slot(slot, app.config)
    taken = [worker.pid for other in (*others.values(), app) for worker in other.workers]
    for worker in app.workers:
        if taken.count(worker.pid) > 1:
            raise WrongField("pid", f"is {worker.pid}, as that of another worker is")
    return app


def _check_slot(slot: SavedSlot, config: AppConfig) -> None:
    where = f"slot {slot.number}"
    if (config.port_of(slot.number) or 0) > MOST_PORTS:
        raise WrongField("config.port", f"is {config.port}, which leaves none for {where}")
    if slot.end and slot.end.state not in OVER_FOR_GOOD:
        raise WrongField(f"{where}.end.state", f"is {slot.end.state.value!r}, which is no end")
    current = [worker for worker in slot.workers if worker.role is WorkerRole.CURRENT]
    if len(current) > 1 or len(slot.workers) > len(current) + 1:
        raise WrongField(f"{where}.workers", "has two of the same role")
    for worker in slot.workers:
        if worker.state not in HAS_PROCESS:
            raise WrongField(f"{where}.workers.state", f"is {worker.state.value!r}, in which nothing runs")
        if worker.config.name != config.name:
            raise WrongField(f"{where}.workers.config.name", f"is {worker.config.name!r}, another app's")
