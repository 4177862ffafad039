"""What a supervisor leaves to the next one: the state on disk, the sockets in the descriptor store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from percore.common.typing import Any
from percore.errors import PercoreError, UsageError
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.supervisor.base.loop import Loop
from percore.supervisor.core.app import App
from percore.supervisor.core.apps import Apps, settle_names
from percore.supervisor.core.jobs import Outcome
from percore.supervisor.core.operations import start_slots
from percore.supervisor.core.slot import Slot
from percore.supervisor.core.worker.record import record_of_end, record_of_process
from percore.supervisor.state.fd_store import FdStore, StoreEntry, name_of
from percore.supervisor.state.saved import SET_ASIDE, read_saved
from percore.supervisor.state.state_file import StateFile

_SAVE_AGAIN_SECONDS = 5.0


class Persistence:
    def __init__(self, loop: Loop, home: Home, state: StateFile, store: FdStore) -> None:
        self.store = store
        self.apps = Apps(home)
        self._loop = loop
        self.home = home
        self._state = state
        self._saved: dict[str, Any] = {}  # what the state file says
        self._saves_later = False
        self._has_home = True

    def save(self) -> None:
        content = record_of(self.apps)
        if content == self._saved or not self._has_home:
            return
        try:
            self._state.save(content)
            self._saved = content
        except OSError as error:
            if not self._saves_later:
                log(f"{self.home.state} could not be written ({error.strerror}); the last one stands")
                self._saves_later = True
                self._loop.later(_SAVE_AGAIN_SECONDS, self._save_again)

    def _save_again(self) -> None:
        self._saves_later = False
        self.save()

    def save_anew(self) -> None:
        """The home was deleted and is there again, empty."""
        self._state.forget()
        self._saved = {}
        self.save()

    def give_up(self) -> None:
        """Another supervisor has the home: nothing more is written there."""
        self._has_home = False

    def fill_store(self) -> None:
        try:
            self.store.put({**self.apps.aside.entries, **entries_of(self.apps.values())})
        except OSError as error:
            log(f"sockets could not be put into the store ({error.strerror}); they end with this supervisor")


def record_of(apps: Apps) -> dict[str, Any]:
    """What the state file says."""
    content = {**apps.unknown, "release": apps.release, "apps": [_record_of_app(app) for app in apps.values()]}
    return {**content, SET_ASIDE: apps.aside.records} if apps.aside.records else content


def _record_of_app(app: App) -> dict[str, Any]:
    return {
        **app.unknown,
        "config": app.config.to_record(),
        "base_env": app.base_env,
        "wanted": app.wanted,
        "counts": dict(app.runtime.counts.of(app.name)),
        "slots": [_record_of_slot(slot) for slot in app.slots],
        "leaving": [_record_of_slot(slot) for slot in app.leaving if not slot.is_down],
    }


def _record_of_slot(slot: Slot) -> dict[str, Any]:
    workers = [record_of_process(worker) for worker in slot.workers if worker.child.process]
    record = {**slot.unknown, "number": slot.number, "id": slot.id, "wanted": slot.wanted, "workers": workers}
    end = record_of_end(slot.worker)
    return {**record, "end": end} if end else record


def entries_of(apps: Iterable[App]) -> dict[str, list[int]]:
    """What the store is to hold: by app and address its listening sockets, by token a worker's channel."""
    entries: dict[str, list[int]] = {}
    for app in apps:
        for address, listener in app.listeners.items():
            name = name_of(StoreEntry(app.name, address, tuple(listener.order)))
            entries[name] = [sock.fileno() for sock in listener.sockets]
        for worker in app.workers:
            # Node's end of a channel whose other end closes makes the next process.send() throw.
            process = worker.child.process
            if process and process.channel:
                entries[name_of(StoreEntry(worker.child.token))] = [process.channel.fileno()]
    return entries


# -- what `percore save` writes down, and `percore resurrect` starts ------------------------------------------------------


def dump(apps: Apps, path: str, *, force: bool) -> int:
    """Writes down what is wanted now; returns the number of apps."""
    if not apps and not force:
        raise PercoreError("there is no app to save", next="percore save --force, or percore cleardump")
    file = StateFile(path)
    with contextlib.suppress(OSError, ValueError):
        file.read()  # what it names stays readable as the one before
    try:
        file.save(_wanted_of(apps))
    except OSError as error:
        raise PercoreError(f"it could not be written: {error.strerror}", where=path) from None
    return len(apps)


def _wanted_of(apps: Apps) -> dict[str, Any]:
    """What should run, without what runs: it can be started at any time."""
    content = record_of(apps)
    for app in content["apps"]:
        app["slots"] = [{**slot, "workers": [], "end": None} for slot in app["slots"]]
        app["leaving"] = []
    return content


def resurrect(apps: Apps, path: str) -> Outcome:
    """Starts the apps saved in this file that are not known any more."""
    content, problem = StateFile(path).load()
    if content is None:
        raise PercoreError(problem or "nothing was saved", where=path, next="percore save")
    saved = read_saved(content)
    for line in filter(None, (problem, *(f"'{app.name}' was saved, but {app.reason}" for app in saved.aside))):
        log(line)
    from percore.supervisor.core import recovery

    named = zip(saved.apps, settle_names(apps, [app.config for app in saved.apps], replaces=True))
    missing = [app._replace(config=config) for app, config in named if config.name not in apps]
    added = [recovery.add(apps, app) for app in missing]
    yield from start_slots(apps, [(app, [slot for slot in app.slots if slot.wanted]) for app in added])
    if saved.aside:
        app = saved.aside[0]
        raise UsageError(f"'{app.name}' cannot be started: {app.reason}; the others were", where=path)
    return {"apps": [app.name for app in added]}
